"""The exercises of module 05, autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, timing
from tt_core.course.trial import Trial
from tt_learn.autograd import Cube, Node, StraightThroughRound, Tensor, first_rules, is_grad_enabled, sum_to
from tt_learn.autograd.backward import Backward
from tt_learn.autograd.graph import edges_of
from tt_learn.autograd.modes import GradMode, recording

BROADCASTING, RULES, GRAPH, MODES, BACKWARD, OWN = (
    f"tt_learn.autograd.{name}"
    for name in ("broadcasting", "first_rules", "graph", "modes", "backward", "own_functions")
)


def tensor(*values: float, requires_grad: bool = False) -> Tensor:
    """A float32 tensor of the given numbers."""
    return Tensor(np.array(values, np.float32), requires_grad=requires_grad)


def by_hand(name: str, inputs: Sequence[Tensor], functions: Any, size: int = 1) -> Tensor:
    """The result of a call that is recorded by hand, without an op: a tensor of zeros with a node."""
    result = tensor(*[0.0] * size)
    edges: Any = [(x.grad_fn or x, x._output) if x.requires_grad else None for x in inputs]
    result._requires_grad, result.grad_fn = True, Node(name, edges, functions, [result])
    return result


def walk(result: Tensor, g: Tensor | None = None) -> None:
    """One backward pass without plugins."""
    Backward().walk([(result, g)])


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """A block without recording, for checks of functions that come before those that record."""
    recording.on = False
    try:
        yield
    finally:
        recording.on = True


# --- sum_to


def summed(t: Trial, x: Any, shape: tuple[int, ...], why: str = "") -> None:
    """Call sum_to without recording, which comes later."""
    with unrecorded():
        t.call(sum_to, x, shape, why=why)


def sum_to_adds_new_dimensions(t: Trial) -> None:
    """A vector that was added to each row of a matrix gets the sum of the gradients of all rows."""
    summed(t, np.array([[1, 2], [10, 20]], np.float32), (2,), why="a new dimension stands in front; sum over it")
    summed(t, t.normal(4, 2, 3), (3,))
    summed(t, t.normal(2, 3), (), why="a number without dimensions gets the sum of everything")


def sum_to_keeps_dimensions_of_one(t: Trial) -> None:
    """A dimension of size 1 that was stretched stays, with size 1."""
    summed(t, t.normal(2, 3), (2, 1), why="the second dimension was stretched from 1 to 3; keepdims=True keeps it")
    summed(t, t.normal(2, 3), (1, 3))
    summed(t, t.normal(5, 2, 3), (2, 1), why="new dimensions and stretched ones at once")
    summed(t, t.normal(2, 3), (2, 3), why="nothing was repeated")
    summed(t, np.ones((1, 3), np.float32), (3,), why="the shape of the result is the shape that is asked for")
    summed(t, np.zeros((0, 3), np.float32), (1, 3), why="the sum of nothing is 0")


# --- rules


def in_order(t: Trial, name: str, functions: Any, g: Tensor, whys: Sequence[str]) -> None:
    """Record what each function of a rule makes of g."""
    why = "a rule returns a tuple, with a function for each input: (f,) for one input"
    t.show(f"the number of functions of {name}", lambda: len(functions), why)
    for i, (function, why) in enumerate(zip(functions, whys, strict=True)):
        t.step(f"function {i + 1} of {name}, with g = {g.tolist()}", why)
        with unrecorded():
            t.see(f"function {i + 1} of {name}, with g = {g.tolist()}", function(g), why)


def add_passes_the_gradient_on(t: Trial) -> None:
    """Both inputs of a sum get the gradient of the sum."""
    t.step("add_rule(out, a, b)")
    functions = first_rules.add_rule(tensor(5, 7), tensor(2, 3), tensor(3, 4))
    in_order(t, "add_rule", functions, tensor(1, -2), ["the derivative of a + b by a is 1", "and by b it is 1, too"])


def mul_exchanges_the_factors(t: Trial) -> None:
    """Each factor gets g times the other factor."""
    t.step("mul_rule(out, a, b)")
    functions = first_rules.mul_rule(tensor(6, 12), tensor(2, 3), tensor(3, 4))
    in_order(t, "mul_rule", functions, tensor(1, 1), ["the derivative of a b by a is b", "by b it is a"])
    in_order(t, "mul_rule", functions, tensor(2, -1), ["the chain rule: times g"] * 2)


def div_by_both(t: Trial) -> None:
    """The dividend gets g / b, the divisor -g a / b^2."""
    t.step("div_rule(out, a, b)")
    functions = first_rules.div_rule(tensor(3, -2), tensor(6, 8), tensor(2, -4))
    in_order(t, "div_rule", functions, tensor(1, 1), ["a / b by a is 1 / b", "by b it is -a / b^2, which is -out / b"])
    in_order(t, "div_rule", functions, tensor(2, -3), ["the chain rule: times g"] * 2)


def exp_and_its_output(t: Trial) -> None:
    """The derivative of e^x is e^x, which is already computed."""
    x = tensor(0, 1, -2)
    out = Tensor(np.exp(x.data))
    t.step("exp_rule(out, x)")
    in_order(t, "exp_rule", first_rules.exp_rule(out, x), tensor(1, 1, 1), ["the derivative of e^x is the output"])
    in_order(t, "exp_rule", first_rules.exp_rule(out, x), tensor(1, 2, -1), ["the chain rule: times g"])


# --- edges_of


def edges_of_what_needs_a_gradient(t: Trial) -> None:
    """An input that requires a gradient has an edge; all others have None."""
    leaf, plain = tensor(1, requires_grad=True), tensor(2)
    t.step("edges_of([leaf, plain, 3.0])")
    found: Any = edges_of([leaf, plain, 3.0])
    t.see("which edges of [leaf, plain, 3.0] are None", [edge is None for edge in found], why="plain needs no gradient")
    t.see("the edge of the leaf is (leaf, 0)", found[0] is not None and found[0][0] is leaf and found[0][1] == 0)


def edges_of_results(t: Trial) -> None:
    """The edge of a result names the node that computed it, and which of its outputs it is."""
    leaf = tensor(1, requires_grad=True)
    result = by_hand("double", [leaf], (lambda g: g * 2,))
    result._output = 1
    t.step("edges_of([result, leaf, result])")
    found: Any = edges_of([result, leaf, result])
    same = [edge[0] is at for edge, at in zip(found, (result.grad_fn, leaf, result.grad_fn), strict=True)]
    t.see("edges_of([result, leaf, result]) names the node, the leaf, the node", same, why="x.grad_fn is the node")
    t.see("the numbers of the outputs", [edge[1] for edge in found], why="x._output is the number")


# --- Node.attach


def attach_makes_history(t: Trial) -> None:
    """An output of floats requires a gradient from now on, and knows its node."""
    leaf, out = tensor(1, requires_grad=True), tensor(2)
    node = Node("double", [(leaf, 0)], (lambda g: g * 2,), [out])
    t.step("node.attach([out])")
    node.attach([out])
    t.see("out.requires_grad after node.attach([out])", out.requires_grad, why="set x._requires_grad")
    t.see("out.grad_fn is node", out.grad_fn is node)


def attach_several_outputs(t: Trial) -> None:
    """Each output knows its number; integers have no gradient."""
    leaf, values, indices, more = tensor(1, requires_grad=True), tensor(2), Tensor(np.array([3])), tensor(4)
    node = Node("topk", [(leaf, 0)], lambda g: (g[0],), [values, indices, more])
    t.step("node.attach([values, indices, more])")
    node.attach([values, indices, more])
    outputs = (values, indices, more)
    t.see("which outputs require a gradient", [x.requires_grad for x in outputs], why="the dtype kind of floats is 'f'")
    t.see("which outputs know the node", [x.grad_fn is node for x in outputs])
    t.see("the numbers of values and more", [values._output, more._output], why="x._output is its place in outputs")


# --- GradMode


def mode_in_a_block(t: Trial) -> None:
    """Recording is off inside of the block."""
    t.step("with GradMode(False): ...", why="recording.on tells whether calls are recorded")
    mode = GradMode(False)
    try:
        mode.__enter__()
        inside = is_grad_enabled()
    finally:
        recording.on = True
    t.see("is_grad_enabled() inside of GradMode(False)", inside, why="recording.on = self._mode")
    t.see("the modes in self._before", mode._before, why="append the mode before the block, for the way out")


def mode_after_a_block(t: Trial) -> None:
    """After the block, recording is as it was before it, also when blocks are nested."""
    try:
        t.step("with GradMode(False): ...")
        with GradMode(False):
            pass
        t.see("is_grad_enabled() after GradMode(False)", is_grad_enabled(), why="put back what was there before")
        with GradMode(False):
            with GradMode(True):
                t.see("inside of GradMode(True) inside of GradMode(False)", is_grad_enabled())
            t.see("after the inner block", is_grad_enabled(), why="the mode before was off, so it is off again")
        same = GradMode(False)
        with same, same:
            pass
        t.see("after one object was entered twice", is_grad_enabled(), why="self._before is a stack: pop")
    finally:
        recording.on = True


def mode_after_an_error(t: Trial) -> None:
    """An error in the block leaves it, and is not hidden."""
    caught = "nothing"
    try:
        with GradMode(False):
            raise ValueError("from the block")
    except ValueError as error:
        caught = str(error)
    finally:
        on = is_grad_enabled()
        recording.on = True
    t.see("the error that came out", caught, why="__exit__ that returns True hides errors; return nothing")
    t.see("is_grad_enabled() after it", on)


# --- Backward.add


def add_sums_gradients_of_a_leaf(t: Trial) -> None:
    """A leaf that was used twice gets the sum of two gradients."""
    leaf, walking = tensor(1, requires_grad=True), Backward()
    t.step("walk.add((leaf, 0), [2.])")
    walking.add((leaf, 0), tensor(2))
    t.see("the leaf's gradient so far", walking.leaves[id(leaf)][1], why="self.leaves[id(leaf)] is (leaf, gradient)")
    with unrecorded():
        walking.add((leaf, 0), tensor(5))
    t.see("after a second gradient", walking.leaves[id(leaf)][1], why="gradients of several uses are added up")
    t.see("walk.leaves holds the leaf itself", walking.leaves[id(leaf)][0] is leaf)
    t.see("the nodes that wait", len(walking.waiting), why="a leaf is no node, so it is not visited")


def add_sums_gradients_of_a_node(t: Trial) -> None:
    """A node waits once, with the sum of the gradients of each of its outputs."""
    leaf = tensor(1, requires_grad=True)
    node = Node("two", [(leaf, 0)], lambda g: (g[0],), [tensor(0), tensor(0)])
    walking = Backward()
    t.step("walk.add((node, 1), [2.])")
    walking.add((node, 1), tensor(2))
    t.see("walk.waiting == [-node.number]", walking.waiting == [-node.number], why="negated: a heap gives the smallest")
    t.see("gradients of its two outputs", walking.arrived[node.number][1], why="None where nothing has arrived")
    with unrecorded():
        walking.add((node, 1), tensor(5))
    t.see("after a second gradient for the same output", walking.arrived[node.number][1], why="they are added up")
    walking.add((node, 0), tensor(1))
    t.see("after one for the other output", walking.arrived[node.number][1])
    t.see("how many nodes wait", len(walking.waiting), why="a node must be visited once, so push it once")


def add_finds_the_newest(t: Trial) -> None:
    """The newest of all waiting nodes is the first on the heap."""
    import heapq

    leaf = tensor(1, requires_grad=True)
    nodes = [Node(f"n{i}", [(leaf, 0)], (lambda g: g,), [tensor(0)]) for i in range(6)]
    walking = Backward()
    for i in (0, 3, 1, 5, 2, 4):  # the oldest first, which a list that is no heap would return first
        t.step("walk.add((node, 0), [1.])")
        walking.add((nodes[i], 0), tensor(1))
    waiting = list(walking.waiting)
    numbers = [-heapq.heappop(waiting) - nodes[0].number for _ in nodes]
    t.see("the order in which they leave the heap", numbers, why="use heapq.heappush, not append")


# --- Backward.visit


def visit_applies_the_rule(t: Trial) -> None:
    """Each input that needs a gradient gets what the rule returns for it."""
    a, b, c = tensor(1, requires_grad=True), tensor(2), tensor(3, requires_grad=True)
    result = by_hand("f", [a, b, c], (lambda g: g * 2, lambda g: g * 3, lambda g: g * 5))
    walking = Backward()
    t.step("walk.visit(node, [[10.]])")
    with unrecorded():
        walking.visit(result.grad_fn, [tensor(10)])  # type: ignore[arg-type]
    t.see("how many leaves got a gradient", len(walking.leaves), why="an input without an edge gets none")
    t.see("the gradient of a", walking.leaves[id(a)][1])
    t.see("the gradient of c", walking.leaves[id(c)][1])
    t.see("the node keeps its functions", result.grad_fn.functions is not None,  # type: ignore[union-attr]
          why="they keep forward's arrays in memory: release them unless self.retain_graph")  # fmt: skip


def visit_undoes_broadcasting(t: Trial) -> None:
    """A gradient comes in the shape and the dtype of its input."""
    bias = tensor(1, 2, requires_grad=True)
    wide = Tensor(np.ones((3, 2), np.float32))
    result = by_hand("add", [bias, wide], (lambda g: g, lambda g: g))
    walking = Backward()
    t.step("walk.visit(node, [gradient of shape (3, 2)])", why="fit(node.name, g, (shape, dtype)) undoes broadcasting")
    with unrecorded():
        walking.visit(result.grad_fn, [wide])  # type: ignore[arg-type]
    t.see("the gradient of a bias of shape (2,) that was added to 3 rows", walking.leaves[id(bias)][1],
          why="fit(node.name, g, (shape, dtype)) undoes broadcasting")  # fmt: skip
    double = by_hand("double", [bias], (lambda g: g * 2,), size=2)
    result, node = by_hand("add", [double], (lambda g: g,)), double.grad_fn
    t.step("walk.visit(node, [gradient of shape (3, 2)]), where the input is a result of shape (2,)")
    with unrecorded():
        walking.visit(result.grad_fn, [wide])  # type: ignore[arg-type]
    t.see("the gradient of a result of shape (2,)", walking.arrived[node.number][1],  # type: ignore[union-attr]
          why="a node knows the shape and the dtype of each output: at.outputs[output]")  # fmt: skip
    exact = by_hand("f", [tensor(1, requires_grad=True)], (lambda g: Tensor(g.data.astype(np.float64)),))
    alone = Backward()
    t.step("walk.visit(node, [[1.]]), where the rule returns float64", why="fit() converts it")
    with unrecorded():
        alone.visit(exact.grad_fn, [tensor(1)])  # type: ignore[arg-type]
    t.see("the gradient of a float32 leaf, where the rule returns float64", [g for _, g in alone.leaves.values()],
          why="fit() converts it to the dtype of the input")  # fmt: skip


def visit_can_retain(t: Trial) -> None:
    """With retain_graph, a node can be visited again; None from a rule is passed over."""
    a, b = tensor(1, requires_grad=True), tensor(1, requires_grad=True)
    result = by_hand("f", [a, b], (lambda g: g * 2, lambda g: None))
    walking = Backward(retain_graph=True)
    t.step("walk.visit(node, [[1.]]) with retain_graph=True, twice")
    with unrecorded():
        walking.visit(result.grad_fn, [tensor(1)])  # type: ignore[arg-type]
    with unrecorded():
        walking.visit(result.grad_fn, [tensor(1)])  # type: ignore[arg-type]
    t.see("the gradient of a after two visits", walking.leaves[id(a)][1])
    t.see("b got a gradient", id(b) in walking.leaves, why="its function returned None")


# --- Backward.walk


def walk_through_a_chain(t: Trial) -> None:
    """The gradient of a result reaches the leaf through all calls, multiplied on the way."""
    leaf = tensor(1, requires_grad=True)
    result = by_hand("triple", [by_hand("double", [leaf], (lambda g: g * 2,))], (lambda g: g * 3,))
    t.step("walk([(result, None)])")
    walk(result)
    t.see("leaf.grad", leaf.grad, why="a root without a gradient has 1: root_gradient gives it")
    second = by_hand("double", [leaf], (lambda g: g * 2,))
    walk(second, tensor(10))
    t.see("leaf.grad after another walk, with a gradient of 10", leaf.grad, why="finish() adds to what is there")


def walk_visits_each_call_once(t: Trial) -> None:
    """A call whose result was used several times is visited once, after all that used it."""
    order: list[str] = []

    def rule(name: str, factor: float) -> Any:
        def function(g: Any) -> Any:
            order.append(name)
            return g * factor

        return function

    leaf = tensor(1, requires_grad=True)
    first = by_hand("first", [leaf], (rule("first", 2),))
    second = by_hand("second", [first], (rule("second", 3),))
    third = by_hand("third", [first, second], (rule("third", 5), rule("third", 7)))
    t.step("walk([(third, None)])")
    walk(third)
    t.see("the calls in the order of the walk", order, why="take the node with the largest number: the newest one")
    t.see("leaf.grad", leaf.grad, why="2 (5 + 3 7) = 52: first waits for the gradients of third and of second")


def walk_through_real_ops(t: Trial) -> None:
    """The walk differentiates computations with shared parts and broadcasting."""
    w = Tensor(t.normal(3, 2), requires_grad=True)
    b = Tensor(t.normal(2), requires_grad=True)
    x = Tensor(t.normal(4, 3))
    hidden = (x @ w + b).tanh()
    loss = (hidden * hidden + hidden).mean()
    t.step("walk([(loss, None)])")
    walk(loss)
    t.see("w.grad", w.grad, why="hidden is used three times")
    t.see("b.grad", b.grad, why="b was added to four rows")


def walk_leaves_what_it_was_given(t: Trial) -> None:
    """The gradient that a user gave belongs to the user, and stays as it was."""
    leaf, g = tensor(1, requires_grad=True), tensor(10)
    why = "note id(mutation.owner(g.data)) of the roots' gradients in self.foreign, so that finish() copies them"
    t.step("walk([(result, g)]), and another walk", why)
    walk(by_hand("same", [leaf], (lambda g: g,)), g)
    walk(by_hand("same", [leaf], (lambda g: g,)), tensor(5))
    t.see("leaf.grad after walks with gradients of 10 and 5", leaf.grad)
    t.see("the gradient of 10 that was given", g, why)


def walk_is_not_recorded(t: Trial) -> None:
    """Gradients have no history, unless create_graph asks for one."""
    seen: list[bool] = []

    def note(g: Any) -> Any:
        seen.append(is_grad_enabled())
        return g

    for create_graph in (False, True):
        leaf = tensor(1, requires_grad=True)
        result = by_hand("note", [leaf], (note,))
        t.step(f"walk with create_graph={create_graph}")
        Backward(create_graph, create_graph).walk([(result, None)])
    t.see("is_grad_enabled() inside of two walks, the second with create_graph", seen,
          why="with GradMode(self.create_graph): ...")  # fmt: skip
    t.see("is_grad_enabled() after them", is_grad_enabled())


# --- functions of your own


def cube_forward_and_back(t: Trial) -> None:
    """The gradient of x^3 is 3 x^2, times the gradient that arrives."""
    x = tensor(2, -1, 0, requires_grad=True)
    t.step("Cube.apply(x).sum().backward() with x = [2., -1., 0.]", why="the derivative of x^3 is 3 x^2")
    Cube.apply(x).backward(tensor(1, 1, 1))
    t.see("x.grad after Cube.apply(x).backward([1., 1., 1.])", x.grad, why="the derivative of x^3 is 3 x^2")
    y = tensor(3, requires_grad=True)
    Cube.apply(y).backward(tensor(10))
    t.see("y.grad after Cube.apply(y).backward([10.]) with y = [3.]", y.grad, why="times g")


def rounding_lets_the_gradient_through(t: Trial) -> None:
    """Inside of the limit the gradient passes as it is; outside it is 0."""
    x = tensor(0.4, -0.9, 1.0, 1.5, -3.0, requires_grad=True)
    t.step("StraightThroughRound.apply(x).backward(g)")
    StraightThroughRound.apply(x).backward(tensor(1, 2, 3, 4, 5))
    t.see("x.grad with x = [0.4, -0.9, 1, 1.5, -3] and g = [1, 2, 3, 4, 5]", x.grad, why="g where |x| <= 1, else 0")
    y = tensor(0.4, 5.0, -2.0, requires_grad=True)
    StraightThroughRound.apply(y, limit=2.0).backward(tensor(7, 8, 9))
    t.see("y.grad with y = [0.4, 5, -2], limit=2 and g = [7, 8, 9]", y.grad, why="ctx.limit is the limit of this call")


EXERCISES = (
    Exercise(
        "add_rule",
        RULES,
        2,
        (
            "How much does a + b grow when a grows by 1?",
            "Both derivatives are 1, so both inputs get g as it is.",
            "return lambda g: g, lambda g: g",
        ),
        (add_passes_the_gradient_on,),
    ),
    Exercise(
        "mul_rule",
        RULES,
        2,
        (
            "What is the derivative of a b by a, when b is a constant?",
            "Return two functions of g. Each one returns g times a derivative.",
            "return lambda g: g * b, and for the second input: lambda g: g * SOMETHING",
        ),
        (mul_exchanges_the_factors,),
    ),
    Exercise(
        "div_rule",
        RULES,
        3,
        (
            "Differentiate a / b by a, then a b^(-1) by b.",
            "By a it is 1 / b, by b it is -a / b^2. The quotient a / b has been computed already.",
            "return lambda g: g / b, lambda g: -g * out / b",
        ),
        (div_by_both,),
    ),
    Exercise(
        "exp_rule",
        RULES,
        2,
        (
            "e^x is its own derivative.",
            "The output is e^x, so nothing has to be computed again.",
            "return (lambda g: g * out,) - the comma makes it a tuple with one function.",
        ),
        (exp_and_its_output,),
    ),
    Exercise(
        "sum_to",
        BROADCASTING,
        5,
        (
            "Broadcasting copies an element. What happens to the gradients of all copies?",
            "They are added up. repeated_dims(x.shape, shape) gives the dimensions along which elements were copied.",
            "x.sum(repeated, keepdims=True), then reshape to the shape; mind the case where nothing was repeated.",
        ),
        (sum_to_adds_new_dimensions, sum_to_keeps_dimensions_of_one),
        timed=timing(sum_to, (64, 128, 64), shape=(128, 1)),
    ),
    Exercise(
        "edges_of",
        GRAPH,
        3,
        (
            "Where did each input come from? A leaf comes from the user, any other tensor from a node.",
            "The edge is (x.grad_fn, x._output) for a result, (x, x._output) for a leaf, and None if no gradient is "
            "needed. Inputs may be plain numbers, which have no attribute _requires_grad.",
            "A list comprehension over inputs; getattr(x, '_requires_grad', False) decides, and x.grad_fn or x is the "
            "place.",
        ),
        (edges_of_what_needs_a_gradient, edges_of_results),
    ),
    Exercise(
        "Node.attach",
        GRAPH,
        3,
        (
            "What must an output know, so that backward finds the node from it?",
            "x._requires_grad, x.grad_fn, and x._output, its number. Integers have no gradient.",
            "for i, x in enumerate(outputs): if x.data.dtype.kind == 'f', set the three attributes.",
        ),
        (attach_makes_history, attach_several_outputs),
    ),
    Exercise(
        "GradMode.__enter__",
        MODES,
        2,
        (
            "recording.on is the switch. Which value does the block need?",
            "Remember the present value before you change it; the way out needs it.",
            "self._before.append(recording.on), then set recording.on to self._mode.",
        ),
        (mode_in_a_block,),
    ),
    Exercise(
        "GradMode.__exit__",
        MODES,
        2,
        (
            "After the block, the switch is as it was before.",
            "The value before is the last one in self._before.",
            "recording.on = self._before.pop(); return nothing, so that errors pass.",
        ),
        (mode_after_a_block, mode_after_an_error),
    ),
    Exercise(
        "Backward.add",
        BACKWARD,
        6,
        (
            "An edge leads to a leaf or to a node. In both cases gradients that arrive are added up.",
            "For a leaf, self.leaves[id(leaf)] holds (leaf, gradient). For a node, self.arrived[number] holds (node, "
            "list of the gradients of its outputs), and the heap self.waiting holds the negated number, once.",
            "at, output = edge; not isinstance(at, Node) is the case of a leaf; a node that has not arrived yet is "
            "pushed with heapq.heappush(self.waiting, -at.number) and starts with [None] * len(at.outputs).",
        ),
        (add_sums_gradients_of_a_leaf, add_sums_gradients_of_a_node, add_finds_the_newest),
    ),
    Exercise(
        "Backward.visit",
        BACKWARD,
        6,
        (
            "node.propagate(gradients) applies the rule: it gives pairs of an edge and a gradient.",
            "Skip pairs where either is None. A gradient whose shape or dtype is not that of the input goes through "
            "fit(). Then self.add(edge, g). At the end, release node.functions unless the graph is retained.",
            "at, output = edge; the input's shape and dtype are at.outputs[output] for a node, and of at.data for "
            "a leaf; g = fit(node.name, g, (shape, dtype)).",
        ),
        (visit_applies_the_rule, visit_undoes_broadcasting, visit_can_retain),
    ),
    Exercise(
        "Backward.walk",
        BACKWARD,
        8,
        (
            "Begin at the roots, then visit the newest waiting node again and again, until none waits.",
            "Each root has an edge, edge_of(root), and a gradient, root_gradient(root, g). Nodes leave the heap "
            "self.waiting by their negated number, and self.arrived gives the node and its gradients. At the end, "
            "finish() each leaf.",
            "with GradMode(self.create_graph), in_phase('backward'): add the roots (note id(mutation.owner(g.data)) in "
            "self.foreign); while self.waiting: newest = -heapq.heappop(self.waiting), "
            "self.visit(*self.arrived.pop(newest)); then for leaf, g in self.leaves.values(): self.finish(leaf, g).",
        ),
        (
            walk_through_a_chain,
            walk_visits_each_call_once,
            walk_is_not_recorded,
            walk_through_real_ops,
            walk_leaves_what_it_was_given,
        ),
    ),
    Exercise(
        "Cube.backward",
        OWN,
        3,
        (
            "forward saved x; ctx.saved_tensors gives it back.",
            "The derivative of x^3 is 3 x^2, and the chain rule multiplies it by g.",
            "(x,) = ctx.saved_tensors, then return g * 3 * x * x.",
        ),
        (cube_forward_and_back,),
    ),
    Exercise(
        "StraightThroughRound.backward",
        OWN,
        4,
        (
            "Act as if rounding were the identity - but only inside of the limit.",
            "tt_core.where(condition, a, b) takes a where the condition holds, and b elsewhere.",
            "tt_core.where(tt_core.abs(x) <= ctx.limit, g, 0.0)",
        ),
        (rounding_lets_the_gradient_through,),
    ),
)
