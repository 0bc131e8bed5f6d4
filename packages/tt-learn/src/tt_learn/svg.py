"""Part of module 07: line and scatter charts as SVG text, for a browser; no library, no script, no fonts of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]
WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 56, 60
COLOURS = ("#1f6fb4", "#d9541e", "#2f8f4e", "#7b4fb0", "#8a6d1b", "#5a5a5a")
MOST_POINTS = 1500  # a line has no more pixels; longer series are thinned


class SVG(str):
    """SVG text that notebooks show as a picture.

    >>> SVG("<svg></svg>")._repr_svg_()
    '<svg></svg>'
    """

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def line_chart(series: Mapping[str, Points], title: str = "", x_label: str = "", y_label: str = "") -> SVG:
    """The series' points (x, y) as lines with axes, ticks and a legend; what is no finite number is left out.

    >>> line_chart({"train": [(0, 1.0), (10, 0.5)]}, "Loss", "step").startswith("<svg")
    True
    """
    kept = {name: points for name, given in series.items() if (points := _finite(given))}
    every = [point for points in kept.values() for point in points]

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        lines = [_line([(x_at(x), y_at(y)) for x, y in kept[name]], colour) for name, colour in zip(kept, _colours())]
        return lines + _legend(list(kept))

    return _framed(every, drawn, title, x_label, y_label)


def scatter_chart(
    points: Mapping[str, tuple[float, float]],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    marked: Collection[str] = (),
    sizes: Mapping[str, float] | None = None,
) -> SVG:
    """Named points (x, y) as circles with their names beside; those in `marked` are filled, the others hollow.

    `sizes` are numbers to which the areas of the circles are proportional. What is no finite number is left out.

    >>> scatter_chart({"int8": (1.0, 0.9), "none": (2.0, 0.9)}, marked=["int8"]).count("<circle")
    2
    """
    kept = {name: point for name, point in points.items() if _finite([point])}
    largest = max([0.0, *(sizes or {}).values()]) or 1.0

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        parts = []
        for (name, (x, y)), colour in zip(kept.items(), _colours()):
            radius = 6.0 if sizes is None else max(3.0, 16 * math.sqrt(max(0.0, sizes.get(name, 0.0)) / largest))
            fill = f'fill="{colour}" fill-opacity="0.75"' if name in marked else 'fill="none"'
            place = f'cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="{radius:.1f}"'
            parts.append(f'<circle {place} {fill} stroke="{colour}" stroke-width="2"/>')
            left = x_at(x) > (LEFT + WIDTH - RIGHT) / 2  # there the name would leave the picture
            shift = -radius - 5 if left else radius + 5
            parts.append(_text(x_at(x) + shift, y_at(y) + 4, name, anchor="end" if left else "start"))
        return parts

    return _framed(list(kept.values()), drawn, title, x_label, y_label)


def _framed(points: Points, drawn: Callable[[Scale, Scale], list[str]], title: str, x_label: str, y_label: str) -> SVG:
    """Axes and ticks that enclose all points, and what `drawn` puts between them."""
    x_ticks, y_ticks = ticks([x for x, _ in points]), ticks([y for _, y in points])
    x_at, y_at = _scale(x_ticks, LEFT, WIDTH - RIGHT), _scale(y_ticks, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#333333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 26, title, size=17, weight="bold"),
        *(_horizontal(y_at(y), _number(y, y_ticks)) for y in y_ticks),
        *(_vertical(x_at(x), _number(x, x_ticks)) for x in x_ticks),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle"),
        _text(20, (TOP + HEIGHT - BOTTOM) / 2, y_label, anchor="middle", turned=True),
        *drawn(x_at, y_at),
        "</svg>\n",
    ]
    return SVG("\n".join(filter(None, parts)))


def ticks(values: Sequence[float], about: int = 6) -> list[float]:
    """Round numbers in equal steps of 1, 2 or 5 times a power of ten that enclose all values.

    >>> ticks([0.3, 9.1])
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        pad = abs(low) / 2 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, last + 1)]


def _finite(points: Points) -> list[tuple[float, float]]:
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    every = -(-len(kept) // MOST_POINTS) or 1
    return kept[::every] + (kept[-1:] if (len(kept) - 1) % every else [])


def _scale(marks: Sequence[float], start: float, end: float) -> Scale:
    low, high = marks[0], marks[-1]
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _number(value: float, marks: Sequence[float]) -> str:
    step = marks[1] - marks[0]
    if max(abs(marks[0]), abs(marks[-1])) >= 1e6 or step < 1e-5:
        return f"{value:.3g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 13, weight: str = "normal", turned: bool = False
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}{turn}>{escape(text)}</text>' if text else ""


def _horizontal(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
    return line + _text(LEFT - 8, y + 4, label, anchor="end")


def _vertical(x: float, label: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eeeeee"/>'
    return line + _text(x, HEIGHT - BOTTOM + 20, label, anchor="middle")


def _line(points: Points, colour: str) -> str:
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'


def _colours() -> Sequence[str]:
    return COLOURS * 20


def _legend(names: Sequence[str]) -> list[str]:
    entries = []
    for i, (name, colour) in enumerate(zip(reversed(names), reversed(_colours()[: len(names)]))):
        x = WIDTH - RIGHT - 90 * (i + 1)
        entries.append(f'<line x1="{x}" x2="{x + 22}" y1="22" y2="22" stroke="{colour}" stroke-width="3"/>')
        entries.append(_text(x + 28, 26, name))
    return entries
