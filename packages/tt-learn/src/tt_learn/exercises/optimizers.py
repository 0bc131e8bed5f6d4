"""The exercises of module 06, optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, floats
from tt_core.course.trial import Trial
from tt_learn.autograd import Tensor
from tt_learn.optimizers import clipping, schedulers
from tt_learn.optimizers import optimizers as O
from tt_learn.optimizers.blocks import State

FILE, CLIPPING, SCHEDULERS = (f"tt_learn.optimizers.{name}" for name in ("optimizers", "clipping", "schedulers"))


def steps(t: Trial, made: str, make: Callable[[Any], Any], gradients: list[list[float]], why: str = "") -> Any:
    """Steps of an optimizer on the parameter [1, 2], with these gradients; records the parameter after each."""
    w = Tensor(floats(1, 2), requires_grad=True)
    optimizer = make([w])
    for i, g in enumerate(gradients):
        text = f"w after step {i + 1} of {made} with the gradient {g}"
        t.step(text, why)
        w.grad = Tensor(floats(*g))
        optimizer.step()
        t.see(text, w.data, why)
    t.see("the gradient after the last step", w.grad, why="an update reads the gradient and must not change it")
    return optimizer


def on_many(make: Callable[[Any], Any]) -> Callable[[], Callable[[], Any]]:
    """Times a step on 400,000 parameters."""

    def prepare() -> Callable[[], Any]:
        draw = np.random.default_rng(0)
        w = Tensor(draw.standard_normal((500, 800)).astype(np.float32), requires_grad=True)
        w.grad = Tensor(draw.standard_normal((500, 800)).astype(np.float32))
        optimizer: Any = make([w])
        return lambda: optimizer.step()

    return prepare


# --- penalized


def penalty_pulls_to_zero(t: Trial) -> None:
    """The gradient of an L2 penalty is weight_decay times the parameter."""
    p, g = floats(2, -4), floats(1, 1)
    t.see("penalized(p, g, weight_decay=0.5) with p = [2, -4], g = [1, 1]",
          O.penalized(p, g, {"weight_decay": 0.5, "maximize": False}), why="g + weight_decay p")  # fmt: skip
    t.see("the same with weight_decay=0", O.penalized(p, g, {"weight_decay": 0.0, "maximize": False}))
    t.see("g afterwards", g, why="g belongs to the parameter's grad: make a new array, not g += ...")


def penalty_when_maximizing(t: Trial) -> None:
    """To maximize, the sign of the gradient changes, and that of the penalty does not."""
    p, g = floats(2, -4), floats(1, 3)
    t.see("penalized(p, g, weight_decay=0.5, maximize=True) with p = [2, -4], g = [1, 3]",
          O.penalized(p, g, {"weight_decay": 0.5, "maximize": True}),
          why="weights are to become smaller in both cases")  # fmt: skip
    t.see("the same with weight_decay=0", O.penalized(p, g, {"weight_decay": 0.0, "maximize": True}))
    t.see("g afterwards", g, why="make a new array")


# --- momentum


def momentum_starts_with_the_gradient(t: Trial) -> None:
    """At the first step, the running direction is the gradient."""
    state = State({"momentum_buffer": floats(0, 0)})
    state.unset.add("momentum_buffer")
    g, group = floats(1, -2), {"momentum": 0.9, "dampening": 0.5}
    t.step(
        "momentum([1, -2], state, group) at the first step", why="'momentum_buffer' in state.unset: nothing is there"
    )
    b = O.momentum(g, state, group)
    t.see("momentum([1, -2], state, group) at the first step", b, why="dampening does not act at the first step")
    t.see(
        "state['momentum_buffer'] afterwards", state["momentum_buffer"], why="b[...] = g fills the array that is kept"
    )
    b[...] = 7
    t.see("g after the result was changed", g, why="copy g into the array, do not keep g itself")


def momentum_remembers(t: Trial) -> None:
    """Later, the direction is a sum of gradients that fade out."""
    buffer = floats(1, 2)
    state = State({"momentum_buffer": buffer})
    t.step("momentum([10, 10], state, momentum=0.5, dampening=0.2)")
    b = O.momentum(floats(10, 10), state, {"momentum": 0.5, "dampening": 0.2})
    t.see("momentum([10, 10], state, momentum=0.5, dampening=0.2) with b = [1, 2]", b,
          why="momentum b + (1 - dampening) g")  # fmt: skip
    t.see("the array that the state had", buffer, why="change the array in place: b[...] = ...")


# --- SGD


def sgd_goes_down(t: Trial) -> None:
    """The parameter moves against its gradient, by lr times its length."""
    steps(t, "SGD(lr=0.1)", lambda w: O.SGD(w, lr=0.1), [[1, -2], [10, 0]], "p -= lr g, in place")
    steps(t, "SGD(lr=0.5, weight_decay=0.1)", lambda w: O.SGD(w, lr=0.5, weight_decay=0.1), [[1, 1]],
          "call penalized first")  # fmt: skip
    steps(t, "SGD(lr=0.5, maximize=True)", lambda w: O.SGD(w, lr=0.5, maximize=True), [[1, 1]])


def sgd_with_momentum(t: Trial) -> None:
    """With momentum, it moves along the running direction."""
    steps(t, "SGD(lr=0.1, momentum=0.9)", lambda w: O.SGD(w, lr=0.1, momentum=0.9), [[1, 1], [1, 1], [0, 0]],
          "after a gradient of 0 it still rolls on")  # fmt: skip
    steps(t, "SGD(lr=0.1, momentum=0.5, dampening=0.5, weight_decay=0.1)",
          lambda w: O.SGD(w, lr=0.1, momentum=0.5, dampening=0.5, weight_decay=0.1), [[1, 1], [2, -1]])  # fmt: skip


def sgd_looks_ahead(t: Trial) -> None:
    """Nesterov's direction is g + momentum b."""
    steps(t, "SGD(lr=0.1, momentum=0.9, nesterov=True)", lambda w: O.SGD(w, lr=0.1, momentum=0.9, nesterov=True),
          [[1, 1], [1, -1]], "g + momentum b, where b already contains g")  # fmt: skip


