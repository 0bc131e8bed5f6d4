"""Part of `capture`: the tensors of a recorded step, which notice when somebody reads their values.

Ops compute with `x.data`. Anything else that reads it (`item()`, `if loss < 1`, `numpy()`, a loop of the user's) could
decide something by the values, and a replay would decide the same for other values. So while a step is recorded, every
tensor in it is a `Traced` one, whose `data` asks who reads. The framework's own code that reads shapes and dtypes is
listed below; everybody else ends the recording.
"""

from __future__ import annotations

import sys
import threading
import types
from typing import TYPE_CHECKING

from tt_core.engine.dispatch import Array
from tt_learn.autograd import Tensor
from tt_learn.autograd.record import Recalled

if TYPE_CHECKING:
    from tt_perf.acceleration.capture.record import Recorder


class _Recording:
    """The recorder at work, if there is one, and its thread."""

    recorder: Recorder | None = None
    thread = 0

    def here(self) -> Recorder | None:
        """The recorder, if it records this thread and has not been stopped."""
        recorder = self.recorder
        if recorder is None or self.thread != threading.get_ident() or recorder.paused or recorder.refusal:
            return None
        return recorder


recording = _Recording()


if TYPE_CHECKING:

    class _Watching: ...

else:

    class _Watching:
        """Tensors whose data tells the recorder who reads it."""

        @property
        def data(self) -> Array:
            recorder = recording.here()
            if recorder is not None:
                frame = sys._getframe(1)
                if not _is_trusted(frame):
                    recorder.refuse(f"{_place(frame)} reads the values of a tensor")
            return self.__dict__["data"]

        @data.setter
        def data(self, array: Array) -> None:
            recorder = recording.here()
            if recorder is not None:
                frame = sys._getframe(1)
                if "data" in self.__dict__ or not _is_trusted(frame):
                    recorder.refuse(f"{_place(frame)} replaces the data of a tensor")
            at_work = recording.recorder
            if at_work is not None:
                at_work.made(self)
            else:  # another thread has ended its recording since this one looked up the class
                self.__class__ = self.ordinary
            self.__dict__["data"] = array


class Traced(_Watching, Tensor):
    """A tensor of a step that is being recorded; in other threads, and after the recording, as any other."""

    ordinary = Tensor

    if not TYPE_CHECKING:

        @property
        def _grad(self) -> Tensor | None:
            gradient = self.__dict__.get("_grad")
            recorder = recording.here()
            if recorder is not None:
                recorder.look(self, gradient)
            return gradient

        @_grad.setter
        def _grad(self, gradient: Tensor | None) -> None:
            recorder = recording.here()
            if recorder is not None:
                recorder.gradient(self, gradient)
            self.__dict__["_grad"] = gradient


class TracedRecalled(_Watching, Recalled):
    """What stands for a traced tensor inside the rule that computed it."""

    ordinary = Recalled


Traced.recalled = TracedRecalled


_OF_TENSOR = {"shape", "ndim", "dtype", "nbytes", "strides", "numel", "element_size", "detach"}
_OF_TENSOR |= {"is_contiguous", "is_floating_point"}
_TRUSTED = ("tt_core.engine.", "tt_learn.autograd.", "tt_learn.rules.", "tt_perf.acceleration.capture.")
_FRAMEWORK = ("tt_core.", "tt_learn.", "tt_perf.acceleration.capture.", "functools")
_READERS = ("tt_learn.autograd.finite_differences", "tt_learn.autograd.drawing", "tt_core.engine.heap")
_trusted: dict[types.CodeType, bool] = {}


def _is_trusted(frame: types.FrameType) -> bool:
    """Whether this code takes nothing but arrays for kernels, shapes and dtypes from a tensor's data."""
    code = frame.f_code
    if code not in _trusted:
        module = str(frame.f_globals.get("__name__", ""))
        _trusted[code] = (
            (module.startswith(_TRUSTED) and module not in _READERS)
            or module == "tt_core.tensor.rearranging"
            or (module == "tt_core.tensor.tensor" and code.co_name in _OF_TENSOR)
        )
    return _trusted[code]


def _place(frame: types.FrameType) -> str:
    """Where a value is read: the innermost code that is not the framework's, or its own function."""
    outer: types.FrameType | None = frame
    while outer is not None:
        if not str(outer.f_globals.get("__name__", "")).startswith(_FRAMEWORK):
            return f"{outer.f_code.co_name} (line {outer.f_lineno})"
        outer = outer.f_back
    return frame.f_code.co_name
