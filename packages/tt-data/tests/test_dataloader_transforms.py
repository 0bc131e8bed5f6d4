"""Batch transforms against plain loops over images."""

from __future__ import annotations

import numpy as np
import pytest

from tt_core.engine.errors import DTypeError, TinyTorchError
from tt_data.dataloader.seeding import drawing_from
from tt_data.transforms import (
    Compose,
    Cutout,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
    affine,
)


def batch(n=64, c=3, h=9, w=7, seed=0):
    return np.random.default_rng(seed).random((n, c, h, w), np.float32)


def same_as_one_by_one(transform, x):
    """All transforms below must only move, mix or replace pixels of the same image."""
    marked = np.zeros_like(x) + np.arange(len(x), dtype=x.dtype)[:, None, None, None] + 1
    out = transform(marked)
    return all(set(np.unique(image)) <= {0, i + 1} for i, image in enumerate(np.round(out, 3)))


def test_flip_flips_about_half_and_only_whole_images():
    x = batch(400)
    out = RandomHorizontalFlip()(x)
    flipped = [(a == b[:, :, ::-1]).all() for a, b in zip(out, x)]
    kept = [(a == b).all() for a, b in zip(out, x)]
    assert all(f != k for f, k in zip(flipped, kept))
    assert 140 < sum(flipped) < 260
    assert (RandomHorizontalFlip(0)(x) == x).all()
    assert (RandomHorizontalFlip(1)(x) == x[..., ::-1]).all()


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode):
    x = batch(32)
    out = RandomCrop((6, 5), padding=2, padding_mode=mode)(x)
    assert out.shape == (32, 3, 6, 5)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode=mode)
    places = set()
    for image, source in zip(out, padded):
        found = [(i, j) for i in range(8) for j in range(7) if (source[:, i : i + 6, j : j + 5] == image).all()]
        assert found
        places.add(found[0])
    assert len(places) > 10
    assert out.flags.c_contiguous


def test_crop_reaches_every_place():
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3).repeat(400, 0)
    assert set(RandomCrop(1)(x).ravel()) == set(range(9))


def test_normalize_is_the_formula():
    x = batch()
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    out = Normalize(mean, std)(x)
    for c in range(3):
        np.testing.assert_allclose(out[:, c], (x[:, c] - mean[c]) / std[c], rtol=1e-6)
    assert out.dtype == np.float32


def test_to_float_divides_bytes_by_255():
    x = np.arange(256, dtype=np.uint8)
    assert (ToFloat()(x) == x.astype(np.float32) / 255).all()


def test_cutout_removes_one_square_an_image():
    x = np.ones((300, 2, 12, 12), np.float32)
    out = Cutout(4, value=0.5)(x)
    areas = (out[:, 0] == 0.5).sum((1, 2))
    assert areas.max() == 16
    assert areas.min() >= 4  # a corner is left of a square that reaches over two edges
    assert (out[:, 0] == out[:, 1]).all()
    for image in out[:, 0]:
        rows, columns = np.nonzero(image == 0.5)
        assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows)


@pytest.mark.parametrize("transform", [RandomAffine(30, (0.2, 0.2), (0.7, 1.3), 10), RandomCrop(5, 1), Cutout(3)])
def test_no_image_leaks_into_another(transform):
    x = batch(20)
    with drawing_from(np.random.default_rng(1)):
        assert isinstance(transform, RandomAffine) or same_as_one_by_one(transform, x)
    with drawing_from(np.random.default_rng(1)):
        out = transform(x)
    poisoned = x.copy()
    poisoned[0] = np.nan
    with drawing_from(np.random.default_rng(1)):
        other = transform(poisoned)
    np.testing.assert_array_equal(out[1:], other[1:])


def reference_affine(x, matrix, shift, fill):
    _, _, height, width = x.shape
    out = np.full(x.shape, fill, np.float64)

    def pixel(n, c, row, column):
        return x[n, c, row, column] if 0 <= row < height and 0 <= column < width else fill

    for n, c, i, j in np.ndindex(*x.shape):
        p = np.array([j - (width - 1) / 2, i - (height - 1) / 2]) - shift[n]
        u, v = matrix[n] @ p + [(width - 1) / 2, (height - 1) / 2]
        left, top = int(np.floor(u)), int(np.floor(v))
        dx, dy = u - left, v - top
        out[n, c, i, j] = (
            (1 - dx) * (1 - dy) * pixel(n, c, top, left)
            + dx * (1 - dy) * pixel(n, c, top, left + 1)
            + (1 - dx) * dy * pixel(n, c, top + 1, left)
            + dx * dy * pixel(n, c, top + 1, left + 1)
        )
    return out