# --- RMSprop


def rmsprop_divides_by_size(t: Trial) -> None:
    """Large and small gradients give steps of about the same size."""
    steps(t, "RMSprop(lr=0.1, alpha=0.75)", lambda w: O.RMSprop(w, lr=0.1, alpha=0.75), [[2, 200], [2, -200], [0, 1]],
          "v = alpha v + (1 - alpha) g^2, then p -= lr g / (sqrt(v) + eps)")  # fmt: skip
    steps(t, "RMSprop(lr=0.1, eps=1)", lambda w: O.RMSprop(w, lr=0.1, eps=1.0), [[1, 1]], "eps is added after the root")
    steps(t, "RMSprop(lr=0.1, weight_decay=0.5)", lambda w: O.RMSprop(w, lr=0.1, weight_decay=0.5), [[1, 1]])


def rmsprop_of_zero(t: Trial) -> None:
    """A gradient of 0 moves nothing, and is not divided by 0."""
    steps(t, "RMSprop(lr=0.1)", lambda w: O.RMSprop(w, lr=0.1), [[0, 1]], "eps keeps the divisor above 0")


def rmsprop_with_options(t: Trial) -> None:
    """Centred, v is the variance; with momentum, the quotients are added up."""
    steps(t, "RMSprop(lr=0.1, centered=True)", lambda w: O.RMSprop(w, lr=0.1, centered=True), [[1, 2], [3, -1]],
          "subtract the square of the running mean from v - but not from the v that is kept")  # fmt: skip
    steps(t, "RMSprop(lr=0.1, alpha=0.5, centered=True)",
          lambda w: O.RMSprop(w, lr=0.1, alpha=0.5, centered=True), [[1, 2], [3, -1], [-1, 1]],
          "the running mean fades as v does: alpha mean + (1 - alpha) g")  # fmt: skip
    steps(t, "RMSprop(lr=0.1, momentum=0.5)", lambda w: O.RMSprop(w, lr=0.1, momentum=0.5), [[1, 2], [3, -1]],
          "b = momentum b + g / (sqrt(v) + eps)")  # fmt: skip


# --- Adam


def adam_takes_a_first_step_of_lr(t: Trial) -> None:
    """The first step has the length lr, whatever the size of the gradient."""
    steps(t, "Adam(lr=0.1)", lambda w: O.Adam(w, lr=0.1), [[0.001, -1000]],
          "the bias correction: at the first step m / (1 - beta1^step) is g, v / (1 - beta2^step) is g^2")  # fmt: skip


