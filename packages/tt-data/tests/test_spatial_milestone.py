"""The milestone of 1998: it learns, it draws what it learned, and it claims nothing that it did not reach."""

from __future__ import annotations

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

import tt_core
from tt_core.command.journey import Shortfall
from tt_core.engine.errors import FileError, ShapeError
from tt_data import transforms
from tt_data.command import milestones, pictures
from tt_data.command.cli import plugin
from tt_data.datasets import DownloadError, GeneratedDigits, GeneratedShapes


def read_png(data: bytes) -> np.ndarray:
    """What `pictures.png` wrote, with every checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    width, height, bits, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert bits == 8
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width, 3) if colour == 2 else (height, width))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 2, 3)])
def test_a_png_holds_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert (read_png(pictures.png(pixels)) == pixels).all()


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2), np.uint8)])
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ShapeError, match="png: expected bytes"):
        pictures.png(pixels)


def test_pixels_go_from_black_to_white_in_each_image():
    x = np.array([[0.0, 1.0, 2.0], [-5.0, -5.0, -5.0]])[:, None, None]
    assert pictures.as_pixels(x).reshape(2, 3).tolist() == [[0, 128, 255], [0, 0, 0]]


def test_what_is_no_number_is_black_and_no_range_is_too_wide():
    x = np.array([[np.nan, 1, 2], [np.inf, -1, 0], [-3e38, 0, 3e38]], np.float32)
    assert pictures.as_pixels(x).tolist() == [[0, 0, 255], [0, 0, 255], [0, 128, 255]]
    assert pictures.as_pixels(np.array([[True, False]])).tolist() == [[255, 0]]
    with pytest.raises(ShapeError, match="expected images with pixels"):
        pictures.as_pixels(np.zeros((2, 0, 3)))


def drawn_digits(count=1000, real=False):
    train, test = GeneratedDigits(count, 0), GeneratedDigits(200, 1)
    return milestones._Found("drawn pictures", real, train, test, GeneratedDigits.classes)


def test_a_network_learns_drawn_digits_and_its_picture_shows_what_was_measured(tmp_path, capsys):
    normalize = transforms.Normalize(0.13, 0.31)
    recipe = milestones.Recipe(epochs=3, max_lr=0.05, batch_size=25)
    reached = milestones._train("LeNet-5", milestones.lenet5, drawn_digits(), recipe, normalize, normalize, tmp_path, 0)
    assert reached > 0.5  # chance is 0.1
    assert f"LeNet-5: {reached:.2%} of the test set" in capsys.readouterr().out
    svg = (tmp_path / "lenet-5.svg").read_text(encoding="utf-8")
    root = ET.fromstring(svg)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert f"LeNet-5 on drawn pictures: {reached:.2%} of the test set" in texts
    images = [read_png(base64.b64decode(data)) for data in re.findall(r"base64,([^\"]+)", svg)]
    assert [image.shape for image in images] == [(5, 35, 3), (28, 28, 3), (28, 173, 3)]
    counts = [int(text) for text in texts[4:] if text.isdigit() and len(text) < 4]
    assert sum(counts) == 200 + 2 * sum(range(10))  # the cells, and the names of rows and columns


def drawn_shapes(count, tests):
    train, test = GeneratedShapes(count, 0, size=32), GeneratedShapes(tests, 1, size=32)
    return milestones._Found("drawn pictures", False, train, test, GeneratedShapes.classes)


def test_the_small_network_learns_drawn_shapes_by_the_recipe_of_the_milestone(monkeypatch):
    monkeypatch.setattr(milestones, "_find", lambda *_: drawn_shapes(3000, 200))
    monkeypatch.setattr(milestones, "require", lambda *_: None)
    assert milestones.things() > 0.4  # chance is 0.17; half of the milestone's pictures give 0.7


def test_the_same_seed_trains_the_same_network():
    normalize = transforms.Normalize(0.5, 0.5)
    recipe = milestones.Recipe(epochs=1, max_lr=0.05, batch_size=20)
    found = drawn_shapes(200, 100)
    states = []
    for seed in (0, 0, 1):
        built = []
        build = lambda classes: built.append(milestones.small_cnn(classes)) or built[0]  # noqa: B023, E731
        milestones._train("net", build, found, recipe, normalize, normalize, None, seed)
        states.append({name: value.numpy().copy() for name, value in built[0].state_dict().items()})
    assert all((states[1][name] == value).all() for name, value in states[0].items())
    assert any((states[2][name] != value).any() for name, value in states[0].items())


def test_the_network_can_be_tried(monkeypatch):
    monkeypatch.setattr(milestones, "_find", lambda *_: drawn_digits(400))
    recipe = milestones.Recipe(epochs=1, max_lr=0.05, batch_size=25)
    monkeypatch.setattr(milestones, "Recipe", lambda **_: recipe)
    monkeypatch.setattr(milestones, "require", lambda *_: None)
    tried = milestones.digits()
    *drawn, told = tried.answer("7").splitlines()
    assert tried.question == "the number of a test image, 0 to 199"
    assert len(drawn) > 10
    assert "@" in "".join(drawn)
    assert told.endswith(f"it is a {int(GeneratedDigits(200, 1)[7][1])}")
    assert tried.answer("207") == tried.answer("7")


def test_what_was_not_reached_is_not_claimed(monkeypatch, capsys):
    monkeypatch.setattr(milestones, "_find", lambda *_: drawn_digits(200, real=True))
    hasty = milestones.Recipe(epochs=1, max_lr=1e-4, batch_size=20)
    monkeypatch.setattr(milestones, "Recipe", lambda **_: hasty)
    with pytest.raises(Shortfall, match=r"accuracy of LeNet-5 on drawn pictures is .*%, 99% was to be reached"):
        milestones.digits()
    assert "of the test set" in capsys.readouterr().out


def test_missing_data_is_said_and_damaged_data_raises(tmp_path, monkeypatch, capsys):
    class Missing:
        __name__, folder = "MNIST", "mnist"

        def __call__(self, root, train):
            raise DownloadError("no mirror gave it") if not (tmp_path / "mnist").exists() else FileError("damaged")

    found = milestones._find("cnn", Missing(), tmp_path, lambda count, seed: GeneratedDigits(count, seed))
    assert not found.real
    assert "DRAWN pictures instead" in capsys.readouterr().out
    (tmp_path / "mnist").mkdir()
    with pytest.raises(FileError, match="damaged"):
        milestones._find("cnn", Missing(), tmp_path, lambda count, seed: GeneratedDigits(count, seed))


def test_the_act_brings_its_milestone_and_answers_for_mnist_only(tmp_path, monkeypatch, capsys):
    class Missing:
        folder = "mnist"

        def __call__(self, root, train):
            raise DownloadError("no mirror gave it") if not (tmp_path / "mnist").exists() else FileError("damaged")

    monkeypatch.setattr(milestones, "MNIST", Missing())
    (row,) = plugin.tt_milestones()
    assert (row.name, row.year, row.act) == ("cnn", 1998, 3)
    assert plugin.tt_dataset("imagenet", None) is None
    assert plugin.tt_dataset("mnist", tmp_path) is None
    assert capsys.readouterr().out == "mnist: no mirror gave it\n"
    (tmp_path / "mnist").mkdir()
    with pytest.raises(FileError, match="damaged"):
        plugin.tt_dataset("mnist", tmp_path)


def test_parameters_are_those_of_the_paper():
    assert milestones.lenet5().num_parameters() == 61_706
    assert milestones.small_cnn()(tt_core.zeros(2, 3, 32, 32)).shape == (2, 10)
