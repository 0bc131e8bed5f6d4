"""The exercises of module 11, embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.course.exercises import Exercise, floats
from tt_core.course.trial import Trial
from tt_core.engine import mutation
from tt_language.embeddings import embeddings as E
from tt_language.embeddings import inspection, positions, rope_scaling
from tt_language.embeddings.rotary import RotaryEmbedding, rotary

TABLE, POSITIONS, SCALING, ROTARY, INSPECTION = (
    f"tt_language.embeddings.{name}" for name in ("embeddings", "positions", "rope_scaling", "rotary", "inspection")
)


# --- the table


def rows_are_looked_up(t: Trial) -> None:
    """Each id is replaced by its row of the table."""
    table = floats([1, 2], [3, 4], [5, 6])
    t.call(E.embedding, np.array([2, 0]), table)
    t.call(E.embedding, np.array([[1, 1], [0, 2]]), table, why="ids of shape (...) give (..., dim)")
    t.call(E.embedding, np.array(1), table, why="one id without dimensions gives one row")
    t.call(E.embedding, np.zeros((2, 0), np.int64), table)
    t.call(E.embedding, np.array([0, 1]), table, padding_idx=1, why="padding_idx matters for the gradient only")
    ids, big = t.rng.integers(0, 50, (4, 7)), t.normal(50, 3)
    t.call(E.embedding, ids, big)


def rows_get_their_gradients(t: Trial) -> None:
    """The gradient of a row is the sum of those of all places where its id stands."""
    g = floats([1, 2], [10, 20], [100, 200])
    t.call(E.embedding_backward, g, np.array([0, 2, 1]), size=4, why="a row that was not looked up gets 0")
    t.call(
        E.embedding_backward,
        g,
        np.array([1, 1, 0]),
        size=2,
        why="total[ids] += g adds a repeated id once only: np.add.at adds each",
    )
    t.call(E.embedding_backward, g, np.array([1, 1, 0]), size=3, padding_idx=1, why="that row gets no gradient")
    t.call(E.embedding_backward, g, np.array([0, 1, 0]), size=3, padding_idx=0)
    t.call(E.embedding_backward, t.normal(3, 5, 2), t.rng.integers(0, 4, (3, 5)), size=4, why="ids of any shape")
    t.call(E.embedding_backward, np.zeros((0, 2), np.float32), np.zeros(0, np.int64), size=2)


def long_rows_are_shortened(t: Trial) -> None:
    """Rows that are used and are longer than max_norm are scaled down to it, in place."""

    def after(ids: Any, **options: Any) -> Any:
        layer = E.Embedding.from_pretrained(Tensor(floats([3, 4], [0.3, 0.4], [-6, 8], [0, 0])), **options)
        layer(Tensor(np.array(ids)))
        return layer.weight.data

    t.show(
        "rows [3, 4], [0.3, 0.4], [-6, 8], [0, 0] after ids [0, 1] with max_norm=1",
        lambda: after([0, 1], max_norm=1.0),
        why="a short row stays as it is, and so does one that is not looked up",
    )
    t.show(
        "after ids [0, 0, 3]",
        lambda: after([0, 0, 3], max_norm=2.0),
        why="a row that is looked up twice is scaled once",
    )
    t.show("after ids [[2], [0]]", lambda: after([[2], [0]], max_norm=1.0), why="ids have any shape")
    t.show(
        "with norm_type=1 and max_norm=7",
        lambda: after([0, 2], max_norm=7.0, norm_type=1.0),
        why="(sum |x|^p)^(1/p) is the norm",
    )

    def noticed(max_norm: float) -> bool:
        layer = E.Embedding.from_pretrained(Tensor(floats([3, 4], [0.3, 0.4])), max_norm=max_norm)
        moment = mutation.now()
        layer(Tensor(np.array([0])))
        return mutation.changed_since(layer.weight.data, moment)

    t.show("whether gradients and caches notice the change", lambda: noticed(1.0), why="mutation.record(the table)")
    t.show("where no row is too long", lambda: noticed(9.0), why="a table that does not change keeps what is cached")


def nearest_by_angle(t: Trial) -> None:
    """The entries with the largest cosine, best first."""

    def found(*arguments: Any, **options: Any) -> Any:
        return lambda: [[i, round(cosine, 4)] for i, cosine in inspection.nearest(*arguments, **options)]

    table = floats([1, 0], [9, 1], [0, 1], [-1, 0], [0, 0])
    t.show(
        "nearest to entry 0 in [1, 0], [9, 1], [0, 1], [-1, 0], [0, 0]",
        found(table, 0),
        why="the cosine is a product divided by both lengths; the entry itself is left out; 0 has no direction",
    )
    t.show("k=2", found(table, 0, k=2))
    t.show("nearest to the vector [0, 5]", found(table, floats(0, 5), k=2), why="a vector leaves no entry out")
    layer = E.Embedding.from_pretrained(Tensor(table))
    t.show("nearest to entry 0 of an Embedding", found(layer, 0, k=2), why="table_of(source) is the array")
    t.show("nearest to the list [0, 5]", found(table, [0, 5], k=2))
    t.show("nearest to entry 3 of 30 random vectors", found(t.normal(30, 4), 3, k=5))


# --- positions


def waves_of_many_lengths(t: Trial) -> None:
    """Sines and cosines side by side, slower from pair to pair."""
    t.call(positions.sine_waves, 3, 2, why="position p is sin(p), cos(p) in the first pair")
    t.call(positions.sine_waves, 2, 4, 100.0, why="sin, cos, sin, cos: side by side, not all sines first")
    t.call(positions.sine_waves, 2, 6, 8.0, why="pair i has the angle p / base^(2i/dim)")
    t.call(positions.sine_waves, 20, 8)
    t.call(positions.sine_waves, 0, 4)


def frequencies_fall(t: Trial) -> None:
    """The first pair turns by one radian a position, the others more slowly."""
    t.call(rope_scaling.plain_frequencies, 2, 100.0)
    t.call(rope_scaling.plain_frequencies, 4, 100.0, why="theta ** (-2i / dim): 100 ** 0 and 100 ** -0.5")
    t.call(rope_scaling.plain_frequencies, 8, 10000.0, why="one frequency for each pair of features, float32")


def pairs_are_rotated(t: Trial) -> None:
    """Features i and i + dim/2 are a point in the plane, which turns by an angle."""
    t.call(rotary, floats([1, 0]), floats([0]), floats([1]), why="by 90 degrees, (1, 0) becomes (0, 1)")
    t.call(rotary, floats([1, 2]), floats([-1]), floats([0]))
    t.call(
        rotary,
        floats([1, 2, 3, 4]),
        floats([0, 1]),
        floats([1, 0]),
        why="the pairs are (1, 3) and (2, 4): halves, not neighbours",
    )
    angle = t.normal(3, 2)
    x = t.normal(2, 2, 3, 4)
    t.call(rotary, x, np.cos(angle), np.sin(angle), why="cos and sin (T, dim/2) are the same for all heads")
    back = rotary(rotary(x, np.cos(angle), np.sin(angle)), np.cos(angle), -np.sin(angle))
    t.see("rotated there and back", back, atol=1e-5)


def angles_grow(t: Trial) -> None:
    """The angle is the position times the frequency."""
    layer = RotaryEmbedding(4, max_length=50, theta=100.0)
    t.show(
        "angles of the positions [0, 1]; frequencies [1, 0.1]",
        lambda: layer.angles(np.array([0, 1])),
        why="cosines and sines, each (T, dim/2)",
    )
    t.show("angles of [7, 3, 40]", lambda: layer.angles(np.array([7, 3, 40])))
    t.show(
        "angles of positions (2, 3)",
        lambda: layer.angles(np.array([[0, 1, 2], [5, 6, 7]])),
        why="a batch gives (batch, 1, T, dim/2): the 1 is for the heads",
    )
    slow = RotaryEmbedding(4, max_length=50, theta=100.0, scaling={"rope_type": "linear", "factor": 4.0})
    t.show("with linear scaling by 4", lambda: slow.angles(np.array([4, 8])), why="self._frequencies knows the scaling")
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    large = RotaryEmbedding(8, max_length=64, theta=100.0, scaling=yarn)
    t.show("with yarn scaling", lambda: large.angles(np.array([1, 60])), why="times self.magnitude")
    t.show(
        "the kind of both results", lambda: [type(x).__name__ for x in layer.angles([0, 1])], why="from_numpy of each"
    )


def distance_decides(t: Trial) -> None:
    """The product of a rotated query and key depends on their distance alone."""
    layer = RotaryEmbedding(4, max_length=50)
    q, k = t.normal(1, 4), t.normal(1, 4)

    def product(m: int, n: int) -> float:
        rotated = [rotary(x, *layer.angles(np.array([at]))).data for x, at in ((q, m), (k, n))]
        return float((rotated[0] * rotated[1]).sum())

    t.show(
        "products at the positions (5, 3), (12, 10), (3, 5)",
        lambda: [product(5, 3), product(12, 10), product(3, 5)],
        why="the first two are equal",
        rtol=1e-3,
    )


EXERCISES = (
    Exercise(
        "embedding",
        TABLE,
        2,
        (
            "Row 3 of the table belongs to id 3.",
            "NumPy takes an array of indices.",
            "return weight[ids]",
        ),
        (rows_are_looked_up,),
    ),
    Exercise(
        "embedding_backward",
        TABLE,
        4,
        (
            "Start with zeros of (size, dim), and add each row of g to the row that its id names.",
            "An id may stand at several places, and then its gradients add up.",
            "np.add.at(total, ids, g); then total[padding_idx] = 0, if there is one.",
        ),
        (rows_get_their_gradients,),
    ),
    Exercise(
        "Embedding._scale_down",
        TABLE,
        5,
        (
            "Which rows are used, and which of these are too long?",
            "np.unique(ids) names each used row once. The norm is (sum |x|^p)^(1/p) with p = self.norm_type.",
            "rows = self.weight.data[used]; norms = (np.abs(rows) ** p).sum(-1) ** (1 / p); rows with norms > most are "
            "written back, multiplied by most / norm. mutation.record(self.weight.data) tells autograd of the change.",
        ),
        (long_rows_are_shortened,),
    ),
    Exercise(
        "nearest",
        INSPECTION,
        5,
        (
            "Vectors that point in the same direction belong to tokens that are used alike.",
            "The cosine is table @ vector, divided by the length of each row and that of the vector; 0 where one is 0.",
            "table_of(source) is the array. Sort by -cosine with a stable sort, leave out the query if it is an id, "
            "and return the first k as (int(i), float(cosine[i])).",
        ),
        (nearest_by_angle,),
    ),
    Exercise(
        "sine_waves",
        POSITIONS,
        4,
        (
            "A clock has hands of different speeds, which together tell the time. Each pair of features is a hand.",
            "angle[p, i] = p / base ** (2i / dim), of shape (max_length, dim / 2), from a column of positions.",
            "Stack the sine and cosine of the angle along a new last dimension, and reshape to (max_length, dim).",
        ),
        (waves_of_many_lengths,),
    ),
    Exercise(
        "plain_frequencies",
        SCALING,
        2,
        (
            "The docstring has the formula.",
            "2i is 0, 2, 4, ..., below dim.",
            "np.float32(theta) ** (-np.arange(0, dim, 2, dtype=np.float32) / dim), as float32",
        ),
        (frequencies_fall,),
    ),
    Exercise(
        "rotary",
        ROTARY,
        4,
        (
            "A rotation by an angle takes (a, b) to (a cos - b sin, b cos + a sin).",
            "a is the first half of the last dimension, b the second.",
            "half = x.shape[-1] // 2; a, b = x[..., :half], x[..., half:]; join both results along the last dimension.",
        ),
        (pairs_are_rotated,),
    ),
    Exercise(
        "RotaryEmbedding.angles",
        ROTARY,
        5,
        (
            "Each position has dim/2 angles: position times frequency.",
            "self._frequencies(where) gives the frequencies for an array of positions, ready to broadcast.",
            "angle = where[..., None] * frequency in float32; for (batch, T) insert a dimension for the heads: "
            "angle[:, None]. Return from_numpy of cos(angle) and sin(angle), times self.magnitude.",
        ),
        (angles_grow, distance_decides),
    ),
)
