"""Datasets larger than memory: arrays mapped from .npy files (`memmap`), and folders of shards with checksums.

A folder is read by `shards`, written by `writing` and described by `index`. Part of module 08, dataloader.
"""

from __future__ import annotations

from tt_data.dataloader.storage.index import INDEX as INDEX
from tt_data.dataloader.storage.index import Field as Field
from tt_data.dataloader.storage.index import Fields as Fields
from tt_data.dataloader.storage.index import Shard as Shard
from tt_data.dataloader.storage.memmap import MemmapDataset as MemmapDataset
from tt_data.dataloader.storage.shards import ShardedDataset as ShardedDataset
from tt_data.dataloader.storage.writing import write_shards as write_shards