def adam_follows_running_means(t: Trial) -> None:
    """Later steps follow the running means of g and of g^2."""
    made = steps(t, "Adam(lr=0.1, betas=(0.5, 0.75))", lambda w: O.Adam(w, lr=0.1, betas=(0.5, 0.75)),
                 [[1, 2], [1, -2], [0, 4]], "beta^step, with the number of this step")  # fmt: skip
    entry = made.state_dict()["state"][0]
    t.see("m = exp_avg", entry["exp_avg"], why="m = beta1 m + (1 - beta1) g; keep it without the correction")
    t.see("v = exp_avg_sq", entry["exp_avg_sq"], why="v = beta2 v + (1 - beta2) g^2; keep it without the correction")
    steps(t, "Adam(lr=0.1, eps=1)", lambda w: O.Adam(w, lr=0.1, eps=1.0), [[1, 2], [3, 4]],
          "eps is added to sqrt(v_hat), not to v_hat")  # fmt: skip


def adam_with_the_largest_v(t: Trial) -> None:
    """amsgrad divides by the largest v so far."""
    steps(t, "Adam(lr=0.1, betas=(0.5, 0.5), amsgrad=True)",
          lambda w: O.Adam(w, lr=0.1, betas=(0.5, 0.5), amsgrad=True), [[4, 4], [1, 8], [1, 1]],
          "max_exp_avg_sq = max(max_exp_avg_sq, v), before the correction")  # fmt: skip


# --- AdamW


def adamw_shrinks_the_weights(t: Trial) -> None:
    """The weights shrink by lr weight_decay of themselves, whatever the gradient is."""
    steps(t, "AdamW(lr=0.1, weight_decay=0.5)", lambda w: O.AdamW(w, lr=0.1, weight_decay=0.5), [[0, 1], [1000, 1]],
          "p -= lr weight_decay p, before the step of Adam")  # fmt: skip


def adamw_keeps_decay_out_of_the_means(t: Trial) -> None:
    """m and v are means of the gradient alone."""
    made = steps(t, "AdamW(lr=0.1, weight_decay=0.5)", lambda w: O.AdamW(w, lr=0.1, weight_decay=0.5), [[0, 1], [2, 3]])
    entry = made.state_dict()["state"][0]
    t.see("m = exp_avg", entry["exp_avg"], why="the decay does not go through the gradient: no penalized here")
    t.see("v = exp_avg_sq", entry["exp_avg_sq"])
    steps(t, "AdamW(lr=0.1, weight_decay=0.5, maximize=True)",
          lambda w: O.AdamW(w, lr=0.1, weight_decay=0.5, maximize=True), [[1, 1]],
          "only the gradient changes its sign")  # fmt: skip


# --- clipping


def norm_of_all_gradients(t: Trial) -> None:
    """All gradients count as one long vector."""
    t.see("total_norm([[3.], [4.]], 2)", clipping.total_norm([floats(3), floats(4)], 2.0), why="sqrt(9 + 16)")
    matrix = t.normal(3, 4)
    t.see("the norm of a matrix and a vector", clipping.total_norm([matrix, floats(1, -2)], 2.0),
          why="the sum of the squares of all elements of all gradients, then one root")  # fmt: skip
    t.see("total_norm([[3., -4.], [1.]], 1)", clipping.total_norm([floats(3, -4), floats(1)], 1.0), why="|g|^p")
    t.see("total_norm([[2.], [-2., 3.]], 3)", clipping.total_norm([floats(2), floats(-2, 3)], 3.0), why="|-2|^3 is 8")
    t.see("total_norm([[3., -4.], [1.]], inf)", clipping.total_norm([floats(3, -4), floats(1)], float("inf")),
          why="the largest absolute value")  # fmt: skip
    t.see("total_norm([[0.25], [-0.5]], inf)", clipping.total_norm([floats(0.25), floats(-0.5)], float("inf")))
    t.see("total_norm([], 2)", clipping.total_norm([], 2.0))


def norm_at_the_limits(t: Trial) -> None:
    """Squares of float16 numbers must not overflow, and nan must not get lost."""
    half = np.array([300, 400], np.float16)
    t.see("total_norm of float16 [300, 400]", clipping.total_norm([half], 2.0), why="300^2 is above 65504", atol=1e-2)
    t.see("total_norm([[nan], [5.]], inf)", clipping.total_norm([floats(np.nan), floats(5)], float("inf")),
          why="Python's max loses nan, np.max does not")  # fmt: skip


def scale_all_by_one_factor(t: Trial) -> None:
    """All gradients shrink by the same factor, so the direction stays."""
    a, b = floats(3, 0), floats(4)
    t.see("scale_down([[3, 0], [4]], max_norm=1, total=5)", clipping.scale_down([a, b], 1.0, 5.0),
          why="max_norm / (total + 1e-6)")  # fmt: skip
    t.see("the first gradient", a, why="change it in place: g *= scale")
    t.see("the second gradient", b)


