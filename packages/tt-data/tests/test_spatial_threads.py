"""Convolution and pooling split across threads: the same bits for one number of threads, up to rounding for others."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from tt_core.engine import threads
from tt_data import spatial


def test_the_gradient_of_the_weight_is_added_up_over_cores(monkeypatch):
    monkeypatch.setattr(threads._chosen, "number", 3)
    rng = np.random.default_rng(0)
    g, x = rng.standard_normal((7, 16, 32, 32)), rng.standard_normal((7, 8, 32, 32))
    shared = spatial.conv2d_weight.kernel(g, x, kernel_size=(3, 3), padding=1)
    monkeypatch.setattr(threads._chosen, "number", 1)
    alone = spatial.conv2d_weight.kernel(g, x, kernel_size=(3, 3), padding=1)
    np.testing.assert_allclose(shared, alone, rtol=1e-10, atol=1e-10)


def _passes():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((16, 8, 32, 32), np.float32), rng.standard_normal((16, 8, 3, 3), np.float32)
    y = spatial.conv2d.kernel(x, weight, padding=1)
    return y, spatial.conv2d_input.kernel(y, weight, size=(32, 32), padding=1)


def _pooled(y):
    pooled, index = spatial.max_pool2d.kernel(y, kernel_size=2)
    back = spatial.max_pool2d_backward.kernel(
        pooled, index, size=(32, 32), kernel_size=2, stride=None, padding=0, dilation=1, ceil_mode=False
    )
    return pooled, index, back


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_same_number_of_threads_gives_the_same_bits(monkeypatch, number):
    monkeypatch.setattr(threads._chosen, "number", number)
    assert all((a == b).all() for a, b in zip(_passes(), _passes()))


def test_pooling_gives_the_same_bits_and_convolution_the_same_up_to_rounding_for_any_number_of_threads(monkeypatch):
    """BLAS rounds an element by its position in the matrix, and how images are split decides about that."""
    found = []
    for number in (1, 2, 3):
        monkeypatch.setattr(threads._chosen, "number", number)
        found.append(_passes())
    for others in found[1:]:
        for a, b in zip(found[0], others):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())
    image = found[0][0]
    monkeypatch.setattr(threads._chosen, "number", 1)
    alone = _pooled(image)
    for number in (2, 3):
        monkeypatch.setattr(threads._chosen, "number", number)
        assert all((a == b).all() for a, b in zip(alone, _pooled(image)))


def _in_child(queue):
    queue.put(float(_passes()[0].sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it is multi-threaded is the point
def test_a_forked_child_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(threads._chosen, "number", 2)
    expected = float(_passes()[0].sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
