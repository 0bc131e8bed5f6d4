"""Part of module 07: the log of a run, a list that notebooks show as a chart."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from tt_learn.svg import SVG, Points, line_chart

Record = dict[str, Any]


class History(list[Record]):
    """The records of a run, one dictionary per log line; notebooks show the losses and the last record.

    >>> history = History([{"step": 10, "train_loss": 0.5, "val_loss": None}])
    >>> history
    History(1 record; step 10, train_loss 0.5)
    >>> history[-1]["train_loss"]
    0.5
    """

    def losses(self) -> dict[str, Points]:
        """Returns the training and validation losses as points (step, loss).

        >>> History([{"step": 10, "train_loss": 0.5, "val_loss": None}]).losses()
        {'train': [(10, 0.5)], 'val': []}
        """
        return {
            name: [(r["step"], r[f"{name}_loss"]) for r in self if r.get(f"{name}_loss") is not None]
            for name in ("train", "val")
        }

    def chart(self, title: str = "Loss") -> SVG:
        """Returns the losses over the steps as SVG text, which notebooks show as a picture."""
        return line_chart(self.losses(), title, "step", "loss")

    def __repr__(self) -> str:
        records = "1 record" if len(self) == 1 else f"{len(self)} records"
        return f"History({records}{'; ' * bool(self)}{', '.join(f'{name} {value}' for name, value in self._last())})"

    def _last(self) -> list[tuple[str, str]]:
        shown = self[-1].items() if self else ()
        return [(name, f"{x:.4g}" if isinstance(x, float) else str(x)) for name, x in shown if x is not None]

    def _repr_html_(self) -> str:
        return (self.chart() if any(self.losses().values()) else "") + table(self._last())


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Returns names and texts as an HTML table.

    >>> table([("step", "<10>")])
    '<table><tr><th>step</th><td>&lt;10&gt;</td></tr></table>'
    """
    return f"<table>{''.join(f'<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in rows)}</table>"
