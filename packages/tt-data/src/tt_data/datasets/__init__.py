"""Datasets: MNIST, Fashion-MNIST, CIFAR-10 and text from files or the network, and generated images."""

from __future__ import annotations

from tt_data.datasets.cifar import read_cifar_batch, read_cifar_binary
from tt_data.datasets.download import DownloadError
from tt_data.datasets.generated import GeneratedDigits, GeneratedShapes
from tt_data.datasets.images import CIFAR10, MNIST, FashionMNIST, ImageDataset
from tt_data.datasets.text import Text
from tt_learn.command.idx import read_idx

__all__ = [
    "CIFAR10",
    "MNIST",
    "DownloadError",
    "FashionMNIST",
    "GeneratedDigits",
    "GeneratedShapes",
    "ImageDataset",
    "Text",
    "read_cifar_batch",
    "read_cifar_binary",
    "read_idx",
]
