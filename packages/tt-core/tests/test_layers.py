"""Layers register what they are made of, copy states whole or not at all, and show themselves as a tree."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core import (
    Dropout,
    Identity,
    Layer,
    LayerDict,
    LayerList,
    LayerNorm,
    Linear,
    Parameter,
    ReLU,
    Sequential,
    Tensor,
    dropout,
    layer_norm,
    linear,
    ones,
    prepare_model,
    replace_layers,
    tensor,
)
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, PluginError, ShapeError, TinyTorchError
from tt_core.engine.plugins import hookimpl, manager
from tt_core.layers import StateDictError


class Block(Layer):
    """A layer with one of everything: a parameter, a buffer, a child, and a tensor that is none of these."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Parameter([1.0, 2.0])
        self.register_buffer("mean", tensor([3.0, 4.0]))
        self.inner = Linear(2, 2, bias=False)
        self.plain = tensor([5.0])

    def forward(self, x: Any) -> Any:
        return self.inner(x - self.mean) * self.scale


# --- registration


def test_parameters_buffers_and_layers_are_found_by_their_dotted_names() -> None:
    net = Sequential(Block(), ReLU())
    assert [name for name, _ in net.named_parameters()] == ["0.scale", "0.inner.weight"]
    assert [name for name, _ in net.named_buffers()] == ["0.mean"]
    assert [name for name, _ in net.named_layers()] == ["", "0", "0.inner", "1"]
    assert list(net.state_dict()) == ["0.scale", "0.mean", "0.inner.weight"]
    assert net.num_parameters() == 2 + 4


def test_assigning_something_else_takes_the_old_registration_away() -> None:
    block = Block()
    block.scale = None
    block.inner = None
    block.mean = None
    assert list(block.state_dict()) == []
    block.scale = Parameter([1.0])
    del block.scale
    assert list(block.parameters()) == []
    with pytest.raises(AttributeError):
        block.scale  # noqa: B018


def test_a_parameter_does_not_leave_the_model_in_silence() -> None:
    block = Block()
    with pytest.raises(DTypeError, match=r"Block: scale is a parameter, got a plain tensor; assign Parameter"):
        block.scale = block.scale.detach() * 0.5
    with pytest.raises(DTypeError, match="Block: gain must be a Parameter or None, got Tensor"):
        block.register_parameter("gain", tensor([1.0]).detach())
    assert "scale" in block.state_dict()


def test_a_tensor_in_the_place_of_a_buffer_is_the_buffer() -> None:
    block = Block()
    block.mean = block.mean * 2
    assert block.state_dict()["mean"].tolist() == [6, 8]
    block.mean = None
    assert [name for name, _ in block.named_buffers()] == []
    block.mean = tensor([5.0])
    block.register_buffer("later", None)
    block.later = tensor([1.0])
    assert list(block.state_dict()) == ["scale", "mean", "later", "inner.weight"]
    with pytest.raises(DTypeError, match="Block: buffer raw must be a tensor or None, got ndarray"):
        block.register_buffer("raw", np.zeros(1))


def test_a_layer_does_not_hold_itself() -> None:
    block = Block()
    inner = Sequential(Linear(1, 1))
    block.inner = inner
    for holder in (block, inner, inner[0]):
        with pytest.raises(TinyTorchError, match="cannot hold Block, which contains it"):
            holder.outer = block
    assert len(list(block.layers())) == 3
    with pytest.raises(TinyTorchError, match="Sequential: cannot hold Sequential"):
        inner.insert(0, inner)
    assert len(inner) == 1


def test_a_name_goes_from_parameter_to_layer() -> None:
    block = Block()
    block.scale = Linear(1, 1)
    assert list(block.state_dict()) == ["mean", "inner.weight", "scale.weight", "scale.bias"]


def test_a_buffer_that_does_not_persist_is_not_in_the_state() -> None:
    block = Block()
    block.register_buffer("cache", tensor([0.0]), persistent=False)
    assert "cache" not in block.state_dict()
    assert block.cache.tolist() == [0]
    block.cache = tensor([1.0])
    assert "cache" not in block.state_dict()
    assert [name for name, _ in block.named_buffers()] == ["mean", "cache"]
    assert block.double().cache.dtype == np.float64
    with pytest.raises(DTypeError, match="Block: cache is a buffer, got int"):
        block.cache = 1
    block.register_buffer("cache", block.cache)
    assert "cache" in block.state_dict()
    block.register_buffer("cache", block.cache, persistent=False)
    assert "cache" not in block.state_dict()


