"""Numbers and pictures of lesson 09, spatial."""

from __future__ import annotations

import numpy as np

import tt_core as tt
from measured import fastest, number, picture
from tt_data import Conv2d, conv2d, max_pool2d, unfold
from tt_data.spatial.windows import windows
from tt_learn.command.digits import draw_digits
from tt_learn.svg import drawing, rectangle, text

X = np.random.default_rng(0).standard_normal((16, 16, 16, 16)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype(np.float32)


@number(896, 896, ",.0f")
def convolution_parameters() -> float:
    """The parameters of 32 kernels 3x3 over 3 channels."""
    return Conv2d(3, 32, 3, padding=1).num_parameters()


@number(100e6, 101e6, ",.0f")
def dense_parameters() -> float:
    """The parameters of a linear layer between the same images: (3 32 32 + 1) 32 32 32."""
    return (3 * 32 * 32 + 1) * 32 * 32 * 32


@number(9, 9, ".0f")
def columns_times_image() -> float:
    """How many times as many bytes the patches take as the image."""
    return unfold(tt.from_numpy(X), 3, padding=1).nbytes / X.nbytes


@number(2, 20000, ".0f")
def convolution_loop_times_kernel() -> float:
    """How many times as long the sum of conv2d takes as a plain loop over all indices as its kernel takes."""
    w = windows(X.shape[2:], (3, 3), 1, 1, 1)
    patches = w.patches(w.pad(X))
    loop, kernel = fastest(
        lambda: np.einsum("ncyxij,ocij->noyx", patches, W), lambda: conv2d.kernel(X, W, padding=1), rounds=7
    )
    return loop / kernel


@number(4, 4, ".0f")
def pooling_saves() -> float:
    """How many times fewer numbers a 2x2 pool leaves."""
    return X.size / max_pool2d(tt.from_numpy(X), 2).data.size


def _pixels(image: np.ndarray, left: float, title: str) -> list[str]:
    scaled = np.abs(image) / np.abs(image).max()
    parts = [text(left, 22, title)]
    for y, row in enumerate(scaled.tolist()):
        for x, value in enumerate(row):
            grey = 255 - round(value * 225)
            parts.append(rectangle(left + 8 * x, 34 + 8 * y, 8, 8, f"#{grey:02x}{grey:02x}{grey:02x}"))
    return parts


@picture
def edges_of_a_digit() -> str:
    """A drawn digit, what a kernel for vertical edges and one for horizontal edges find in it, and a 2x2 pool."""
    image = draw_digits(4, np.random.default_rng(3))[0][0].reshape(1, 1, 28, 28).astype(np.float32)
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
    upright, level = (conv2d.kernel(image, k.reshape(1, 1, 3, 3), padding=1) for k in (sobel, sobel.T))
    pooled = max_pool2d(tt.from_numpy(np.abs(upright)), 2).data
    named = {"input": image, "vertical edges": upright, "horizontal edges": level, "edges, pooled 2x2": pooled}
    parts = [p for i, (name, x) in enumerate(named.items()) for p in _pixels(x[0, 0], 10 + 250 * i, name)]
    return drawing(parts, 1000 - 112, 270)
