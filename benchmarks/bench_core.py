"""Act I: what an op costs with and without plugins, and how fast the matrix product is."""

from __future__ import annotations

from .support import activate, applicable, normal, plugins


class OpOverhead:
    """One element, where nothing but the dispatch takes time; "kernel" is the NumPy function alone."""

    params = (plugins("kernel", "none", "profiler"), ["exp", "add"])
    param_names = ("plugin", "op")

    def setup(self, plugin: str, op: str) -> None:
        with applicable():
            from tt_core import Tensor, add, exp
        bare = plugin == "kernel"
        activate("none" if bare else plugin)
        self.call = {"exp": exp, "add": add}[op]
        self.inputs = (normal(1),) * {"exp": 1, "add": 2}[op]
        if bare:
            self.call = self.call.kernel
        else:
            self.inputs = tuple(Tensor(array) for array in self.inputs)

    def time_op(self, plugin: str, op: str) -> None:
        self.call(*self.inputs)


class MatMul:
    """Square float32 products."""

    params = (64, 256, 1024)
    param_names = ("size",)

    def setup(self, size: int) -> None:
        with applicable():
            from tt_core import Tensor
        self.a = Tensor(normal(size, size))
        self.b = Tensor(normal(size, size))

    def time_matmul(self, size: int) -> None:
        self.a @ self.b


class LinearRows:
    """A layer from 768 to 768 features on a few rows, as when text is generated, and on many."""

    params = (1, 4, 32, 256)
    param_names = ("rows",)

    def setup(self, rows: int) -> None:
        with applicable():
            from tt_core import Linear, Tensor
        self.layer = Linear(768, 768)
        self.x = Tensor(normal(rows, 768))

    def time_forward(self, rows: int) -> None:
        self.layer(self.x)


class Import:
    """`import tt_core` in a fresh interpreter, NumPy's share included."""

    def setup(self) -> None:
        with applicable():
            import tt_core  # noqa: F401

    def timeraw_import(self) -> str:
        return "import tt_core"
