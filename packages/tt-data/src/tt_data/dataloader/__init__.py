"""Module 08, dataloader: batches in order, shuffled, prepared ahead, and resumable in the middle of an epoch.

Read `dataset`, `samplers`, `collate`, `loader` and `epoch`. `seeding` gives each batch its own random numbers. `base`,
`stacking` and `splitting` complete them; `indices` and `checks` validate arguments. `storage/` has datasets larger than
memory, `workers/` the threads and processes.
"""

from __future__ import annotations

from tt_data.dataloader.checks import check_batch_size as check_batch_size
from tt_data.dataloader.checks import check_generator as check_generator
from tt_data.dataloader.collate import default_collate as default_collate
from tt_data.dataloader.collate import map_leaves as map_leaves
from tt_data.dataloader.collate import rebuild as rebuild
from tt_data.dataloader.collate import to_arrays as to_arrays
from tt_data.dataloader.collate import to_tensors as to_tensors
from tt_data.dataloader.dataset import ConcatDataset as ConcatDataset
from tt_data.dataloader.dataset import Dataset as Dataset
from tt_data.dataloader.dataset import IterableDataset as IterableDataset
from tt_data.dataloader.dataset import TensorDataset as TensorDataset
from tt_data.dataloader.dataset import fetch as fetch
from tt_data.dataloader.dataset import fetch_batch as fetch_batch
from tt_data.dataloader.indices import Indices as Indices
from tt_data.dataloader.indices import as_array as as_array
from tt_data.dataloader.indices import as_indices as as_indices
from tt_data.dataloader.indices import as_integers as as_integers
from tt_data.dataloader.indices import wrap_index as wrap_index
from tt_data.dataloader.loader import DataLoader as DataLoader
from tt_data.dataloader.samplers import BatchSampler as BatchSampler
from tt_data.dataloader.samplers import BlockShuffleSampler as BlockShuffleSampler
from tt_data.dataloader.samplers import RandomSampler as RandomSampler
from tt_data.dataloader.samplers import Sampler as Sampler
from tt_data.dataloader.samplers import SequentialSampler as SequentialSampler
from tt_data.dataloader.samplers import SubsetRandomSampler as SubsetRandomSampler
from tt_data.dataloader.samplers import WeightedRandomSampler as WeightedRandomSampler
from tt_data.dataloader.seeding import ORDER as ORDER
from tt_data.dataloader.seeding import draw_seed as draw_seed
from tt_data.dataloader.seeding import stream as stream
from tt_data.dataloader.splitting import Subset as Subset
from tt_data.dataloader.splitting import random_split as random_split
from tt_data.dataloader.storage import INDEX as INDEX
from tt_data.dataloader.storage import Field as Field
from tt_data.dataloader.storage import Fields as Fields
from tt_data.dataloader.storage import MemmapDataset as MemmapDataset
from tt_data.dataloader.storage import Shard as Shard
from tt_data.dataloader.storage import ShardedDataset as ShardedDataset
from tt_data.dataloader.storage import write_shards as write_shards
from tt_data.dataloader.workers.fetch import WorkerInfo as WorkerInfo
from tt_data.dataloader.workers.fetch import get_worker_info as get_worker_info
from tt_data.dataloader.workers.global_state import GlobalState as GlobalState
from tt_data.dataloader.workers.global_state import seed_globals as seed_globals
from tt_data.dataloader.workers.pools import WorkerError as WorkerError
