"""Part of module 07: charts as SVG text for a browser, without a library, a script or fonts.

`line_chart` and `scatter_chart` are whole pictures. Other modules build theirs from the functions below: `framed` draws
axes around what a function draws between them, and `drawing` is a canvas without axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]
Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels."""
WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 56, 60
COLOURS = ("#1f6fb4", "#d9541e", "#2f8f4e", "#7b4fb0", "#8a6d1b", "#5a5a5a")
DASHES = "6 4"  # for lines that share a colour with another line
MOST_POINTS = 1500  # a line has no more pixels; longer series are thinned


class SVG(str):
    """SVG text that notebooks show as a picture.

    >>> SVG("<svg></svg>")._repr_svg_()
    '<svg></svg>'
    """

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def line_chart(
    series: Mapping[str, Points], title: str = "", x_label: str = "", y_label: str = "", x_names: Sequence[str] = ()
) -> SVG:
    """The series' points (x, y) as lines with axes, ticks and a legend; points that are not finite are left out.

    `x_names` stand at x = 0, 1, ... in place of numbers.

    >>> line_chart({"train": [(0, 1.0), (10, 0.5)]}, "Loss", "step").startswith("<svg")
    True
    """
    kept = {name: points for name, given in series.items() if (points := _finite(given))}
    every = [point for points in kept.values() for point in points]

    beside = _legend_width(kept) <= WIDTH - LEFT - RIGHT - 10 * len(title)  # of the title
    rows = [list(kept)] if beside else _rows(kept)

    colours, dashes = dict(zip(kept, _colours())), dict.fromkeys(list(kept)[len(COLOURS) :], DASHES)

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        lines = [
            line([(x_at(x), y_at(y)) for x, y in points], colours[name], dashes=dashes.get(name, ""))
            for name, points in kept.items()
        ]
        for i, row in enumerate(rows):
            right, y = (WIDTH - RIGHT, 26) if beside else (LEFT + _legend_width(row), HEIGHT + 10 + 18 * i)
            lines += legend(row, [colours[name] for name in row], right, y, dashed=dashes)
        return lines

    below = [] if beside else [""] * len(rows)
    return framed(every, drawn, title, x_label, y_label, below=below, x_names=x_names)


def scatter_chart(
    points: Mapping[str, tuple[float, float]],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    marked: Collection[str] = (),
    sizes: Mapping[str, float] | None = None,
) -> SVG:
    """Named points (x, y) as circles with their names beside; those in `marked` are filled, the others hollow.

    `sizes` are numbers to which the areas of the circles are proportional. Points that are not finite are left out.

    >>> scatter_chart({"int8": (1.0, 0.9), "none": (2.0, 0.9)}, marked=["int8"]).count("<circle")
    2
    """
    kept = {name: point for name, point in points.items() if _finite([point])}
    largest = max([0.0, *(sizes or {}).values()]) or 1.0

    def radius(name: str) -> float:
        return 6.0 if sizes is None else max(3.0, 16 * math.sqrt(max(0.0, sizes.get(name, 0.0)) / largest))

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        spots = {name: (x_at(x), y_at(y), radius(name)) for name, (x, y) in kept.items()}
        parts, taken = [], [around(*spot) for spot in spots.values()]
        for (name, (x, y, r)), colour in zip(spots.items(), _colours()):
            fill = f'fill="{colour}" fill-opacity="0.75"' if name in marked else 'fill="none"'
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"'
            parts.append(f'<circle {place} {fill} stroke="{colour}" stroke-width="2"/>')
            parts.append(named_circle(name, x, y, r, taken))
        return parts

    return framed(list(kept.values()), drawn, title, x_label, y_label)


def around(x: float, y: float, radius: float) -> Box:
    """The box of a circle."""
    return x - radius, y - radius, x + radius, y + radius