def scale_leaves_small_gradients(t: Trial) -> None:
    """Gradients below the limit stay as they are."""
    a = floats(0.3, 0.4)
    t.see(
        "scale_down([[0.3, 0.4]], max_norm=1, total=0.5)",
        clipping.scale_down([a], 1.0, 0.5),
        why="the factor is returned as it is, here about 2, and nothing is multiplied",
    )
    t.see("the gradient", a, why="a factor of 1 or more changes nothing")
    bad = floats(1, np.nan)
    clipping.scale_down([bad], 1.0, float("nan"))
    t.see("a gradient whose norm is nan", bad, why="nan >= 1 is False: all become nan, and the error is seen")


# --- schedules


def rates(
    t: Trial, made: str, make: Callable[[Any], Any], at: tuple[int, ...], base: float = 1.0, why: str = ""
) -> None:
    """Record the rates of a schedule after some numbers of steps."""
    schedule = make(O.SGD([Tensor(floats(1), requires_grad=True)], lr=base))
    for step in at:
        text = f"{made}: lr_at({step}, {base})"
        t.step(text, why)
        t.see(text, float(schedule.lr_at(step, base)), why)


def a_line(t: Trial) -> None:
    """A line from start to end."""
    for start, end, done in ((1.0, 0.0, 0.25), (2.0, 4.0, 0.5), (3.0, 5.0, 0.0), (3.0, 5.0, 1.0)):
        t.call(schedulers.linear, start, end, done, why="start, plus a share of the way to the end")


def half_a_cosine(t: Trial) -> None:
    """Flat at the start and at the end, steep between."""
    for start, end, done in ((1.0, 0.0, 0.0), (1.0, 0.0, 0.5), (1.0, 0.0, 0.25), (1.0, 0.1, 1.0), (2.0, 4.0, 0.3)):
        t.call(schedulers.cosine, start, end, done, why="(1 + cos(pi done)) / 2 goes from 1 to 0")


def step_lr_falls_in_steps(t: Trial) -> None:
    """The rate is multiplied by gamma after each step_size steps."""
    rates(t, "StepLR(step_size=3, gamma=0.1)", lambda o: schedulers.StepLR(o, 3), (0, 2, 3, 5, 6), why="gamma^(t // 3)")
    rates(t, "StepLR(step_size=2, gamma=0.5)", lambda o: schedulers.StepLR(o, 2, 0.5), (1, 2, 7), base=4.0)


def warmup_rises(t: Trial) -> None:
    """In the warm-up the rate rises in a line, and is not 0 at first."""
    rates(t, "CosineWarmupLR(3, 9)", lambda o: schedulers.CosineWarmupLR(o, 3, 9), (0, 1, 2, 3),
          base=2.0, why="base (t + 1) / (warmup_steps + 1)")  # fmt: skip
    rates(t, "CosineWarmupLR(0, 4)", lambda o: schedulers.CosineWarmupLR(o, 0, 4), (0, 1), why="without a warm-up")


def cosine_falls(t: Trial) -> None:
    """Then it falls along half a cosine to min_lr, and stays there."""
    rates(t, "CosineWarmupLR(3, 9, min_lr=0.1)", lambda o: schedulers.CosineWarmupLR(o, 3, 9, 0.1), (3, 4, 6, 9),
          base=2.0, why="the share done is (t - warmup_steps) / (total_steps - warmup_steps)")  # fmt: skip
    rates(t, "CosineWarmupLR(3, 9, min_lr=0.1)", lambda o: schedulers.CosineWarmupLR(o, 3, 9, 0.1), (10, 15),
          why="after total_steps the share is 1, not more: the cosine would rise again")  # fmt: skip


