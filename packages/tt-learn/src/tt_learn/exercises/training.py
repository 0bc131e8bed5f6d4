"""The exercises of module 07, training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tt_core
from tt_core.course.exercises import Exercise, timing
from tt_core.course.trial import Trial
from tt_learn.autograd import Tensor, is_grad_enabled
from tt_learn.optimizers import SGD, Adam, StepLR
from tt_learn.training import checkpoints, loop, metrics

LOOP, METRICS, CHECKPOINTS = (f"tt_learn.training.{name}" for name in ("loop", "metrics", "checkpoints"))


def line(*values: float) -> Tensor:
    """A parameter of the given numbers."""
    return Tensor(np.array(values, np.float32), requires_grad=True)


def product_with(w: Tensor) -> Callable[[Any], Any]:
    """The loss (w x)^2 of a batch x."""
    return lambda x: ((w * x) ** 2).mean()


def network() -> Any:
    """A small network with dropout."""
    return tt_core.Sequential(tt_core.Linear(3, 4), tt_core.Dropout(0.5), tt_core.Linear(4, 2))


# --- metrics


def perplexity_counts_choices(t: Trial) -> None:
    """A loss of log(n) is that of n equally likely tokens."""
    for loss in (0.0, 1.0, 2.302585, 0.5):
        t.call(metrics.perplexity, loss, why="e to the power of the loss")
    t.call(metrics.perplexity, 1000.0, why="math.exp(1000) is an OverflowError; the answer is infinity")


def accuracy_counts_hits(t: Trial) -> None:
    """The share of examples whose class has one of the k largest scores."""
    scores, classes = np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]], np.float32), np.array([2, 0])
    t.call(metrics.top_k_accuracy, scores, classes, 1, why="the largest score of the first example is that of class 1")
    t.call(metrics.top_k_accuracy, scores, classes, 2)
    t.call(metrics.top_k_accuracy, scores, classes, 3)
    t.call(metrics.top_k_accuracy, scores, classes, why="k is 5 unless told; more than there are classes counts all")
    many, labels = t.normal(40, 10), t.rng.integers(0, 10, 40)
    for k in (1, 3, 9):
        t.step("top_k_accuracy of 40 examples")
        t.see(f"top_k_accuracy of 40 examples with 10 classes, k={k}", metrics.top_k_accuracy(many, labels, k))
    t.step("top_k_accuracy of tensors with two leading dimensions")
    t.see("top_k_accuracy of tensors (2, 20, 10), k=2",
          metrics.top_k_accuracy(Tensor(many.reshape(2, 20, 10)), Tensor(labels.reshape(2, 20)), 2),
          why="sort along the last dimension; as_array makes arrays of tensors")  # fmt: skip


def confusions_are_counted(t: Trial) -> None:
    """Row i, column j: how often an example of class i was taken for class j."""
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32)
    t.call(metrics.confusion_matrix, scores, np.array([1, 1, 1]), why="rows are the true classes, columns the answers")
    t.call(metrics.confusion_matrix, scores, np.array([0, 1, 1]))
    many, labels = t.normal(50, 4), t.rng.integers(0, 3, 50)
    t.step("confusion_matrix of 50 examples")
    t.see("confusion_matrix of 50 examples, of which none has class 3", metrics.confusion_matrix(many, labels),
          why="matrix[i, j] += 1 with arrays of indices counts repeated pairs once; each class has a row")  # fmt: skip


# --- the loop


def accumulate_is_the_mean(t: Trial) -> None:
    """The gradients are those of the mean loss, and the mean loss is returned."""
    w = line(1)
    t.step("accumulate(loss_of, [x]) with one batch")
    t.see("accumulate(loss_of, [3.])", loop.accumulate(product_with(w), [3.0]), why="the loss as a Python number")
    t.see("w.grad", w.grad, why="call backward()")
    w = line(1)
    t.see("accumulate(loss_of, [1., 2., 3.])", loop.accumulate(product_with(w), [1.0, 2.0, 3.0]))
    t.see("w.grad after three batches", w.grad, why="divide each loss by the number of batches: a mean, not a sum")


def accumulate_runs_one_batch_at_a_time(t: Trial) -> None:
    """Each batch goes forward and backward before the next one begins."""
    order: list[str] = []
    w = line(2)

    def loss_of(x: float) -> Any:
        order.append(f"forward {x}, w.grad is {'there' if w.grad is not None else 'None'}")
        return (w * x).sum()

    t.step("accumulate(loss_of, [1., 2.])")
    loop.accumulate(loss_of, [1.0, 2.0])
    t.see(
        "the order",
        order,
        why="backward() in the loop frees the activations of a batch",
    )


def step_in_order(t: Trial) -> None:
    """Old gradients go, new ones are computed, and the optimizer moves."""
    w = line(1)
    w.grad = Tensor(np.array([100], np.float32))
    t.step("train_step(SGD(lr=0.1), loss_of, [3.])")
    t.see("train_step(SGD(lr=0.1), loss_of, [3.])", loop.train_step(SGD([w], lr=0.1), product_with(w), [3.0]),
          why="it returns the loss")  # fmt: skip
    t.see("w afterwards", w.data, why="zero_grad() before: the gradient of the step before must not be added")
    t.see("w.grad afterwards", w.grad)
    optimizer = SGD([w], lr=0.01)
    for _ in range(3):
        loop.train_step(optimizer, product_with(w), [1.0, 2.0])
    t.see("w after three steps on two batches each", w.data, why="accumulate all batches, then one step")


def step_clips(t: Trial) -> None:
    """With clip_grad_norm, the gradients are clipped together before the step."""
    a, b = line(3), line(4)
    loss_of = lambda x: (a * 3 + b * 4).sum() * x  # noqa: E731
    t.step("train_step(..., clip_grad_norm=1.0)")
    loop.train_step(SGD([{"params": [a]}, {"params": [b]}], lr=1.0), loss_of, [1.0], clip_grad_norm=1.0)
    t.see("a, of a gradient [3.], after a step with clip_grad_norm=1", a.data, why="clip the gradients of all groups")
    t.see("b, of a gradient [4.]", b.data, why="together, after backward and before step()")


def evaluating_switches(t: Trial) -> None:
    """In the block, layers are in evaluation and nothing is recorded."""
    model = network()
    model.train()
    t.step("with evaluating(model): ...")
    with loop.evaluating(model):
        t.see("which layers are in training inside of the block", [layer.training for layer in model.layers()])
        t.see("is_grad_enabled() inside of the block", is_grad_enabled(), why="with no_grad(): yield")
    t.see("which layers are in training after it", [layer.training for layer in model.layers()])
    t.see("is_grad_enabled() after it", is_grad_enabled())


def evaluating_puts_back(t: Trial) -> None:
    """Each layer gets its own mode back, also after an error."""
    model = network()
    model.train()
    model[0].training = False
    before = [layer.training for layer in model.layers()]
    told = ""
    try:
        t.step("with evaluating(model): raise ValueError")
        with loop.evaluating(model):
            raise ValueError("from the block")
    except ValueError as error:
        told = str(error)
    t.see("the error that came out of the block", told)
    t.see("which layers are in training afterwards", [layer.training for layer in model.layers()],
          why="a layer that was in evaluation before stays so; put modes back in `finally`")  # fmt: skip
    t.see("as before", before == [layer.training for layer in model.layers()])


def evaluate_weighs(t: Trial) -> None:
    """Each batch counts by its examples."""
    layer = tt_core.Dropout(0.5)
    batches = [Tensor(np.ones((3, 1), np.float32)), Tensor(np.zeros((1, 1), np.float32))]
    t.step("evaluate(layer, measure, batches)")
    found = loop.evaluate(layer, lambda x: {"mean": layer(x).mean(), "sum": float(x.data.sum())}, batches)
    t.see("the mean over 3 ones and 1 zero", found.get("mean"), why="(3 times 1 + 1 times 0) / 4, not (1 + 0) / 2")
    t.see("all means", found, why="a dictionary of Python numbers")
    empty = Tensor(np.zeros((0, 1), np.float32))
    found = loop.evaluate(layer, lambda x: {"mean": x.mean()}, [empty, batches[0]])
    t.see("the mean with an empty batch", found, why="the mean of nothing is nan, and nan times 0 is nan: skip it")


def evaluate_does_not_train(t: Trial) -> None:
    """The model is in evaluation meanwhile, and without gradients."""
    model = network()
    model.train()
    seen: list[bool] = []

    def measure(x: Any) -> dict[str, Any]:
        seen.extend([model[1].training, is_grad_enabled()])
        return {"loss": model(x).mean()}

    t.step("evaluate(model, measure, batches)")
    loop.evaluate(model, measure, [Tensor(np.ones((2, 3), np.float32))])
    t.see("training mode and recording, inside of measure", seen, why="with evaluating(model): ...")
    t.see("the model is in training again", model[1].training)


# --- checkpoints


class Run:
    """A model with dropout, Adam and a schedule: what a training run consists of."""

    def __init__(self, seed: int) -> None:
        tt_core.manual_seed(seed)
        self.model: Any = network()
        self.optimizer = Adam(self.model.parameters(), lr=0.1)
        self.scheduler = StepLR(self.optimizer, 2)

    def parts(self) -> dict[str, Any]:
        """What has a state."""
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "step": 3}

    def train(self, steps: int) -> list[float]:
        """The losses of some steps."""
        losses = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = (self.model(tt_core.randn(4, 3)) ** 2).mean()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return losses


def snapshot_has_all_parts(t: Trial) -> None:
    """It holds the state of each part, plain data as it is, and the generator."""
    run = Run(0)
    run.train(2)
    t.step("snapshot(parts)")
    saved = checkpoints.snapshot(run.parts())
    t.see("what it holds", sorted(saved), why='{"parts": ..., "generator": tt_core.get_rng_state()}')
    t.see("its parts", sorted(saved["parts"]))
    t.see("the step, which is plain data", saved["parts"].get("step"), why="what has no state_dict() is kept as it is")
    t.see("the scheduler's state", saved["parts"].get("scheduler"), why="part.state_dict()")
    t.see("the weights of the first layer", saved["parts"]["model"]["0.weight"])
    t.see("Adam's mean of the first weight", saved["parts"]["optimizer"]["state"][0]["exp_avg"])
    t.see("the state of the generator", sorted(saved["generator"]) if isinstance(saved["generator"], dict) else "text")


def resumed_run_is_the_same(t: Trial) -> None:
    """A run that goes on from a snapshot has the same losses as one that was never stopped."""
    run = Run(1)
    run.train(3)
    t.step("restore(snapshot(parts), parts)")
    saved = checkpoints.snapshot(run.parts())
    saved["parts"]["model"] = {name: Tensor(x.data.copy()) for name, x in saved["parts"]["model"].items()}
    other = Run(2)
    parts = {name: part for name, part in other.parts().items() if name != "step"}
    fresh = Run(1)
    fresh.train(3)
    unbroken = fresh.train(3)
    checkpoints.restore(saved, parts)
    t.see("the losses of a run that was never stopped", unbroken)
    t.see("the losses after restore", other.train(3), why="dropout draws from the generator: restore it last")


def restore_can_leave_the_generator(t: Trial) -> None:
    """With generator=False, the generator stays as it is."""
    model = tt_core.Linear(2, 1)
    tt_core.manual_seed(3)
    t.step("restore(saved, parts, generator=False)")
    saved = checkpoints.snapshot({"model": model})
    first = tt_core.rand(2)
    weight = model.weight.data.copy()
    other = tt_core.Linear(2, 1)
    checkpoints.restore(saved, {"model": other}, generator=False)
    t.see("the next numbers differ from the first ones", bool((tt_core.rand(2).data != first.data).any()))
    t.see("the weights are the saved ones", bool((other.weight.data == weight).all()))
    checkpoints.restore(saved, {"model": other})
    t.see("with the generator, the first numbers come again", bool((tt_core.rand(2).data == first.data).all()))


EXERCISES = (
    Exercise(
        "perplexity",
        METRICS,
        2,
        (
            "The cross entropy of n equally likely tokens is log(n). Which function undoes the logarithm?",
            "e to the power of the loss. math.exp has a limit near 709.",
            "return math.exp(loss), and math.inf for a loss above 700.",
        ),
        (perplexity_counts_choices,),
    ),
    Exercise(
        "top_k_accuracy",
        METRICS,
        4,
        (
            "For which examples is the true class among the k best?",
            "np.argsort(scores, axis=-1)[..., -k:] are the k best classes; compare each with the true one.",
            "best == classes[..., None], then .any(-1).mean(), as a Python float. as_array makes arrays of tensors.",
        ),
        (accuracy_counts_hits,),
        timed=timing(metrics.top_k_accuracy, (5000, 10), np.arange(5000) % 10, 2),
    ),
    Exercise(
        "confusion_matrix",
        METRICS,
        4,
        (
            "Each example adds 1 in one cell: row = true class, column = best score.",
            "matrix[classes, best] += 1 counts a repeated pair only once. np.add.at, or np.bincount, count all.",
            "np.bincount(classes * n + scores.argmax(-1), minlength=n * n).reshape(n, n)",
        ),
        (confusions_are_counted,),
        timed=timing(metrics.confusion_matrix, (5000, 10), np.arange(5000) % 10),
    ),
    Exercise(
        "accumulate",
        LOOP,
        5,
        (
            "The gradient of a mean is the mean of the gradients, and backward() adds to what is in grad.",
            "For each batch: the loss, divided by the number of batches, backward.",
            "for batch in batches: loss = loss_of(batch) / len(batches); loss.backward(); mean += loss.item()",
        ),
        (accumulate_is_the_mean, accumulate_runs_one_batch_at_a_time),
    ),
    Exercise(
        "train_step",
        LOOP,
        5,
        (
            "Three calls, four with clipping - in which order?",
            "zero_grad, accumulate, clip_grad_norm_, step; return the loss.",
            "The parameters to clip are those of all optimizer.param_groups, under 'params', in one list; pass "
            "error_if_nonfinite=True.",
        ),
        (step_in_order, step_clips),
    ),
    Exercise(
        "evaluating",
        LOOP,
        5,
        (
            "Remember which layers are in training, switch them, and put them back at the end, whatever happens.",
            "model.layers() gives all layers; layer.training is the switch. try / finally holds the way back.",
            "training = [layers whose switch is on]; set them to False; try: with no_grad(): yield; "
            "finally: set them to True.",
        ),
        (evaluating_switches, evaluating_puts_back),
    ),
    Exercise(
        "evaluate",
        LOOP,
        6,
        (
            "The last batch is often smaller, so the mean of the means of batches is wrong.",
            "Add up number times examples_in(batch) by name, and the examples; divide at the end.",
            "with evaluating(model): for batch in batches: ...; skip batches without examples; as_number(name, value) "
            "makes a number of a tensor.",
        ),
        (evaluate_weighs, evaluate_does_not_train),
    ),
    Exercise(
        "snapshot",
        CHECKPOINTS,
        4,
        (
            "What does the next step depend on? Not on the weights alone.",
            "The state_dict() of each part that has one, other parts as they are, and the state of the generator.",
            'return {"parts": {name: ... for name, part in parts.items()}, "generator": tt_core.get_rng_state()}',
        ),
        (snapshot_has_all_parts,),
    ),
    Exercise(
        "restore",
        CHECKPOINTS,
        4,
        (
            "The way back: each part takes its own state.",
            "part.load_state_dict(saved['parts'][name]); the generator last, unless it is to stay.",
            "for name, part in parts.items(): ...; if generator: tt_core.set_rng_state(saved['generator'])",
        ),
        (resumed_run_is_the_same, restore_can_leave_the_generator),
    ),
)
