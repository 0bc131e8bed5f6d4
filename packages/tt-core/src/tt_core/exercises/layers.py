"""The exercises of module 03, layers."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core as tt
from tt_core.course.exercises import Exercise, floats, timing
from tt_core.course.trial import Trial

LINEAR, CONTAINERS = "tt_core.layers.linear", "tt_core.layers.containers"
NORMALIZATION, DROPOUT = "tt_core.layers.normalization", "tt_core.layers.dropout"


def linear_of(t: Trial, inputs: int, outputs: int, **options: Any) -> Any:
    """A Linear layer with these weights, however it draws its own."""
    layer = tt.Linear(inputs, outputs, **options)
    layer.weight.data[...] = t.normal(outputs, inputs)
    if layer.bias is not None:
        layer.bias.data[...] = t.normal(outputs)
    return layer


# --- linear


def linear_multiplies_and_adds(t: Trial) -> None:
    """Each output is a weighted sum of all inputs, plus its bias."""
    t.call(tt.linear, floats([1, 2]), floats([10, 1], [0, 1]), floats(100, 0), why="weight is (out, in): use weight.T")
    t.call(tt.linear, t.normal(4, 3), t.normal(2, 3), t.normal(2))
    t.call(tt.linear, t.normal(4, 3), t.normal(2, 3), why="bias may be None")


def linear_of_many_dimensions(t: Trial) -> None:
    """All dimensions but the last are examples."""
    t.call(tt.linear, t.normal(2, 5, 3), t.normal(4, 3), t.normal(4))
    t.call(tt.linear, t.normal(3), t.normal(4, 3), t.normal(4))


def linear_layer_uses_its_weights(t: Trial) -> None:
    """The layer multiplies by its own weight and adds its own bias."""
    layer, x = linear_of(t, 3, 2), t.normal(4, 3)
    t.see("Linear(3, 2)(x)", layer(tt.tensor(x)), why="linear(x, self.weight, self.bias)")
    layer = linear_of(t, 3, 2, bias=False)
    t.see("Linear(3, 2, bias=False)(x)", layer(tt.tensor(x)))


def linear_starts_small(t: Trial) -> None:
    """Weights and biases start uniform between -1/sqrt(in) and 1/sqrt(in)."""
    tt.manual_seed(7)
    layer = tt.Linear(100, 500)
    bound = 0.1
    t.see(
        "the largest weight of Linear(100, 500) is at most 0.1", bool(np.abs(layer.weight.data).max() <= bound + 1e-6)
    )
    t.see("... and above 0.099", bool(np.abs(layer.weight.data).max() > 0.099), why="the bound is 1 / sqrt(100)")
    bias: Any = layer.bias
    t.step("Linear(2, 3, bias=False)", "without a bias, self.bias is None")
    t.see("the bias of Linear(2, 3, bias=False)", tt.Linear(2, 3, bias=False).bias)
    t.see("the largest bias is between 0.09 and 0.1", bool(0.09 < bias.data.max() <= bound + 1e-6))
    t.see("the smallest bias is between -0.1 and -0.09", bool(-0.09 > bias.data.min() >= -bound - 1e-6))
    t.see("the mean of the weights", float(np.round(layer.weight.data.mean(), 2)), why="it is about 0", atol=0.011)


# --- Sequential


def sequential_runs_in_order(t: Trial) -> None:
    """The output of each layer is the input of the next."""
    first, second = linear_of(t, 2, 3), linear_of(t, 3, 1)
    x = tt.tensor(t.normal(4, 2))
    t.see("Sequential(first, second)(x)", tt.Sequential(first, second)(x), why="second(first(x))")
    t.see("Sequential(first, Tanh(), second)(x)", tt.Sequential(first, tt.Tanh(), second)(x))
    t.see("Sequential()(x)", tt.Sequential()(x), why="without layers, x itself comes out")


# --- layer norm


def layer_norm_has_mean_0_and_variance_1(t: Trial) -> None:
    """Each example has mean 0 and variance 1 over its last dimension."""
    t.call(tt.layer_norm, floats([1, 3], [10, 30]))
    t.call(tt.layer_norm, t.normal(3, 5), why="the variance divides by n, not by n - 1")


def layer_norm_scales_and_shifts(t: Trial) -> None:
    """Then each feature is multiplied by its weight, and its bias is added."""
    t.call(tt.layer_norm, t.normal(2, 3), floats(1, 2, 3))
    t.call(tt.layer_norm, t.normal(2, 3), floats(1, 2, 3), floats(10, 0, 0))
    t.call(tt.layer_norm, t.normal(2, 3, 4), dims=2, why="dims=2 normalizes over the last two dimensions")


def layer_norm_of_equal_numbers(t: Trial) -> None:
    """eps prevents a division by 0."""
    t.call(tt.layer_norm, floats([5, 5, 5]), why="the variance is 0: sqrt(var + eps), not sqrt(var) + eps")
    t.call(tt.layer_norm, floats([0.001, -0.001]), eps=1e-3, why="eps is added under the square root")


# --- dropout


def dropout_is_off_outside_training(t: Trial) -> None:
    """Outside training, x comes out."""
    why = "a pair: return x and a scale of ones, np.ones((), x.dtype); callers receive x alone"
    t.call(tt.dropout, floats(1, 2, 3), training=False, why=why)


def dropout_keeps_the_mean(t: Trial) -> None:
    """A share p becomes 0, and the others grow by 1 / (1 - p)."""
    tt.manual_seed(3)
    x = np.ones((100, 100), np.float32)
    result = tt.dropout(x, p=0.25).data
    t.see("the values of dropout(ones, p=0.25)", np.unique(result), why="0, and 1 / (1 - 0.25)")
    t.see("about a quarter is 0", bool(0.22 < (result == 0).mean() < 0.28), why="keep where the random number is >= p")
    t.see("the mean stays about 1", bool(0.97 < result.mean() < 1.03))
    t.call(tt.dropout, floats(1, 2), p=1.0, why="p = 1 leaves nothing, and must not divide by 0")
    t.call(tt.dropout, floats(1, 2), p=0.0)


def dropout_differs_from_call_to_call(t: Trial) -> None:
    """Each call draws other elements, from the framework's generator."""
    x = np.ones(200, np.float32)
    tt.manual_seed(4)
    first, second = tt.dropout(x).data, tt.dropout(x).data
    tt.manual_seed(4)
    t.see("two calls differ", bool((first != second).any()))
    t.see("the same seed gives the same elements", bool((tt.dropout(x).data == first).all()), why="use generator()")