EXERCISES = (
    Exercise(
        "penalized",
        FILE,
        2,
        (
            "The penalty is weight_decay / 2 times the sum of p^2. What is its gradient?",
            "g + weight_decay p. To maximize, g changes its sign first.",
            "g = -g if group['maximize'] else g; then add group['weight_decay'] * p, into a new array.",
        ),
        (penalty_pulls_to_zero, penalty_when_maximizing),
    ),
    Exercise(
        "momentum",
        FILE,
        4,
        (
            "A ball that rolls: its old velocity fades, and the slope adds to it.",
            "b = momentum b + (1 - dampening) g; at the first step (the name is in state.unset) b = g.",
            "b = state['momentum_buffer']; b[...] = g if first else ...; return b.",
        ),
        (momentum_starts_with_the_gradient, momentum_remembers),
    ),
    Exercise(
        "SGD.update",
        FILE,
        4,
        (
            "Three steps: the penalty, the momentum if there is one, the move.",
            "penalized and momentum do the first two. With nesterov the direction is g + momentum b.",
            "g = penalized(p, g, group); if group['momentum']: b = momentum(g, state, group); p -= lr * direction.",
        ),
        (sgd_goes_down, sgd_with_momentum, sgd_looks_ahead),
        timed=on_many(lambda w: O.SGD(w, momentum=0.9)),
    ),
    Exercise(
        "RMSprop.update",
        FILE,
        6,
        (
            "Divide the gradient by how large it usually is.",
            "v is a running mean of g^2: v[...] = alpha * v + (1 - alpha) * g**2. Move by lr g / (sqrt(v) + eps).",
            "Centred: keep the mean of g, too, and use v - mean**2. With momentum: b[...] = momentum * b + direction.",
        ),
        (rmsprop_divides_by_size, rmsprop_of_zero, rmsprop_with_options),
        timed=on_many(lambda w: O.RMSprop(w)),
    ),
    Exercise(
        "adam",
        FILE,
        8,
        (
            "Momentum and RMSprop together: running means of g and of g^2.",
            "m and v begin at 0, so they are too small at first: divide by 1 - beta^step, but keep them undivided.",
            "m[...] = beta1 * m + (1 - beta1) * g, v with g**2; m_hat = m / (1 - beta1**step), v_hat with beta2; "
            "p -= lr * m_hat / (np.sqrt(v_hat) + eps). With amsgrad, max_exp_avg_sq keeps the largest v, for its "
            "place.",
        ),
        (adam_takes_a_first_step_of_lr, adam_follows_running_means, adam_with_the_largest_v),
        timed=on_many(lambda w: O.Adam(w)),
    ),
    Exercise(
        "AdamW.update",
        FILE,
        4,
        (
            "In Adam, a penalty in the gradient is divided by sqrt(v). How can decay get around that?",
            "Shrink the weights themselves, then take a step of Adam with the plain gradient.",
            "p *= 1 - lr * weight_decay, then adam(p, g, state, step, group); -g to maximize.",
        ),
        (adamw_shrinks_the_weights, adamw_keeps_decay_out_of_the_means),
        timed=on_many(lambda w: O.AdamW(w)),
    ),
    Exercise(
        "total_norm",
        CLIPPING,
        4,
        (
            "All gradients are one long vector. What is its length?",
            "(sum of |g|^p)^(1/p) over all elements of all gradients; for p = inf the largest |g|.",
            "Sum in Python over np.sum(np.abs(g.astype(np.float64)) ** p): float16 would overflow. For inf: np.max.",
        ),
        (norm_of_all_gradients, norm_at_the_limits),
        helpers=("_pieces",),
    ),
    Exercise(
        "scale_down",
        CLIPPING,
        3,
        (
            "One factor for all, so that the norm becomes max_norm.",
            "max_norm / (total + 1e-6). Where it is 1 or more, nothing changes.",
            "if not scale >= 1: for g in gradients: g *= scale. Return scale.",
        ),
        (scale_all_by_one_factor, scale_leaves_small_gradients),
    ),
    Exercise(
        "linear",
        SCHEDULERS,
        2,
        (
            "Where are you when done = 0, and when done = 1?",
            "Start, plus done times the way.",
            "start + (end - start) * done",
        ),
        (a_line,),
    ),
    Exercise(
        "cosine",
        SCHEDULERS,
        3,
        (
            "cos goes from 1 to -1 between 0 and pi.",
            "(1 + cos(pi done)) / 2 goes from 1 to 0.",
            "end + (start - end) * (1 + math.cos(math.pi * done)) / 2",
        ),
        (half_a_cosine,),
    ),
    Exercise(
        "StepLR.lr_at",
        SCHEDULERS,
        2,
        (
            "How many times has the rate been multiplied after t steps?",
            "t // step_size times.",
            "base * self.gamma ** (t // self.step_size)",
        ),
        (step_lr_falls_in_steps,),
    ),
    Exercise(
        "CosineWarmupLR.lr_at",
        SCHEDULERS,
        5,
        (
            "Two phases: t below warmup_steps, and the rest.",
            "In the first base (t + 1) / (warmup_steps + 1); in the second cosine(base, min_lr, share done).",
            "done = (t - warmup_steps) / (total_steps - warmup_steps), at most 1.",
        ),
        (warmup_rises, cosine_falls),
    ),
)
