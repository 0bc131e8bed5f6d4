"""MNIST, Fashion-MNIST and CIFAR-10 as datasets, read from a folder or downloaded.

Beside module 08, dataloader. Images stay bytes in memory (MNIST 47 MB, CIFAR-10 154 MB); a fetched batch is float32 in
[0, 1]. Augmentation is up to the loader (`transform`).
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Union

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError, FileError, ShapeError
from tt_core.engine.files import make_folder, write_atomic
from tt_data.command.pictures import contact_sheet
from tt_data.dataloader.dataset import Dataset
from tt_data.dataloader.indices import Indices, as_array
from tt_data.datasets import cifar
from tt_data.datasets.download import Remote, cache_home, fetch, find, obtain
from tt_learn.command.idx import read_idx

if TYPE_CHECKING:
    from tt_core import Tensor
    from tt_core.engine.protocols import Array

Root = Union[str, "os.PathLike[str]", None]


class ImageDataset(Dataset):
    """Labelled images in memory: `images` (N, C, H, W) of bytes and `targets` (N,) of integers.

    A sample is (image, label): float32 in [0, 1] and int64. Raises `DTypeError` and `ShapeError` for other arrays. For
    images that are already floats, use `TensorDataset`.

    >>> image, label = ImageDataset(np.full((2, 1, 1, 1), 255, np.uint8), np.array([3, 7]))[1]
    >>> image, label
    (array([[[1.]]], dtype=float32), np.int64(7))
    """

    classes: ClassVar[tuple[str, ...]] = ()

    @checked
    def __init__(self, images: Tensor | Array, targets: Tensor | Array) -> None:
        images, targets = as_array(images), as_array(targets)
        name = type(self).__name__
        if images.dtype != np.uint8 or targets.dtype.kind not in "iu":
            raise DTypeError(
                f"{name}: images must be uint8, and targets integers; got {images.dtype} and {targets.dtype}"
            )
        if images.ndim != 4 or targets.shape != images.shape[:1]:
            raise ShapeError(f"{name}: expected (N, C, H, W) and (N,), got {images.shape} and {targets.shape}")
        self.images, self.targets = images, targets.astype(np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def _contents(self) -> str:
        return f": float32 {self.images.shape[1:]}, int64 ()"

    def _repr_html_(self) -> str:
        first = range(min(len(self), 16))
        return contact_sheet(repr(self), self.images[first], [_label(self.classes, self.targets[i]) for i in first])

    def __getitems__(self, indices: Indices) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        return np.divide(self.images[indices], np.float32(255), dtype=np.float32), self.targets[indices]


def _refuse_transform(name: str, transform: object) -> None:
    """Raises `ArgumentError` for a transform, which torchvision's datasets take."""
    if transform is not None:
        raise ArgumentError(
            f"{name}: takes no transform; images are float32 between 0 and 1, and "
            f"DataLoader(dataset, transform=...) transforms whole batches"
        )


def _label(classes: Sequence[str], target: int) -> str:
    return classes[target] if 0 <= target < len(classes) else str(target)


class MNIST(ImageDataset):
    """Handwritten digits: 60,000 for training and 10,000 for testing (LeCun, Bottou, Bengio and Haffner 1998).

    Images are (1, 28, 28). `root` is a folder with a folder `mnist/`, by default `TT_DATA_HOME` or the user's cache.
    Missing files are downloaded to the cache if `download`. Raises `FileError` for missing or damaged files,
    `DownloadError` without a network.
    """

    classes = tuple("0123456789")
    folder: ClassVar[str] = "mnist"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    files: ClassVar[dict[str, str]] = {  # name: sha256
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }

    @checked
    def __init__(self, root: Root = None, train: bool = True, download: bool = True, transform: None = None) -> None:
        _refuse_transform(type(self).__name__, transform)
        names = [name for name in self.files if name.startswith("train" if train else "t10k")]
        unpacked = [name.removesuffix(".gz") for name in names]
        folder = find(self.folder, unpacked, root)  # unpacked files are accepted too
        if folder is None:
            folder = obtain(self.folder, [Remote(n, self.files[n], self.mirrors) for n in names], root, download)
            unpacked = names
        super().__init__(*read_labelled_idx(folder / unpacked[0], folder / unpacked[1]))


class FashionMNIST(MNIST):
    """Articles of clothing in the format of `MNIST` (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747)."""

    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    folder = "fashion-mnist"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    files: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }


def read_labelled_idx(images: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (N, 1, H, W) and labels (N,) of two IDX files; raises `FileError` when they do not match."""
    x, y = read_idx(images), read_idx(labels)
    if x.dtype != np.uint8 or x.ndim != 3:
        raise FileError(f"{images}: has {x.dtype} of shape {x.shape}; expected bytes (images, height, width)")
    if y.dtype != np.uint8 or y.ndim != 1 or len(y) != len(x):
        raise FileError(f"{labels}: has {y.dtype} of shape {y.shape}; expected bytes, one for each of {len(x)} images")
    return x[:, None], y


class CIFAR10(ImageDataset):
    """Colour photographs of ten classes: 50,000 for training and 10,000 for testing (Krizhevsky 2009).

    Images are (3, 32, 32). `root` is a folder with a folder `cifar-10-batches-py/` or `cifar-10-batches-bin/`;
    otherwise as `MNIST`.
    """

    classes = cifar.CLASSES
    folder: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[Remote] = Remote(
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ("https://www.cs.toronto.edu/~kriz/",),
    )

    @checked
    def __init__(self, root: Root = None, train: bool = True, download: bool = True, transform: None = None) -> None:
        _refuse_transform(type(self).__name__, transform)
        names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
        binary = [f"{name}.bin" for name in names]
        folder = find("cifar-10-batches-bin", binary, root)
        if folder is not None:
            parts = [cifar.read_cifar_binary(folder / name) for name in binary]
        else:
            folder = self._obtain(names, root, download)
            parts = [cifar.read_cifar_batch(folder / name) for name in names]
        super().__init__(*(np.concatenate(column) for column in zip(*parts)))

    def _obtain(self, names: list[str], root: Root, download: bool) -> Path:
        found = find(self.folder, names, root) or find(self.folder, names, None)
        if found is not None:
            return found
        if not download:
            obtain(
                self.folder, [Remote(name, "", ()) for name in names], root, download=False
            )  # raises an error with the folder
        archive = fetch(self.archive, cache_home())
        extract(archive, self.folder, cache_home() / self.folder)
        archive.unlink()
        return cache_home() / self.folder


def extract(archive: Path, member_folder: str, target: Path, max_bytes: int = 1 << 26) -> None:
    """Writes the regular files in `member_folder` of a .tar.gz to `target`, each completely or not at all.

    Only names directly in that folder are extracted, so an archive cannot write elsewhere. Raises `FileError` for a
    damaged archive and for a file of more than `max_bytes`.
    """
    make_folder(target)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if member.isfile() and folder == member_folder and name not in ("", ".", ".."):
                    if member.size > max_bytes:
                        raise FileError(
                            f"{archive}: {member.name} has {member.size:,} bytes, expected at most {max_bytes:,}"
                        )
                    file = tar.extractfile(member)
                    write_atomic(target / name, file.read() if file else b"")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{archive}: is a damaged archive ({error})") from None
