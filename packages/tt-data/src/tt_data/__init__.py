"""Act III, Data & Scale: data loaders, datasets, convolutions and pooling."""

from __future__ import annotations

from tt_data import datasets as datasets
from tt_data import transforms as transforms
from tt_data.__about__ import __version__ as __version__
from tt_data.dataloader import BatchSampler as BatchSampler
from tt_data.dataloader import BlockShuffleSampler as BlockShuffleSampler
from tt_data.dataloader import ConcatDataset as ConcatDataset
from tt_data.dataloader import DataLoader as DataLoader
from tt_data.dataloader import Dataset as Dataset
from tt_data.dataloader import IterableDataset as IterableDataset
from tt_data.dataloader import MemmapDataset as MemmapDataset
from tt_data.dataloader import RandomSampler as RandomSampler
from tt_data.dataloader import Sampler as Sampler
from tt_data.dataloader import SequentialSampler as SequentialSampler
from tt_data.dataloader import ShardedDataset as ShardedDataset
from tt_data.dataloader import Subset as Subset
from tt_data.dataloader import SubsetRandomSampler as SubsetRandomSampler
from tt_data.dataloader import TensorDataset as TensorDataset
from tt_data.dataloader import WeightedRandomSampler as WeightedRandomSampler
from tt_data.dataloader import WorkerError as WorkerError
from tt_data.dataloader import default_collate as default_collate
from tt_data.dataloader import random_split as random_split
from tt_data.dataloader import write_shards as write_shards
from tt_data.datasets import CIFAR10 as CIFAR10
from tt_data.datasets import MNIST as MNIST
from tt_data.datasets import DownloadError as DownloadError
from tt_data.datasets import FashionMNIST as FashionMNIST
from tt_data.datasets import GeneratedDigits as GeneratedDigits
from tt_data.datasets import GeneratedShapes as GeneratedShapes
from tt_data.datasets import ImageDataset as ImageDataset
from tt_data.datasets import Text as Text
