"""What Act II brings to the command `tt`: its rows of the journey and its milestones. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from tt_core.command.journey import Milestone, Module, deferred
from tt_core.engine.plugins import hookimpl


class Act:
    """Act II's answers to the hooks."""

    @hookimpl
    def tt_modules(self) -> Iterable[Module]:
        return (
            Module(
                5,
                "autograd",
                2,
                "compute gradients",
                "tt_learn.autograd",
                "the graph of a computation, the walk back, functions of your own",
                "backward needs what forward computed, so training takes memory that inference does not",
                "components that compute cannot learn yet",
            ),
            Module(
                6,
                "optimizers",
                2,
                "optimize parameters",
                "tt_learn.optimizers",
                "SGD with momentum, RMSprop, Adam",
                "Adam keeps two more numbers for each parameter: three times the memory",
                "a gradient says which way, not how far",
            ),
            Module(
                7,
                "training",
                2,
                "train models",
                "tt_learn.training",
                "the loop, schedules, checkpoints, validation",
                "all parts so far interact in one loop of ten lines",
                "the parts exist; now they run together, and a run must survive a crash",
            ),
        )

    @hookimpl
    def tt_milestones(self) -> Iterable[Milestone]:
        xor = "trains networks of one and of two layers on four points: two seconds"
        mlp = "trains a network of two layers on MNIST, or on drawn digits without it: half a minute on two cores"
        return (
            Milestone("xor", 1969, "The XOR crisis", 2, deferred("tt_learn.command.milestones:xor"), xor),
            Milestone("mlp", 1986, "Backpropagation reads digits", 2, deferred("tt_learn.command.milestones:mlp"), mlp),
        )


plugin = Act()
