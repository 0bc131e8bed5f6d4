"""Act III in the command `tt`: its rows of the journey, its milestone and `tt data`.

Every start of `tt` imports this file, so it imports the parts that need NumPy only when a command runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tt_core.command.common import PathOption, examples
from tt_core.command.journey import Milestone, Module, deferred
from tt_core.engine.errors import FileError
from tt_core.engine.files import in_order
from tt_core.engine.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tt_core.samples import Samples

_DATASETS = (
    ("MNIST", "mnist", "60,000 + 10,000 handwritten digits, 1x28x28"),
    ("FashionMNIST", "fashion-mnist", "60,000 + 10,000 articles of clothing, 1x28x28"),
    ("CIFAR10", "cifar-10-batches-py", "50,000 + 10,000 colour photographs, 3x32x32"),
    ("Text", "tinyshakespeare", "1.1 MB of Shakespeare, or any text file"),
)
_GENERATED = (
    ("GeneratedDigits", "digits drawn with strokes, 1x28x28, any number"),
    ("GeneratedShapes", "coloured shapes, 3x32x32, any number"),
)


class Act:
    """The answers of Act III to the hooks."""

    @hookimpl
    def tt_modules(self) -> Iterable[Module]:
        return (
            Module(
                8,
                "dataloader",
                3,
                "load data",
                "tt_data.dataloader",
                "datasets, samplers, batches, streams larger than memory",
                "the data pipeline is often the slowest part of a training",
                "MNIST fits in memory; the next data sets do not",
            ),
            Module(
                9,
                "spatial",
                3,
                "process images",
                "tt_data.spatial",
                "convolution, pooling, batch normalization",
                "sharing weights over places takes a hundredth of the parameters of a dense layer",
                "pixels have neighbours, and a Linear layer does not know it",
            ),
        )

    @hookimpl
    def tt_milestones(self) -> Iterable[Milestone]:
        title = "Convolutional networks read digits (LeNet-5) and classify photographs"
        takes = (
            "trains LeNet-5 on MNIST (2 minutes) and a small network on CIFAR-10 (6 minutes): 8 minutes on two cores"
        )
        return (Milestone("cnn", 1998, title, 3, deferred("tt_data.command.milestones:cnn"), takes),)

    @hookimpl
    def tt_samples(self) -> dict[str, Samples]:
        from tt_data.samples import SAMPLES

        return SAMPLES

    @hookimpl
    def tt_dataset(self, name: str, data_dir: Path | None) -> Any:
        return deferred("tt_data.command.milestones:dataset_arrays")(name, data_dir)

    @hookimpl
    def tt_commands(self, cli: click.Group) -> None:
        cli.add_command(data)


plugin = Act()


@click.group(epilog=examples("tt data list", "tt data shard book.txt --out shards"))
def data() -> None:
    """List the datasets, and write one larger than memory."""


@data.command("list", epilog=examples("tt data list", "tt data list --data-dir data"))
@click.option(
    "--data-dir",
    type=PathOption(),
    help="folder of datasets [default: $TT_DATA_HOME, else the cache]",
)
def list_datasets(data_dir: Path | None) -> None:
    """List the datasets and their folders."""
    from tt_data.datasets.download import cache_home

    if data_dir is not None and not os.path.isdir(data_dir):
        raise FileError(f"--data-dir {data_dir}: no such folder")
    home = data_dir or cache_home()
    click.echo(f"in {home}")
    for name, folder, what in _DATASETS:
        files = (home / folder).glob("[!.]*")  # an interrupted download leaves none, or hidden files
        state = "found" if any(file.is_file() for file in files) else "not here"
        click.echo(f"  {name:16} {folder + '/':22} {state:9} {what}")
    click.echo("generated, no file needed")
    for name, what in _GENERATED:
        click.echo(f"  {name:16} {what}")


@data.command(epilog=examples("tt data shard book.txt --out shards", "tt data shard data/mnist --out shards"))
@click.argument("source", type=PathOption())
@click.option("--out", required=True, type=PathOption(), help="folder for the shards; must not have any yet")
@click.option(
    "--shard-mb", default=64, show_default=True, type=click.IntRange(1, 1 << 20), help="size of a shard in MB"
)
@click.option(
    "--block-size", default=256, show_default=True, type=click.IntRange(1, 1 << 30), help="bytes in a sample of text"
)
def shard(source: Path, out: Path, shard_mb: int, block_size: int) -> None:
    """Write SOURCE as a folder of shards that ShardedDataset reads.

    SOURCE is a folder with the files of MNIST or CIFAR-10, an IDX or CIFAR-10 file, a .npy file or a folder of them
    (one for each field), or a text file.
    """
    from tt_data.dataloader.storage import ShardedDataset, write_shards

    fields, batches = open_source(source, block_size)
    write_shards(out, batches, fields, shard_mb << 20)
    written = ShardedDataset(out)
    size = sum(n for s in written.shards for _, n, _ in s.files)
    click.echo(f"{out}: {len(written):,} samples in {len(written.shards)} shards, {size / 1e6:,.1f} MB")
    click.echo("  " + ", ".join(f"{field.name} {field.dtype} {field.shape}" for field in written.fields))


def open_source(source: Path, block_size: int) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
    """The fields of a source, and its samples in batches; raises `FileError` for an unknown format."""
    if not os.path.exists(source):
        raise FileError(f"{source}: no such file or folder")
    if os.path.isdir(source):
        return _open_folder(source)
    if source.suffix == ".npy":
        return _open_arrays([source])
    if "idx" in source.name and "ubyte" in source.name:
        from tt_learn.command.idx import read_idx

        return ["value"], iter([(read_idx(source),)])
    if source.name.endswith("_batch") or source.name.startswith("data_batch") or source.suffix == ".bin":
        return ["image", "label"], _cifar_batches([source])
    return ["text"], _text_batches(source, block_size)


def _open_folder(folder: Path) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
    arrays = in_order(folder.glob("*.npy"))
    if arrays:
        return _open_arrays(arrays)
    cifar = in_order(folder.glob("data_batch_*"))
    if cifar:
        return ["image", "label"], _cifar_batches(cifar)
    for images in in_order(folder.glob("train-images-idx3-ubyte*")):
        from tt_data.datasets.images import read_labelled_idx

        labels = images.with_name(images.name.replace("images-idx3", "labels-idx1"))
        return ["image", "label"], iter([read_labelled_idx(images, labels)])
    raise FileError(
        f"{folder}: has no .npy files and no files of MNIST (train-images-idx3-...) or CIFAR-10 (data_batch_1)"
    )


def _open_arrays(files: list[Path], rows: int = 1024) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
    import numpy as np

    from tt_data.dataloader.storage import MemmapDataset

    dataset = MemmapDataset(*files)
    starts = range(0, len(dataset), rows)
    batches = (dataset.__getitems__(np.arange(start, min(start + rows, len(dataset)))) for start in starts)
    return [path.stem for path in files], batches


def _cifar_batches(files: list[Path]) -> Iterator[tuple[Any, ...]]:
    from tt_data.datasets.cifar import read_cifar_batch, read_cifar_binary

    for path in files:
        yield read_cifar_binary(path) if path.suffix == ".bin" else read_cifar_batch(path)


def _text_batches(path: Path, block_size: int, most: int = 1 << 24) -> Iterator[tuple[Any, ...]]:
    """Whole blocks of bytes (n, block_size); a shorter block at the end is dropped."""
    import numpy as np

    from tt_data.datasets.reading import reading

    with reading(path):
        file = open(path, "rb")  # noqa: SIM115  (closed below)
    with file:
        while chunk := file.read(block_size * max(1, most // block_size)):
            whole = len(chunk) // block_size * block_size
            if whole:
                yield (np.frombuffer(chunk[:whole], np.uint8).reshape(-1, block_size),)