def named_circle(name: str, x: float, y: float, radius: float, taken: list[Box], size: int = 13) -> str:
    """The name of a circle, beside it or a little higher or lower, where it covers none of the boxes `taken`.

    It is added to them. A line leads to a name that is not beside its circle.
    """
    width, high = 0.57 * size * len(name), size / 2
    inwards = x > (LEFT + WIDTH - RIGHT) / 2  # there the name would leave the picture
    shifts = (0.0, *(sign * (size + 2) * i for i in range(1, 8) for sign in (1, -1)))
    for shift, left in [*itertools.product(shifts, (inwards, not inwards)), (0.0, inwards)]:
        start = x - radius - 5 - width if left else x + radius + 5
        box = (start, y + shift - high, start + width, y + shift + high)
        if LEFT < start < WIDTH - RIGHT - width and box[3] < HEIGHT - BOTTOM and not any(_meet(box, b) for b in taken):
            break
    taken.append(box)
    leader = line([(x, y), (start + width + 2 if left else start - 2, y + shift)], "#9a9a9a", 1) if shift else ""
    at, anchor = (start + width, "end") if left else (start, "start")
    return leader + text(at, y + shift + 0.35 * size, name, anchor, size, halo=True)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def framed(
    points: Points,
    drawn: Callable[[Scale, Scale], list[str]],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    logarithmic: bool = False,
    below: Sequence[str] = (),
    x_names: Sequence[str] = (),
) -> SVG:
    """Axes and ticks that enclose all points, what `drawn` puts between them, and lines of text `below`.

    `drawn(x_at, y_at)` returns pieces of SVG; the two functions turn values into pixels. With `logarithmic`, both axes
    are, and every value must be positive. `x_names` stand at x = 0, 1, ... in place of ticks.

    >>> framed([(0, 0), (1, 1)], lambda x_at, y_at: [circle(x_at(1), y_at(1), 4, "#000000")]).count("<circle")
    1
    """
    marks = powers if logarithmic else ticks
    x_ticks, y_ticks = marks([x for x, _ in points]), marks([y for _, y in points])
    if x_names:
        x_ticks = [float(i) for i in range(len(x_names))]
    ends = [-0.5, len(x_names) - 0.5] if x_names else x_ticks
    scale = _log_scale if logarithmic else _scale
    x_at, y_at = scale(ends, LEFT, WIDTH - RIGHT), scale(y_ticks, HEIGHT - BOTTOM, TOP)
    named = _power if logarithmic else _number
    labels = _spaced(x_names) if x_names else [named(x, x_ticks) for x in x_ticks]
    parts = [
        text(LEFT, 26, title, size=17, weight="bold"),
        *(_horizontal(y_at(y), named(y, y_ticks)) for y in y_ticks),
        *(_vertical(x_at(x), label) for x, label in zip(x_ticks, labels)),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle"),
        text(20, (TOP + HEIGHT - BOTTOM) / 2, y_label, anchor="middle", turned=True),
        *drawn(x_at, y_at),
        *(text(LEFT, HEIGHT + 10 + 18 * i, line) for i, line in enumerate(below)),
    ]
    return drawing(parts, WIDTH, HEIGHT + (18 * len(below) + 14 if below else 0))


def _spaced(names: Sequence[str]) -> list[str]:
    """As many of the names, at equal distances and with the last one, as fit side by side; the others are empty."""
    room = (WIDTH - LEFT - RIGHT) / (8 * max(map(len, names)) + 8)
    every = math.ceil(len(names) / room)
    return ["" if (len(names) - 1 - i) % every else name for i, name in enumerate(names)]


def drawing(parts: Sequence[str], width: float, height: float) -> SVG:
    """A white canvas with these pieces on it.

    >>> drawing([text(10, 20, "a < b")], 100, 40).count("a &lt; b")
    1
    """
    sheet = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#333333">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        *parts,
        "</svg>\n",
    ]
    return SVG("\n".join(filter(None, sheet)))


