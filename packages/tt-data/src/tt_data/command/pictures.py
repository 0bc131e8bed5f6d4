"""Pictures of what a convolutional network learned: filters, feature maps, confusion matrix. Beside module 09, spatial.

A picture is one SVG file (`tt_learn.svg`). Pixels are embedded as PNG images, which a few lines of zlib write. No
drawing library and no display is needed.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_learn.svg import SVG, drawing, rectangle, text

WIDTH, MARGIN = 940, 24


def png(pixels: Array) -> bytes:
    """An image (H, W, 3) or (H, W), uint8, as a PNG file (ISO/IEC 15948).

    >>> png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ShapeError(f"png: expected bytes (H, W, 3) or (H, W), got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 else 0
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row begins with the number of its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def as_pixels(x: Array) -> Array:
    """Images (N, ...) of any numbers as bytes: in each image the smallest is black, the largest white.

    Infinities and nan are black. Raises `ShapeError` for images without pixels.
    """
    if not x.size:
        raise ShapeError(f"as_pixels: expected images with pixels (N, ...), got shape {x.shape}")
    axes, finite = tuple(range(1, x.ndim)), np.isfinite(x)
    x = np.where(finite, x, 0).astype(np.float64)
    low = x.min(axes, keepdims=True, where=finite, initial=np.inf)
    high = x.max(axes, keepdims=True, where=finite, initial=-np.inf)
    shares = np.divide(x - low, high - low, out=np.zeros_like(x), where=finite & (high > low))
    return (shares * 255).round().astype(np.uint8)


def mosaic(tiles: Array, columns: int, gap: int = 1) -> Array:
    """Tiles (N, C, H, W) of bytes with one or three channels, in rows of `columns` on white: (rows, columns, 3).

    >>> mosaic(np.zeros((3, 1, 4, 4), np.uint8), columns=2).shape
    (9, 9, 3)
    """
    n, _, h, w = tiles.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = tile.transpose(1, 2, 0)
    return sheet


def contact_sheet(title: str, images: Array, labels: Sequence[str]) -> str:
    """The first images (N, C, H, W) of a dataset, one or three channels, as HTML for a notebook.

    >>> contact_sheet("two", np.zeros((2, 1, 4, 4), np.uint8), ["a", "b"]).count("<img")
    2
    """
    cells = []
    for image, label in zip(images, labels):
        drawable = image if len(image) in (1, 3) else image[:1]
        data = base64.b64encode(png(mosaic(as_pixels(drawable[None]), 1))).decode("ascii")
        style = "width: 56px; image-rendering: pixelated"
        cells.append(
            '<figure style="display: inline-block; margin: 4px; text-align: center">'
            f'<img style="{style}" src="data:image/png;base64,{data}"><figcaption>{escape(label)}</figcaption></figure>'
        )
    return f"<div><code>{escape(title)}</code></div><div>{''.join(cells)}</div>"


def network_picture(
    title: str, filters: Array, image: Array, feature_maps: Array, confusion: Array, classes: Sequence[str]
) -> SVG:
    """An SVG of the first filters of a network, the feature maps of one image, and the confusion matrix.

    filters (O, C, h, w) with one or three channels; image (C, H, W); feature_maps (O, H', W'); confusion (K, K), true
    classes in rows.
    """
    columns = 16 if len(filters) >= 16 else len(filters)
    parts, y = [text(MARGIN, 34, title, size=18, weight="bold")], 70.0
    for caption, sheet in (
        ("filters of the first layer", mosaic(as_pixels(filters), columns)),
        ("an image of the test set", mosaic(as_pixels(image[None]), 1)),
        ("feature maps of the first layer", mosaic(as_pixels(feature_maps[:, None]), columns)),
    ):
        scale = min(6.0, (WIDTH - 2 * MARGIN) / sheet.shape[1])
        parts += [text(MARGIN, y, caption), _image(sheet, MARGIN, y + 10, scale)]
        y += 10 + sheet.shape[0] * scale + 34
    parts.append(text(MARGIN, y, "confusion matrix of the test set: true classes in rows, predicted ones in columns"))
    parts += _matrix(confusion, classes, y + 14)
    return drawing(parts, WIDTH, y + 14 + _CELL * (len(classes) + 1) + MARGIN)


_CELL, _LABELS = 38, 110


def _matrix(confusion: Array, classes: Sequence[str], top: float) -> list[str]:
    """Cells with counts; a larger share of the row is darker."""
    parts = []
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    for i, name in enumerate(classes):
        y = top + _CELL * (i + 1)
        parts.append(text(MARGIN + _LABELS - 8, y + 24, name, anchor="end"))
        parts.append(text(MARGIN + _LABELS + _CELL * (i + 0.5), top + 24, name[:5], anchor="middle", size=11))
        for j, share in enumerate(shares[i]):
            x, shade = MARGIN + _LABELS + _CELL * j, round(255 - 200 * float(np.sqrt(share)))
            parts.append(rectangle(x, y, _CELL - 1, _CELL - 1, f"rgb({shade},{shade},255)"))
            fill = "#ffffff" if share > 0.5 else ""
            number = f"{confusion[i, j]:,}"
            parts.append(text(x + _CELL / 2, y + 23, number, anchor="middle", size=11, fill=fill))
    return parts


def _image(pixels: Array, x: float, y: float, scale: float) -> str:
    data = base64.b64encode(png(pixels)).decode("ascii")
    width, height = pixels.shape[1] * scale, pixels.shape[0] * scale
    return (
        f'<image x="{x}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" style="image-rendering: pixelated" '
        f'href="data:image/png;base64,{data}"/>'
    )