def test_a_shared_parameter_counts_once_and_stands_under_both_names() -> None:
    net = Sequential(Linear(3, 3, bias=False), Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 1
    assert net.num_parameters() == 9
    assert list(net.state_dict()) == ["0.weight", "1.weight"]


def test_super_init_comes_first() -> None:
    class Forgetful(Layer):
        def __init__(self) -> None:
            self.weight = Parameter([1.0])

    with pytest.raises(TinyTorchError, match=r"Forgetful: call super\(\).__init__\(\) before assigning weight"):
        Forgetful()


def test_a_layer_without_forward_says_so() -> None:
    class Nothing(Layer):
        pass

    for layer in (Layer(), Nothing()):
        with pytest.raises(NotImplementedError, match=rf"{type(layer).__name__} defines no forward\(self, ...\)"):
            layer(1)


@pytest.mark.parametrize("container", [Sequential, LayerList])
def test_containers_hold_layers_only(container: Any) -> None:
    held = container() if container is Sequential else container([])
    held.append(ReLU())
    assert (len(held), list(held)) == (1, [held[0]])
    with pytest.raises(
        DTypeError, match=rf"{container.__name__}: holds layers, got the function tanh; write Tanh\(\)$"
    ):
        held.append(tt_core.tanh.kernel)


def test_pop_takes_a_layer_out_and_numbers_the_rest_again() -> None:
    first, last = Linear(2, 3), Linear(3, 1)
    net = Sequential(first, ReLU(), last)
    assert net.pop(1).extra_repr() == ""
    assert list(net) == [first, last]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(OutOfRangeError, match="Sequential: no layer 2, there are 2"):
        net.pop(2)


def test_buffers_by_their_names() -> None:
    net = Sequential(ReLU())
    net[0].register_buffer("kept", tt_core.ones(2))
    net[0].register_buffer("passing", tt_core.zeros(2), persistent=False)
    net[0].register_buffer("none", None)
    assert net.get_buffer("0.kept") is net[0].kept
    assert net.get_buffer("0.passing") is net[0].passing
    for name, missing in (("0.none", "buffer '0.none'"), ("0.other", "buffer '0.other'"), ("1.kept", "layer '1'")):
        with pytest.raises(OutOfRangeError, match=f"Sequential: has no {missing}"):
            net.get_buffer(name)


# --- modes


def test_modes_reach_every_layer() -> None:
    net = Sequential(Block(), Sequential(ReLU()))
    assert net.eval() is net
    assert [layer.training for layer in net.layers()] == [False] * 5
    assert net[1].train().training
    assert not net.training


def test_apply_sees_children_first() -> None:
    seen: list[str] = []
    Sequential(Block(), ReLU()).apply(lambda layer: seen.append(type(layer).__name__))
    assert seen == ["Linear", "Block", "ReLU", "Sequential"]


# --- state


def test_a_state_dict_shares_memory_and_loading_copies_into_it() -> None:
    net, other = Block(), Block()
    memory = net.scale.data
    state = other.state_dict()
    state["scale"].data[:] = 7
    assert other.scale.tolist() == [7, 7]
    net.load_state_dict(state)
    assert net.scale.data is memory
    assert net.scale.tolist() == [7, 7]
    other.scale.data[:] = 8
    assert net.scale.tolist() == [7, 7]


def test_arrays_of_another_float_dtype_are_cast() -> None:
    net = Linear(2, 1)
    net.load_state_dict({"weight": np.array([[1.0, 2.0]], "f8"), "bias": np.array([3.0], "f2")})
    assert (net.weight.tolist(), net.bias.tolist()) == ([[1, 2]], [3])
    assert net.weight.dtype == np.float32


def unchanged(layer: Layer, state: dict[str, Any], *parts: str, strict: bool = True) -> None:
    """Loading fails, says each of `parts`, and leaves every number as it was."""
    before = {name: entry.numpy().copy() for name, entry in layer.state_dict().items()}
    with pytest.raises(StateDictError) as raised:
        layer.load_state_dict(state, strict=strict)
    for part in parts:
        assert part in str(raised.value)
    for name, entry in layer.state_dict().items():
        np.testing.assert_array_equal(entry.numpy(), before[name])


def test_a_state_that_does_not_fit_is_told_all_at_once() -> None:
    net = Sequential(Linear(2, 3), Linear(3, 1))
    state = {name: entry.numpy() + 1 for name, entry in net.state_dict().items()}
    state["head.weight"] = state.pop("1.weight")
    state["0.bias"] = np.zeros((4,), "f4")
    unchanged(
        net,
        state,
        "Sequential: state dict does not fit: 0.bias is (4,), expected (3,)",
        "missing 1.weight",
        "unexpected head.weight",
    )


def test_without_strict_entries_may_be_missing_or_unexpected_but_not_misshapen() -> None:
    net = Linear(2, 1)
    net.load_state_dict({"bias": tensor([5.0]), "other": tensor([1.0])}, strict=False)
    assert net.bias.tolist() == [5]
    unchanged(net, {"bias": tensor([6.0]), "weight": tensor([1.0])}, "weight is (1,), expected (1, 2)", strict=False)


def test_a_dtype_that_would_lose_numbers_is_refused_before_anything_is_copied() -> None:
    class Counter(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.weight = Parameter([1.0])
            self.register_buffer("count", tensor([1]))

    unchanged(Counter(), {"weight": [9.0], "count": np.array([1.5])}, "count is float64, expected int64")


def test_a_long_list_is_cut_short() -> None:
    net = LayerList([Linear(1, 1) for _ in range(20)])
    unchanged(net, {}, "missing 0.weight, 0.bias, 1.weight", "... and 32 more")


# --- repr


def test_the_tree_shows_arguments_and_parameter_counts() -> None:
    assert repr(ReLU()) == "ReLU()"
    assert repr(Linear(4, 3)).endswith("  # 15 parameters")
    net = Sequential(Linear(4, 3), ReLU(), Sequential(Linear(3, 1, bias=False)))
    assert repr(net).splitlines() == [
        "Sequential(",
        f"  (0): Linear({net[0].extra_repr()})  # 15",
        "  (1): ReLU()",
        "  (2): Sequential(",
        f"    (0): Linear({net[2][0].extra_repr()})  # 3",
        "  )  # 3",
        ")  # 18 parameters",
    ]


def test_parameters_are_marked_tensors() -> None:
    weight = Parameter(np.ones((2, 2)), dtype=np.float32)
    assert isinstance(weight, Tensor)
    assert weight.is_parameter
    assert weight.dtype == np.float32


# --- containers as lists


@pytest.mark.parametrize("container", [lambda layers: Sequential(*layers), LayerList])
def test_containers_do_what_lists_do(container: Any) -> None:
    plain = [Linear(n, 1) for n in range(1, 6)]
    held = container(plain[:3])

    def agree(expected: list[Any]) -> None:
        assert list(held) == expected
        assert [name for name, _ in held.named_children()] == [str(i) for i in range(len(expected))]
        assert len(held) == len(expected)

    assert type(held[1:]) is type(held)
    assert list(held[1:]) == plain[1:3] == list(held[-2:])
    assert held[-1] is plain[2]
    agree(plain[:3])
    held.insert(0, plain[3])
    agree([plain[3], *plain[:3]])
    held[-1] = plain[4]
    agree([plain[3], *plain[:2], plain[4]])
    del held[1]
    agree([plain[3], plain[1], plain[4]])
    del held[:2]
    agree([plain[4]])
    held.extend(iter(plain[:2])).append(plain[2])
    agree([plain[4], *plain[:3]])
    with pytest.raises(OutOfRangeError, match=f"{type(held).__name__}: no layer 4, there are 4"):
        held[4]
    with pytest.raises(DTypeError, match="holds layers, got int"):
        held[0] = 3
    with pytest.raises(DTypeError, match=r"holds layers, got the class ReLU; write ReLU\(\)"):
        held[0] = ReLU
    with pytest.raises(DTypeError, match=r"Sequential: holds layers, got list; write \*layers in place of layers"):
        Sequential([ReLU()])
    agree([plain[4], *plain[:3]])


def test_a_sequential_takes_names_from_a_dictionary() -> None:
    net = Sequential({"first": Linear(2, 3), "second": Linear(3, 1)})
    assert list(net.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert net[1] is net.second
    assert net(ones(4, 2)).shape == (4, 1)


def test_loading_without_strict_returns_what_did_not_match() -> None:
    missing, unexpected = Linear(1, 1).load_state_dict({"weight": np.ones((1, 1)), "scale": 1}, strict=False)
    assert (missing, unexpected) == (["bias"], ["scale"])


def test_loading_into_a_read_only_parameter_changes_nothing() -> None:
    layer = Linear(2, 1)
    layer.weight.data.flags.writeable = False
    before = layer.bias.tolist()
    with pytest.raises(StateDictError, match="weight is read-only in the layer"):
        layer.load_state_dict({"bias": np.ones(1), "weight": np.ones((1, 2))})
    assert layer.bias.tolist() == before
    with pytest.raises(DTypeError, match="load_state_dict: takes a dictionary of names and tensors, got list"):
        layer.load_state_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["sparse", np.int64, None.__class__])
def test_a_model_goes_to_floats_only(dtype: Any) -> None:
    with pytest.raises(DTypeError, match=r"Linear.to: takes a"):
        Linear(1, 1).to(dtype)


def test_what_is_added_under_a_name_is_a_layer() -> None:
    with pytest.raises(DTypeError, match="Block: holds layers, got int"):
        Block().add_layer("three", 3)  # type: ignore[arg-type]


def test_dropout_of_integers_is_an_error() -> None:
    with pytest.raises(DTypeError, match="dropout: needs a floating dtype, got int64"):
        tt_core.dropout(tensor([1, 2]), p=0.3)


def test_a_model_changes_its_dtype_and_keeps_what_it_shares() -> None:
    block = Block()
    block.register_buffer("count", tensor([3]))
    block.inner.weight = block.scale
    assert block.double() is block
    assert {name: str(entry.dtype) for name, entry in block.state_dict().items()} == {
        "scale": "float64",
        "mean": "float64",
        "count": "int64",
        "inner.weight": "float64",
    }
    assert block.inner.weight is block.scale
    assert block.float().scale.dtype == np.float32


def test_what_replaces_its_like_keeps_its_place() -> None:
    model = Sequential({"first": Linear(2, 3), "last": Linear(3, 1)})
    model.first = Linear(2, 3)
    assert list(model.state_dict()) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert model(ones(5, 2)).shape == (5, 1)
    model.last.weight = Parameter(np.zeros((1, 3), np.float32))
    assert [name for name, _ in model.last.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize("value", [np.ones((2, 2)), 3.0, [1.0]])
def test_what_is_no_tensor_takes_no_place_of_a_parameter_or_buffer(value: Any) -> None:
    block = Block()
    with pytest.raises(DTypeError, match="Block: scale is a parameter, got "):
        block.scale = value
    with pytest.raises(DTypeError, match=r"Block: mean is a buffer, got .*; use tensor"):
        block.mean = value
    assert list(block.state_dict()) == ["scale", "mean", "inner.weight"]


def test_what_is_assigned_to_a_copy_is_not_the_originals() -> None:
    block = Block()
    other = copy.copy(block)
    assert other.scale is block.scale
    other.scale = Parameter([7.0, 8.0])
    other.more = ReLU()
    assert block.state_dict()["scale"].tolist() == block.scale.tolist() == [1, 2]
    assert other.state_dict()["scale"].tolist() == [7, 8]
    assert [name for name, _ in block.named_children()] == ["inner"]


@pytest.mark.parametrize("name", ["", "a.b", "forward", 0])
def test_names_that_state_dicts_or_calls_would_stumble_over_are_refused(name: Any) -> None:
    for register in (
        lambda: Block().add_layer(name, ReLU()),
        lambda: Block().register_buffer(name, None),
        lambda: Block().register_parameter(name, None),
        lambda: Sequential({name: ReLU()}),
    ):
        with pytest.raises(DTypeError, match=f"a name is a text without dots that no method has, got {name!r}"):
            register()


def test_arguments_of_layers_are_named() -> None:
    with pytest.raises(DTypeError, match=r"Linear: takes integers, got 2.0, 3"):
        Linear(2.0, 3)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match=r"Linear.to: takes a dtype of floats such as 'float64', or 'cpu', got None"):
        Linear(2, 3).to(None)
    with pytest.raises(StateDictError, match=r"unexpected 0$"):
        Sequential().load_state_dict({0: ones(1)})  # type: ignore[dict-item]


# --- layer normalization


def test_layer_norm_refuses_a_bias_that_would_be_broadcast_and_takes_what_is_empty() -> None:
    with pytest.raises(ShapeError, match=r"bias has shape \(1,\), the last 1 dimensions of the input are \(3,\)"):
        layer_norm(ones(2, 3), ones(3), ones(1))
    assert layer_norm(ones(2, 0), ones(0), ones(0)).shape == (2, 0)
    assert LayerNorm(np.int64(3))(ones(2, 3)).shape == (2, 3)


def test_layer_norm_refuses_integers_and_dimensions_that_are_not_there() -> None:
    with pytest.raises(DTypeError, match="layer_norm: needs a floating dtype, got int64"):
        layer_norm(tensor([[1, 2]]))
    for dims in (0, -1, 3):
        with pytest.raises(ShapeError, match=f"layer_norm: dims is between 1 and the 2 dimensions .*, got {dims}"):
            layer_norm(ones(2, 3), dims=dims)


@pytest.mark.parametrize("rows", [2, 7, 32, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_few_rows_give_what_many_give(rows: int, dtype: str, order: Any) -> None:
    rng = np.random.default_rng(0)
    weight, bias = (
        np.asarray(rng.standard_normal((600, 640)), dtype, order=order),
        rng.standard_normal(600).astype(dtype),
    )
    x = rng.standard_normal((2 * rows, 640)).astype(dtype)[::2]  # rows that do not touch
    for given in (x, x[:, None]):
        result = linear.kernel(given, weight, bias)
        assert result.flags.c_contiguous
        assert result.dtype == dtype
        exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias.astype(np.float64)
        np.testing.assert_allclose(
            result.reshape(rows, 600), exact, rtol=1e-4, atol=1e-4 if dtype == "float32" else 1e-10
        )


def test_a_notebook_shows_the_tree_of_layers_with_counts() -> None:
    shown = Sequential(Linear(2, 3), Sequential(tt_core.Identity()))._repr_html_()
    assert shown.startswith("<details open><summary><code>Sequential()</code> <small>9 parameters</small></summary>")
    assert "<code>0: Linear(" in shown
    assert "<code>0: Identity()</code></li>" in shown


def test_dropout_outside_of_training_is_its_input() -> None:
    x = ones(4)
    assert dropout(x, 0.9, False).tolist() == [1.0] * 4
    with pytest.raises(ArgumentError, match="p is a probability"):
        dropout(x, 1.5, False)


# --- layers in plain containers


class Hidden(Layer):
    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept


@pytest.mark.parametrize(
    ("kept", "advice"),
    [
        ([Linear(2, 1)], "LayerList"),
        ({"a": Linear(2, 1)}, "LayerDict"),
        ([(1, [Linear(2, 1)])], "LayerList"),
        ({"a": [Parameter([1.0])]}, "LayerDict"),
    ],
    ids=["list", "dict", "nested", "parameter"],
)
def test_layers_in_a_plain_container_are_warned_of(kept: Any, advice: str) -> None:
    net = Sequential(Hidden(kept))
    for ask in (net.state_dict, lambda: list(net.parameters()), lambda: list(net.named_parameters())):
        with pytest.warns(UserWarning, match=rf"Sequential.0.kept is a .* keep layers in a {advice}"):
            ask()


def test_a_list_of_layers_that_are_registered_too_is_fine() -> None:
    net = Sequential(Linear(2, 1), Hidden([1, "a", None]))
    net.order = [net[0], net[0].weight]
    assert len(list(net.parameters())) == 2


def test_layer_dict_is_a_dictionary_whose_layers_are_found() -> None:
    heads = LayerDict([("a", Linear(2, 1)), ("b", ReLU())])
    heads["c"] = Linear(1, 1)
    assert list(heads.keys()) == ["a", "b", "c"] == list(dict(heads.items()))
    assert list(heads.state_dict()) == ["a.weight", "a.bias", "c.weight", "c.bias"]
    del heads["a"]
    assert isinstance(heads.pop("b"), ReLU)
    assert len(heads) == 1
    with pytest.raises(OutOfRangeError, match="no layer is called d; known: c"):
        heads["d"]
    with pytest.raises(DTypeError, match="a name is a text"):
        heads["items"] = ReLU()
    heads.clear()
    assert list(heads.values()) == []


# --- exchanging layers


def test_replace_layers_keeps_places_order_ties_and_modes() -> None:
    shared = Linear(2, 2)
    model = Sequential(shared, Dropout(0.5), Sequential(shared, Linear(2, 3))).eval()
    model[2].train()
    asked: list[str] = []

    def chosen(layer: Layer, name: str) -> bool:
        asked.append(name)
        return isinstance(layer, Linear)

    made: list[Layer] = []

    def make(layer: Layer) -> Layer:
        made.append(Linear(layer.in_features, layer.out_features, bias=False))
        return made[-1]

    assert replace_layers(model, chosen, make) is model
    assert asked == ["", "0", "1", "2", "2.1"]  # the shared one is asked about once
    assert len(made) == 2
    assert model[0] is model[2][0] is made[0]
    assert [name for name, _ in model.named_layers()] == ["", "0", "1", "2", "2.1"]
    assert made[0].training  # as the layer that it replaces
    assert not model[1].training
    assert list(model.state_dict()) == ["0.weight", "2.0.weight", "2.1.weight"]


def test_replace_layers_does_not_look_below_what_it_exchanges() -> None:
    model = Sequential(Sequential(Linear(2, 2)))
    replace_layers(model, lambda layer, name: name in ("0", "0.0"), lambda layer: Identity())
    assert isinstance(model[0], Identity)


def test_replace_layers_exchanges_the_model_itself() -> None:
    model = Linear(2, 2)
    new = replace_layers(model, lambda layer, name: name == "", lambda layer: Sequential(layer))
    assert isinstance(new, Sequential)
    assert new[0] is model


def test_replace_layers_changes_nothing_when_it_fails() -> None:
    model = Sequential(Linear(2, 2), Linear(3, 3))
    before = list(model)

    def make(layer: Layer) -> Layer:
        return Identity() if layer.in_features == 2 else None  # type: ignore[return-value]

    with pytest.raises(DTypeError, match="replace_layers: make must return a layer, got NoneType"):
        replace_layers(model, lambda layer, name: isinstance(layer, Linear), make)
    assert list(model) == before


def test_prepare_model_asks_the_plugins() -> None:
    class Wraps:
        @hookimpl
        def tt_prepare_model(self, model: Layer, options: dict[str, object]) -> Layer | None:
            return Sequential(model) if options["in_place"] else None

    model = Linear(2, 2)
    assert prepare_model(model) is model
    manager.register(Wraps(), "wraps")
    try:
        assert prepare_model(model) is model
        assert isinstance(prepare_model(model, in_place=True), Sequential)
    finally:
        manager.unregister(name="wraps")
    assert prepare_model(model, in_place=True) is model


def test_plugins_exclude_each_other_in_both_directions() -> None:
    class Other:
        @hookimpl
        def tt_report(self) -> None:
            return None

    class Alone(Other):
        excludes = ("other",)

    for first, second in ((Alone(), Other()), (Other(), Alone())):
        names = {Alone: "alone", Other: "other"}
        manager.register(first, names[type(first)])
        try:
            with pytest.raises(PluginError, match=r"plugin \w+ and plugin \w+ exclude each other; use one of them"):
                manager.register(second, names[type(second)])
            assert not manager.is_registered(second)
        finally:
            manager.unregister(first)


# --- a forward that somebody replaces


class Twice(Layer):
    def forward(self, x: Any) -> Any:
        return x * 2


class Outer:
    """A plugin whose wrap adds 100 to what a layer returns."""

    @hookimpl
    def tt_wrap_layer(self, layer_type: Any, call: Any) -> Any:
        return lambda layer, *inputs, **options: call(layer, *inputs, **options) + 100


@pytest.mark.parametrize("plugged", [False, True])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_forward_that_is_replaced_is_the_one_that_is_called(
    plugged: bool, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, other, more = Twice(), Twice(), 100.0 * plugged
    if hooked:
        layer.register_forward_hook(lambda layer, inputs, output: output + 1)
    with tt_core.use(Outer()) if plugged else contextlib.nullcontext():
        more += hooked
        assert layer(ones(1)).item() == 2 + more
        monkeypatch.setattr(Twice, "forward", lambda self, x: x * 3)  # as a reloaded module does
        assert layer(ones(1)).item() == 3 + more
        layer.forward = lambda x: x * 5  # type: ignore[method-assign]
        assert (layer(ones(1)).item(), other(ones(1)).item()) == (5 + more, 3 + 100.0 * plugged)
        del layer.forward
        assert layer(ones(1)).item() == 3 + more
    monkeypatch.setattr(ReLU, "forward", lambda self, x: x * 7)
    assert ReLU()(ones(1)).item() == 7


def test_an_error_in_a_replaced_forward_is_that_of_the_user() -> None:
    layer = Twice()
    layer.forward = lambda x: 1 / 0  # type: ignore[method-assign]
    with tt_core.use(Outer()), pytest.raises(ZeroDivisionError):
        layer(ones(1))