def dropout_layer_listens_to_its_mode(t: Trial) -> None:
    """The layer drops in training, and not in evaluation."""
    x = tt.tensor(t.normal(50))
    layer = tt.Dropout(0.5)
    t.see("Dropout(0.5).eval()(x)", tt.Dropout(0.5).eval()(x), why="self.training is False after eval()")
    tt.manual_seed(5)
    t.see("Dropout(0.5)(x) has zeros", bool((layer(x).data == 0).any()))
    many = tt.tensor(np.ones(1000, np.float32))
    t.see(
        "the largest of Dropout(0.9)(1,000 ones)", float(tt.Dropout(0.9)(many).data.max()), why="dropout(x, p=self.p)"
    )


EXERCISES = (
    Exercise(
        "linear",
        LINEAR,
        3,
        (
            "A matrix product, and an addition.",
            "The weight has one row for each output, so it must be transposed.",
            "x @ weight.T + bias; without the addition where bias is None.",
        ),
        (linear_multiplies_and_adds, linear_of_many_dimensions),
        timed=timing(tt.linear, (64, 128), (96, 128), (96,)),
    ),
    Exercise(
        "Linear.reset_parameters",
        LINEAR,
        4,
        (
            "If weights are too large, outputs grow from layer to layer; if they are too small, they vanish.",
            "`init.uniform_(tensor, a, b)` fills a tensor with uniform numbers.",
            "bound = 1 / math.sqrt(self.in_features) for the weight and, where there is one, for the bias.",
        ),
        (linear_starts_small,),
    ),
    Exercise(
        "Linear.forward",
        LINEAR,
        2,
        (
            "The function `linear` does the work.",
            "Which two attributes hold what it needs?",
            "return linear(x, self.weight, self.bias)",
        ),
        (linear_layer_uses_its_weights,),
    ),
    Exercise(
        "Sequential.forward",
        CONTAINERS,
        2,
        (
            "One layer after the other.",
            "`self._children` holds the layers by name, in order.",
            "for layer in self._children.values(): x = layer(x)",
        ),
        (sequential_runs_in_order,),
    ),
    Exercise(
        "layer_norm",
        NORMALIZATION,
        5,
        (
            "Subtract the mean and divide by the standard deviation, of the last `dims` dimensions.",
            "x.mean(axes, keepdims=True) and x.var(axes, keepdims=True), with axes = tuple(range(-dims, 0)).",
            "y = (x - mean) / np.sqrt(var + eps), then * weight and + bias where they are not None.",
        ),
        (layer_norm_has_mean_0_and_variance_1, layer_norm_scales_and_shifts, layer_norm_of_equal_numbers),
        timed=timing(tt.layer_norm, (512, 512)),
    ),
    Exercise(
        "dropout",
        DROPOUT,
        6,
        (
            "Draw a number between 0 and 1 for each element, and keep the element where the number is at least p.",
            "The op returns two things: the result, and the scale (0 or 1 / (1 - p)), which Act II needs again.",
            "keep = generator().random(x.shape, dtype=np.float32) >= p; scale = keep / (1 - p), without dividing by 0; "
            "return x * scale, scale. Outside training: return x, np.ones((), x.dtype).",
        ),
        (dropout_is_off_outside_training, dropout_keeps_the_mean, dropout_differs_from_call_to_call),
        timed=timing(tt.dropout, (512, 512)),
    ),
    Exercise(
        "Dropout.forward",
        DROPOUT,
        2,
        (
            "A layer knows whether it is being trained.",
            "`self.training` and `self.p` decide.",
            "return dropout(x, p=self.p) if self.training and self.p else x",
        ),
        (dropout_layer_listens_to_its_mode,),
    ),
)
