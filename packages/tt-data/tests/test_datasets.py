"""Readers of MNIST's, CIFAR-10's and text files, and the generated datasets."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import cifar_pickle, digits, idx, photographs, write_cifar, write_mnist

from tt_core.engine.errors import ArgumentError, DTypeError, FileError, OutOfRangeError, ShapeError
from tt_data import (
    CIFAR10,
    MNIST,
    DataLoader,
    FashionMNIST,
    GeneratedDigits,
    GeneratedShapes,
    ImageDataset,
    Text,
    transforms,
)
from tt_data.datasets import read_cifar_batch, read_cifar_binary, read_idx
from tt_data.datasets.cifar import read_pickled

REAL = Path(os.environ.get("TT_REAL_DATA", "/nonexistent"))


# --- IDX ---


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_of_every_type(tmp_path, dtype, shape, zipped):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    path = tmp_path / ("a.gz" if zipped else "a")
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    back = read_idx(path)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype  # in this machine's byte order


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "no IDX"),
        (b"PK\x03\x04" + bytes(100), r"no IDX file .*50 4b 03 04"),
        (b"\0\0\x07\x01\0\0\0\x01x", "no IDX"),
        (b"\0\0\x08\x00", "no IDX"),
        (b"\0\0\x08\x03\0\0\0\x02", "within its header"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"x", "255 dimensions"),
        (idx(digits(3)[0])[:-1], "cut short"),
        (idx(digits(3)[0])[:99], "promises 2,352 bytes"),
        (idx(digits(3)[0]) + b"x", "goes on after"),
        (b"\0\0\x0e\x04" + b"\xff" * 16 + bytes(64), "at most"),
    ],
)
def test_damaged_idx_files_are_one_line(tmp_path, content, error):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(FileError, match=error) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(idx(digits(9)[0]), mtime=0)[:-20],
        gzip.compress(idx(digits(9)[0]), mtime=0)[:5],
        b"no gzip",
        b"",
        gzip.compress(idx(digits(9)[0]), mtime=0)[:-8] + b"\0" * 8,
        gzip.compress(idx(digits(9)[0])[:-50], mtime=0),
        gzip.compress(idx(digits(9)[0]) + b"x", mtime=0),
    ],
)
def test_damaged_gzip_files_are_one_line(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"images.gz") as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    bomb = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes(5) + bytes(200_000_000), 9)
    path.write_bytes(bomb)
    with pytest.raises(FileError, match="goes on after its 5 bytes"):
        read_idx(path)
    honest = b"\0\0\x08\x01" + struct.pack(">I", 200_000_000) + bytes(200_000_000)
    path.write_bytes(gzip.compress(honest, 9))
    with pytest.raises(FileError, match="can hold at most 1,000,000"):
        read_idx(path, max_bytes=1_000_000)
    path.write_bytes(gzip.compress(b"\0\0\x08\x02" + b"\xff" * 8 + b"x"))
    with pytest.raises(FileError, match="promises 18,446,744,065,119,617,025 bytes"):
        read_idx(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_idx(tmp_path / "missing")
    with pytest.raises(FileError, match="cannot be read"):
        read_idx(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        read_cifar_batch(tmp_path / "missing")


# --- MNIST ---


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_mnist_is_read_from_a_data_home(tmp_path, unpacked, train):
    write_mnist(tmp_path / "mnist", unpacked=unpacked)
    images, labels = digits(12, 0 if train else 1)
    for root in (tmp_path, tmp_path / "mnist"):
        data = MNIST(root, train=train, download=False)
        x, y = data.__getitems__(np.arange(12))
        assert x.shape == (12, 1, 28, 28)
        assert x.dtype == np.float32
        assert (x[:, 0] == images.astype(np.float32) / 255).all()
        assert (y == labels).all()
        assert y.dtype == np.int64
        assert (data[-1][0] == x[-1]).all()
        with pytest.raises(OutOfRangeError, match="MNIST: index 12"):
            data[12]


def test_the_data_home_variable_is_read(tmp_path, monkeypatch):
    write_mnist(tmp_path / "fashion-mnist")
    monkeypatch.setenv("TT_DATA_HOME", str(tmp_path))
    data = FashionMNIST(download=False)
    assert len(data) == 12
    assert data.classes[9] == "Ankle boot"


def test_missing_files_are_one_line_that_helps(tmp_path):
    for make in (MNIST, FashionMNIST, CIFAR10):
        with pytest.raises(FileError, match="TT_DATA_HOME") as caught:
            make(tmp_path, download=False)
        assert "\n" not in str(caught.value)
        assert make.folder in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "error"),
    [
        (digits(5)[0], digits(6)[1], r"labels-idx1-ubyte.gz: .*\(6,\).*5 images"),
        (digits(5)[0][0], digits(5)[1], r"images-idx3-ubyte.gz: .*\(28, 28\)"),
        (digits(5)[0].astype("f4"), digits(5)[1], "float32"),
        (digits(5)[0], digits(5)[1][:, None], r"\(5, 1\)"),
    ],
)
def test_labels_and_images_that_do_not_match(tmp_path, images, labels, error):
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(FileError, match=error) as caught:
        MNIST(tmp_path, download=False)
    assert "\n" not in str(caught.value)


# --- CIFAR-10 ---


def test_cifar_is_read_from_its_pickles_and_its_binaries(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    data = CIFAR10(tmp_path, download=False)
    assert data.images.shape == (20, 3, 32, 32)
    raw, labels = photographs(4, 4)
    assert (data.images[16:] == raw.reshape(4, 3, 32, 32)).all()
    assert data.targets[16:].tolist() == labels
    assert len(CIFAR10(tmp_path, train=False, download=False)) == 4

    binary = tmp_path / "other" / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    for i in range(1, 6):
        raw, labels = photographs(4, i - 1)
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], raw], 1)
        (binary / f"data_batch_{i}.bin").write_bytes(rows.tobytes())
    same = CIFAR10(tmp_path / "other", download=False)
    assert (same.images == data.images).all()
    assert (same.targets == data.targets).all()


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/tinytorch-was-here",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content", [Evil(), {b"data": Evil()}, {b"labels": compile}, {b"data": np.random.default_rng()}]
)
def test_no_pickle_runs_code(tmp_path, protocol, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(FileError, match=r"data_batch_1.*not allowed") as caught:
        read_cifar_batch(path)
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/tinytorch-was-here").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cposix\nsystem\n(S'id'\ntR.",
        b"\x80\x02cbuiltins\neval\nU\x011\x85R.",
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\n.",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2**31 places
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a bytearray of a terabyte
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"\x80\x02\x82\x01.",  # the extension registry
        b"\x80\x02Q.",  # a persistent id
        b"(i__builtin__\neval\n.",
        b"\x80\x02]]]]].",
        b"\x80\x02.",
        b"",
        b"\xff" * 100,
    ],
)
def test_programs_that_are_no_data(tmp_path, program):
    path = tmp_path / "data_batch_1"
    path.write_bytes(program)
    with pytest.raises(FileError, match="data_batch_1") as caught:
        read_cifar_batch(path)
    assert "\n" not in str(caught.value)


def cifar_with(old: bytes, new: bytes) -> bytes:
    content = cifar_pickle(*photographs(2))
    assert old in content
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (cifar_pickle(*photographs(2))[:-3000], "damaged"),
        (cifar_pickle(photographs(2)[0], [1]), "2 images and 1 labels"),
        (cifar_pickle(photographs(2)[0], [1, 10]), r"labels outside 0 ... 9"),
        (cifar_pickle(photographs(2)[0][:, :100], [1, 2]), "3072"),
        (cifar_with(b"U\x02u1", b"U\x02O8"), "dtype 'O8' is not allowed"),
        (cifar_with(b"U\x02u1", b"U\x02f8"), "damaged|3072"),
        (cifar_with(b"J\x02\0\0\0J", b"J\xff\xff\xff\x7fJ"), "damaged"),
        (cifar_with(b"labels", b"lavels"), "2 images and no labels"),
        (pickle.dumps([1, 2], 2), "a list, not a dict"),
    ],
)
def test_damaged_cifar_batches_are_one_line(tmp_path, content, error):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(FileError, match=error) as caught:
        read_cifar_batch(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error"), [(b"", "0 bytes"), (bytes(3072), "3072 bytes"), (b"\x0b" + bytes(3072), "label 11")]
)
def test_damaged_cifar_binaries_are_one_line(tmp_path, content, error):
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(FileError, match=error):
        read_cifar_binary(tmp_path / "test_batch.bin")


def test_an_oversized_cifar_file_is_not_read(tmp_path):
    path = tmp_path / "data_batch_1"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    for read in (read_cifar_batch, read_cifar_binary):
        with pytest.raises(FileError, match="1,099,511,627,776 bytes"):
            read(path)


def test_arrays_in_fortran_order_and_other_types_are_read(tmp_path):
    """What NumPy itself writes today with the instructions that are admitted."""
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    path = tmp_path / "meta"
    content = b"\x80\x02}(U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content += b"(K\x01K\x02K\x03\x86"
    content += b"cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88U\x18"
    path.write_bytes(content + array.tobytes("F") + b"tbu.")
    np.testing.assert_array_equal(read_pickled(path)[b"a"], array)


# --- text ---


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(bytes(range(50)))
    return path


@pytest.mark.parametrize("stride", [None, 1, 3])
@pytest.mark.parametrize("block_size", [1, 7, 49])
def test_text_windows_and_their_targets(corpus, block_size, stride):
    data = Text(corpus, block_size, stride=stride)
    step = stride or block_size
    starts = list(range(0, 50 - block_size, step))
    assert len(data) == len(starts)
    x, y = data.__getitems__(np.arange(len(data)))
    assert x.dtype == np.int64
    for i, start in enumerate(starts):
        assert x[i].tolist() == list(range(start, start + block_size))
        assert y[i].tolist() == list(range(start + 1, start + block_size + 1))


def test_text_with_an_encoder(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("äöüäöü", encoding="utf-8")
    x, y = Text(path, 2, encode=lambda text: ["äöü".index(c) for c in text])[0]
    assert x.tolist() == [0, 1]
    assert y.tolist() == [1, 2]


def test_text_in_workers(corpus):
    with DataLoader(Text(corpus, 5), batch_size=3, num_workers=2) as loader:
        assert [x.tolist()[0][0] for x, _ in loader] == [0, 15, 30]


def test_text_that_does_not_do(tmp_path, corpus):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    for make, error in [
        (lambda: Text(tmp_path / "missing.txt"), "missing.txt: no such file"),
        (lambda: Text(tmp_path / "missing.txt", encode=list), "missing.txt: no such file"),
        (lambda: Text(tmp_path / "empty.txt"), "empty.txt: has 0 symbols"),
        (lambda: Text(corpus, 50), "has 50 symbols, .*need 51"),
        (lambda: Text(tmp_path / "latin.txt", 2, encode=list), "latin.txt: is not UTF-8 .byte 3"),
        (lambda: Text(root=tmp_path, download=False), "input.txt"),
    ]:
        with pytest.raises(FileError, match=error) as caught:
            make()
        assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="block_size"):
        Text(corpus, 0)
    for encode in (list, lambda _: [0.5, 1.5, 2.5], lambda _: [[1, 2], [3, 4], [5, 6]], lambda _: [[1], [2, 3]]):
        with pytest.raises(DTypeError, match="Text: encode must return a flat sequence of integers"):
            Text(corpus, 2, encode=encode)


def test_a_text_cut_while_in_use_is_an_error_not_a_signal(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(b"abcd" * 50_000)
    data = Text(path, 1000)
    os.truncate(path, 10)
    with pytest.raises(FileError, match="truncated while in use"):
        data[len(data) - 1]


def test_own_images_are_bytes_with_a_label_each():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    assert len(ImageDataset(images, [1, 2, 3])) == 3
    with pytest.raises(DTypeError, match=r"images must be uint8, .* got float32"):
        ImageDataset(images.astype(np.float32), [1, 2, 3])
    with pytest.raises(DTypeError, match="targets integers; got uint8 and float64"):
        ImageDataset(images, [0.5, 1, 2])
    for wrong in ((images, [1, 2]), (images[:, 0], [1, 2, 3])):
        with pytest.raises(ShapeError, match=r"expected \(N, C, H, W\) and \(N,\), got"):
            ImageDataset(*wrong)


# --- generated ---


@pytest.mark.parametrize(("make", "shape"), [(GeneratedDigits, (1, 28, 28)), (GeneratedShapes, (3, 32, 32))])
def test_generated_samples_depend_on_seed_and_number_alone(make, shape):
    data = make(500, seed=3)
    x, y = data.__getitems__(np.arange(500))
    assert x.shape == (500, *shape)
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() <= 1
    assert set(y) == set(range(len(data.classes)))
    order = np.random.default_rng(0).permutation(500)[:40]
    again, labels = make(500, seed=3).__getitems__(order)
    np.testing.assert_allclose(again, x[order], atol=1e-6)
    assert (labels == y[order]).all()
    assert not (make(500, seed=4).__getitems__(order)[0] == again).all()
    assert (data[7][0] == x[7]).all()


@pytest.mark.parametrize(("make", "size", "floor"), [(GeneratedDigits, 28, 0.75), (GeneratedShapes, 32, 0.3)])
def test_generated_classes_can_be_told_apart(make, size, floor):
    """By nearest neighbour on the bare pixels, well above chance: the label belongs to the drawing."""
    x, y = make(1500, seed=1, noise=0).__getitems__(np.arange(1500))
    x = abs(x - x[..., :2, :2].mean((-1, -2), keepdims=True)).mean(1).reshape(1500, -1)  # shape without its colour
    train, test = x[:1300], x[1300:]
    distance = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    accuracy = (y[:1300][distance.argmin(1)] == y[1300:]).mean()
    assert accuracy > floor


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"count": 1, "size": 4}, {"count": 1, "seed": -1}, {"count": 1, "noise": -1}]
)
def test_generated_datasets_refuse_nonsense(arguments):
    for make in (GeneratedDigits, GeneratedShapes):
        with pytest.raises(ArgumentError, match=make.__name__):
            make(**arguments)


# --- fuzz ---


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        where = int(min(rng.integers(0, len(out) + 1), rng.integers(0, len(out) + 1)))  # more often near the header
        kind = rng.integers(0, 5)
        if kind == 0:
            out = out[:where]
        elif kind == 1 and where < len(out):
            out[where] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            out[where : where + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
        elif kind == 3:
            out[where:where] = rng.bytes(int(rng.integers(1, 9)))
        else:
            out[where : where + int(rng.integers(1, 9))] = b""
        if not out:
            break
    return bytes(out)


def fuzz(folder: Path, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = idx(digits(3)[0])
    sources = [
        ("images", images, read_idx),
        ("images.gz", gzip.compress(images), read_idx),
        ("deep.gz", images, read_idx),  # packed after the change, so that the checksum holds
        ("data_batch_1", cifar_pickle(*photographs(2)), read_cifar_batch),
        ("small_batch", cifar_pickle(np.zeros((1, 3072), np.uint8), [3])[:400], read_cifar_batch),
        ("test_batch.bin", bytes(2 * 3073), read_cifar_binary),
    ]
    for round_number in range(rounds):
        name, content, read = sources[round_number % len(sources)]
        changed = mutate(content, rng)
        (folder / name).write_bytes(gzip.compress(changed, 1) if name == "deep.gz" else changed)
        try:
            result = read(folder / name)
        except FileError as error:
            assert name in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            continue
        arrays = result if isinstance(result, tuple) else (result,)
        assert sum(array.nbytes for array in arrays) <= 8 * 1032 * len(changed) + 64


def test_readers_survive_damaged_files(tmp_path):
    fuzz(tmp_path, 600, seed=0)


@pytest.mark.fuzz
def test_readers_survive_100_000_damaged_files(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fuzz(tmp_path, 100_000, seed=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * (1 if zlib and os.name == "nt" else 1024)


# --- the real files, where they are ---


@pytest.mark.skipif(not REAL.is_dir(), reason="TT_REAL_DATA names no folder of the real datasets")
def test_the_real_datasets():
    digits_, photos = MNIST(REAL, download=False), CIFAR10(REAL, download=False)
    assert digits_.images.shape == (60_000, 1, 28, 28)
    assert np.bincount(digits_.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert photos.images.shape == (50_000, 3, 32, 32)
    assert np.bincount(photos.targets).tolist() == [5000] * 10


def test_a_transform_is_told_where_it_goes(tmp_path):
    write_mnist(tmp_path)
    for dataset in (MNIST, FashionMNIST, CIFAR10):
        with pytest.raises(ArgumentError, match=rf"{dataset.__name__}: takes no transform; .*DataLoader\(dataset"):
            dataset(tmp_path, transform=transforms.Normalize(0.5, 0.5))
    with pytest.raises(AttributeError, match="has no ToTensor: datasets give float32 images between 0 and 1"):
        transforms.ToTensor  # noqa: B018