def test_affine_is_bilinear_sampling():
    rng = np.random.default_rng(3)
    x = rng.random((4, 2, 6, 5))
    matrix, shift = rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2))
    np.testing.assert_allclose(affine(x, matrix, shift, 0.3), reference_affine(x, matrix, shift, 0.3), atol=1e-12)


def test_affine_turns_by_its_degrees():
    """A quarter turn, which needs no interpolation, is numpy's rot90."""
    x = batch(2, 1, 7, 7)
    turn = RandomAffine(90)
    with drawing_from(_Always(1.0)):
        out = turn(x)
    turned = [np.allclose(out, np.rot90(x, k, (2, 3)), atol=1e-5) for k in (1, 3)]
    assert sum(turned) == 1


class _Always(np.random.Generator):
    """Draws the given fraction of every range."""

    def __init__(self, fraction):
        super().__init__(np.random.PCG64(0))
        self.fraction = fraction

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None and not isinstance(size, int):
            return np.zeros(size)  # no shift
        return np.full(size, low + (high - low) * self.fraction)


def test_transforms_repeat_with_their_generator():
    transform = Compose([RandomCrop(5, padding=1), RandomHorizontalFlip(), Cutout(2), RandomAffine(15)])
    outs = []
    for seed in (1, 1, 2):
        with drawing_from(np.random.default_rng(seed)):
            outs.append(transform(batch()))
    assert (outs[0] == outs[1]).all()
    assert not (outs[0] == outs[2]).all()
    assert outs[0].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: RandomHorizontalFlip(1.5), "p must be"),
        (lambda: RandomCrop(0), "size"),
        (lambda: RandomCrop(2.5), "RandomCrop: size is an integer >= 1 or a pair of them, got 2.5"),
        (lambda: RandomCrop(3, padding=-1), "padding is an integer >= 0, got -1"),
        (lambda: RandomCrop(3, padding_mode="circular"), "circular"),
        (lambda: Cutout(0), "size"),
        (lambda: Normalize(0, 0), "std"),
        (lambda: RandomAffine(1, scale=(0, 1)), "scale"),
        (lambda: RandomAffine(1, shear=90), "shear"),
        (lambda: RandomAffine(-1), "degrees is a number >= 0, .*got -1"),
        (lambda: RandomAffine((-5, 5)), "degrees"),
        (lambda: RandomAffine(float("nan")), "degrees"),
        (lambda: RandomAffine(1, translate=0.1), "translate is a pair"),
        (lambda: RandomAffine(1, scale=2), "scale must be a range"),
        (lambda: RandomCrop(3, padding=(1, 2)), r"padding is an integer, got \(1, 2\)"),
        (lambda: Cutout(2.5), "Cutout: size is an integer >= 1, got 2.5"),
        (lambda: Normalize(0, float("nan")), "mean must be finite and std also > 0"),
        (lambda: Normalize(float("inf"), 1), "mean must be finite"),
        (lambda: RandomCrop(12)(batch()), r"\(12, 12\).*\(64, 3, 9, 7\)"),
        (lambda: Normalize([1, 2], 1)(batch()), "2 values for images of 3 channels"),
        (lambda: RandomHorizontalFlip()(np.zeros((3, 4))), r"\(N, C, H, W\), got shape \(3, 4\)"),
    ],
)
def test_bad_input_is_one_line(make, error):
    with pytest.raises(TinyTorchError, match=error) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_affine_refuses_bytes_whose_shares_would_be_rounded_away():
    with pytest.raises(DTypeError, match="needs floats, got uint8; put ToFloat before it"):
        RandomAffine(10)(np.zeros((2, 3, 5, 5), np.uint8))


def test_cutout_refuses_a_value_that_bytes_cannot_hold():
    images = np.full((2, 3, 5, 5), 9, np.uint8)
    for value in (0.5, -1, 300.0):
        with pytest.raises(DTypeError, match=f"images of uint8 cannot hold the value {value}; put ToFloat before it"):
            Cutout(2, value)(images)
    assert set(np.unique(Cutout(2, 7.0)(images))) == {7, 9}


@pytest.mark.parametrize(
    "transform", [RandomHorizontalFlip(), RandomCrop(4, 1), Cutout(2), RandomAffine(10), ToFloat()]
)
def test_an_empty_batch_stays_empty(transform):
    assert len(transform(batch(0))) == 0
