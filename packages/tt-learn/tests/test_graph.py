"""Drawn graphs are SVG that a browser reads: every call and leaf has a box, and no two boxes overlap."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_learn import GradientError, draw_graph
from tt_learn.autograd import Tensor

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(svg: str) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of each box; the first rectangle is the paper."""
    _, *boxes = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return [tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height")) for box in boxes]


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def residual_model() -> tuple[Tensor, dict[str, Tensor]]:
    model = tt_core.Sequential(*[tt_core.Linear(4, 4) for _ in range(6)])
    x = tt_core.ones(2, 4)
    for layer in model:
        x = x + tt_core.gelu(layer(x))
    return x.sum(), dict(model.named_parameters())


def test_every_call_and_leaf_has_a_box_with_name_and_shape() -> None:
    model = tt_core.Sequential(tt_core.Linear(3, 2), tt_core.ReLU())
    said = texts(draw_graph(model(tt_core.ones(5, 3)).sum(), names=dict(model.named_parameters())))
    assert set(said) == {"0.weight", "2x3", "0.bias", "2", "linear", "relu", "5x2", "sum", "number"}
    assert said.count("5x2") == 2


def test_no_two_boxes_overlap_and_none_leaves_the_paper() -> None:
    loss, names = residual_model()
    svg = draw_graph(loss, names=names)
    boxes = rectangles(svg)
    assert len(boxes) == 6 * 3 + 12 + 1
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(boxes, 2):
        assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y
    _, _, width, height = map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)


def test_inputs_stand_above_what_is_computed_from_them() -> None:
    x = Tensor([1.0], requires_grad=True)
    svg = draw_graph((x * 2).exp().sum())
    assert [y for _, y, _, _ in sorted(rectangles(svg), key=lambda box: box[1])] == sorted(
        {y for _, y, _, _ in rectangles(svg)}
    )


def test_a_tensor_used_twice_has_one_box() -> None:
    x = Tensor([1.0], requires_grad=True)
    y = x * x
    assert len(rectangles(draw_graph(y + y * x))) == 4


def test_the_lines_from_one_box_run_together() -> None:
    weight, x = Tensor([0.5], requires_grad=True), Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(50):
        y = (y * weight).exp()
    lines = draw_graph(y).count("<path")
    assert lines == 1 + 99 + 50 + 98  # from x, between calls, from the weight to calls, between its bends


def test_names_are_escaped_and_the_file_written(tmp_path: Path) -> None:
    x = Tensor([1.0], requires_grad=True)
    svg = draw_graph(x * 2, tmp_path / "graph.svg", names={"<a&b>": x})
    assert "<a&b>" in texts(svg)
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == svg


def test_a_leaf_with_an_empty_name_has_a_box() -> None:
    x = Tensor([1.0], requires_grad=True)
    assert "leaf" in texts(draw_graph(x * 2, names={"": x}))


def test_a_released_graph_can_still_be_drawn() -> None:
    x = Tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    before = draw_graph(y)
    y.backward()
    assert draw_graph(y) == before


def test_dtypes_other_than_float32_are_told() -> None:
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    assert "2x2 float64" in texts(draw_graph(x * 2))


def test_a_checkpoint_of_something_without_history_is_one_box() -> None:
    weight = Tensor([1.0], requires_grad=True)
    svg = draw_graph(tt_learn.checkpoint(lambda x: x * weight, Tensor([2.0])))
    assert svg.count("<rect") == 2


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(GradientError, match="no history"):
        draw_graph(Tensor([1.0], requires_grad=True))
    x = Tensor([1.0], requires_grad=True)
    for _ in range(2001):
        x = x + 1
    with pytest.raises(GradientError, match="more than 2,000 boxes"):
        draw_graph(x)