def ticks(values: Sequence[float], about: int = 6) -> list[float]:
    """Round numbers in equal steps of 1, 2 or 5 times a power of ten that enclose all values.

    >>> ticks([0.3, 9.1])
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        pad = abs(low) / 20 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, last + 1)]


def powers(values: Sequence[float]) -> list[float]:
    """Powers of ten that enclose all values, which are positive; at least two.

    >>> powers([0.3, 25.0])
    [0.1, 1.0, 10.0, 100.0]
    """
    logs = [math.log10(value) for value in values] or [0.0]
    low = math.floor(min(logs))
    high = max(math.ceil(max(logs)), low + 1)
    return [10.0**i for i in range(low, high + 1)]


def _finite(points: Points) -> list[tuple[float, float]]:
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    every = -(-len(kept) // MOST_POINTS) or 1
    return kept[::every] + (kept[-1:] if (len(kept) - 1) % every else [])


def _scale(marks: Sequence[float], start: float, end: float) -> Scale:
    low, high = marks[0], marks[-1]
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _log_scale(marks: Sequence[float], start: float, end: float) -> Scale:
    plain = _scale([math.log10(mark) for mark in marks], start, end)
    return lambda value: plain(math.log10(value))


def _power(value: float, marks: Sequence[float]) -> str:
    return f"{value:,.0f}" if 1 <= value < 1e6 else f"{value:g}"


def _number(value: float, marks: Sequence[float]) -> str:
    step = marks[1] - marks[0]
    if max(abs(marks[0]), abs(marks[-1])) >= 1e6 or step < 1e-5:
        return f"{value:.3g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def text(
    x: float,
    y: float,
    words: str,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
    turned: bool = False,
    halo: bool = False,
    fill: str = "",
) -> str:
    """Words at a place; `anchor` is "start", "middle" or "end", `turned` makes them run upwards.

    A `halo` keeps words legible on top of lines.
    """
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    turn += ' paint-order="stroke" stroke="#ffffff" stroke-width="3" stroke-linejoin="round"' if halo else ""
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"' + (f' fill="{fill}"' if fill else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}{turn}>{escape(words)}</text>' if words else ""


def _horizontal(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
    return line + text(LEFT - 8, y + 4, label, anchor="end")


def _vertical(x: float, label: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eeeeee"/>'
    return line + text(x, HEIGHT - BOTTOM + 20, label, anchor="middle")


def line(points: Points, colour: str, width: float = 2, dashes: str = "") -> str:
    """A line through points, in pixels; a single point is a dot. `dashes`: "6 4" for one."""
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"'
    return f'<polyline points="{path}" {style}' + (f' stroke-dasharray="{dashes}"/>' if dashes else "/>")


def area(points: Points, colour: str) -> str:
    """A filled polygon, in pixels."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.8"/>'


def circle(x: float, y: float, radius: float, colour: str, tip: str = "") -> str:
    """A filled circle; `tip` is shown under the mouse."""
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.75" stroke="{colour}"'
    return f"{shape}><title>{escape(tip)}</title></circle>" if tip else f"{shape}/>"


def rectangle(x: float, y: float, width: float, height: float, colour: str, tip: str = "") -> str:
    """A filled rectangle with a white edge; `tip` is shown under the mouse."""
    shape = f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" fill="{colour}" stroke="#ffffff"'
    return f'{shape} stroke-width="0.5"><title>{escape(tip)}</title></rect>' if tip else f'{shape} stroke-width="0.5"/>'


def _colours() -> Sequence[str]:
    return COLOURS * 20


def legend(
    names: Sequence[str],
    colours: Sequence[str] | None = None,
    right: float = WIDTH - RIGHT,
    y: float = 26,
    dashed: Collection[str] = (),
) -> list[str]:
    """Names with a piece of their line, broken for those in `dashed`, in one row at height `y` that ends at `right`."""
    entries: list[str] = []
    x = right
    for name, colour in reversed(list(zip(names, colours or _colours()))):
        x -= _legend_width([name])
        style = f'stroke="{colour}" stroke-width="3"' + (f' stroke-dasharray="{DASHES}"' if name in dashed else "")
        entries.append(f'<line x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}" {style}/>')
        entries.append(text(x + 28, y, name))
    return entries


def _legend_width(names: Iterable[str]) -> int:
    """The pixels of a line of `legend`."""
    return sum(max(90, 44 + 7 * len(name)) for name in names)


def _rows(names: Iterable[str]) -> list[list[str]]:
    """Names in lines that fit under a chart."""
    rows: list[list[str]] = [[]]
    for name in names:
        if rows[-1] and _legend_width([*rows[-1], name]) > WIDTH - LEFT - RIGHT:
            rows.append([])
        rows[-1].append(name)
    return rows
