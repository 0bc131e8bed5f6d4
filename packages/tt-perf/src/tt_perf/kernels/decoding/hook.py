"""Beside module 18, decoding: which calls of a GPT are one token that a program covers. All others go op by op.

A call is covered when it reads one token for each of up to 16 texts after a prompt in a `KVCache`, in evaluation mode
and without gradients. `Decoding.report` counts the tokens that were not, with the reason.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.plugins import Answers, manager
from tt_core.tensor import as_array
from tt_core.tensor.creation import from_numpy
from tt_language import GPT
from tt_language.embeddings import RotaryEmbedding
from tt_learn.autograd import is_grad_enabled
from tt_perf.acceleration.compiling import has_current_folder
from tt_perf.kernels.decoding.programs import Uncovered
from tt_perf.kernels.decoding.session import Session, fits
from tt_perf.memoization import KVCache, StaticCache

MOST_ROWS = 16
"""Texts in a batch; with more, products of matrices (BLAS) are faster."""
_SAME_VALUES = ("autograd", "jit", "mkl")
"""Plugins that change no value, and need not see each op."""


class Decoding:
    """Wraps the call of a GPT. `compiled` gives the function `machine.run`."""

    def __init__(self, compiled: Callable[[], Callable[..., None]]) -> None:
        self._compiled = compiled
        self._sessions: weakref.WeakKeyDictionary[KVCache, Session | str] = weakref.WeakKeyDictionary()
        self.tokens = 0
        """Tokens that were one call."""
        self.left: Counter[str] = Counter()
        """Tokens that were computed op by op, by the reason."""

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call of a GPT, of which tokens take the short way."""

        def forward(
            model: GPT,
            ids: Any,
            *,
            positions: Any = None,
            attn_mask: Any = None,
            past: Any = None,
            logits_to_keep: int = 0,
        ) -> Any:
            if past is not None and ids.ndim == 2 and ids.shape[1] == 1 and past.length:
                try:
                    logits = self._token(model, ids, positions, attn_mask, past)
                    self.tokens += 1
                    return from_numpy(logits[:, None])
                except Uncovered as reason:
                    self.left[str(reason)] += 1
            return call(model, ids, positions=positions, attn_mask=attn_mask, past=past, logits_to_keep=logits_to_keep)

        return forward

    def report(self) -> str | None:
        """What was left to the ops since the last report."""
        if not self.left:
            return None
        reasons = ", ".join(f"{count:,} for {reason}" for reason, count in self.left.most_common(3))
        total = self.tokens + self.left.total()
        text = f"jit: {self.tokens:,} of {total:,} tokens were one compiled call; op by op: {reasons}"
        self.tokens, self.left = 0, Counter()
        return text

    def _token(self, model: GPT, ids: Any, positions: Any, mask: Any, past: Any) -> Array:
        session = self._session(model, past, ids.shape[0])
        given, before = as_array(ids), past.length
        endless = past.beyond == "window"
        where = np.full(len(given), before) if positions is None else np.broadcast_to(as_array(positions), given.shape)
        where = where.reshape(-1)
        _check(model, given, where, mask, before, endless)
        angles = None if model.rotary is None else _angles(model.rotary, where, positions is None, endless)
        mask = past.begin(ids, None if positions is None else positions, mask)
        slots, length = past.column()
        ids, where = given.astype(np.int64), where.astype(np.int64)
        try:
            return session.token(ids, where, angles, past, _bytes_of(mask, len(given), length), slots, length)
        except BaseException:  # other threads may still work on the token, so the next one gets tables of its own
            self._sessions.pop(past, None)
            raise

    def _session(self, model: GPT, past: Any, rows: int) -> Session:
        """The session of this generation; raises `Uncovered` where there is none."""
        if is_grad_enabled():
            raise Uncovered("gradients")
        if type(past) not in (KVCache, StaticCache):
            raise Uncovered(f"a cache {type(past).__name__}")
        watching = _watching(_HOOKS)
        if watching:
            raise Uncovered(f"plugin {watching}, which sees each op")
        known = self._sessions.get(past)
        if isinstance(known, Session) and (
            known.model() is not model or known.rows != rows or not known.program.holds()
        ):
            known = None
        if known is None:
            known = self._sessions[past] = self._new(model, past, rows)
        if isinstance(known, str):
            raise Uncovered(known)
        return known

    def _new(self, model: GPT, past: KVCache, rows: int) -> Session | str:
        if rows > MOST_ROWS:
            return f"more than {MOST_ROWS} texts"
        if model.training:
            return "training mode"
        if os.environ.get("TT_WORKSPACE"):
            return "code of a workspace"
        if not fits(past) or past.rows != rows:
            return "a cache that does not hold float32"
        if not has_current_folder():
            return "a current folder that was deleted"
        try:
            session = Session(model, past, self._compiled())
        except Uncovered as reason:
            return str(reason)
        return session if session.program.holds() else "layers in training mode or with hooks"


def _angles(rotary: RotaryEmbedding, where: Array, alike: bool, endless: bool) -> tuple[Array, Array]:
    """Cosines and sines of each row's position, (rows, size / 2) each; `alike` if all rows have the same position."""
    found = rotary.angles(where[:1] if alike else where[:, None], endless)
    cosines, sines = (np.broadcast_to(x.data.reshape(-1, x.shape[-1]), (len(where), x.shape[-1])) for x in found)
    return cosines, sines


def _check(model: GPT, ids: Array, where: Array, mask: Any, before: int, endless: bool) -> None:
    """Raise `Uncovered` for input that the op-by-op way refuses, or that a program does not cover."""
    context = model.config.block_size
    if ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= model.config.vocab_size:
        raise Uncovered("ids outside of the vocabulary")
    if (
        where.dtype.kind not in "iu"
        or where.min() < 0
        or (not endless and (where.max() >= context or before >= context))
    ):
        raise Uncovered("positions outside of the context")
    if mask is None:
        return
    array = as_array(mask)
    plain = array.dtype == np.bool_ and array.ndim == 4 and array.shape[1:3] == (1, 1) and array.shape[3] == before + 1
    if not plain or not array[..., -1].all():
        raise Uncovered("a mask that is not one of padding")


def _bytes_of(mask: Any, rows: int, length: int) -> Array | None:
    """A mask (rows or 1, 1, 1, keys) as bytes (rows, keys)."""
    if mask is None:
        return None
    array = as_array(mask)[:, 0, 0]
    return np.ascontiguousarray(np.broadcast_to(array, (rows, length))).view(np.uint8)


def _find_watching(hooks: tuple[str, ...]) -> str:
    """The name of a plugin whose kernels or wraps would be passed by; empty where there is none."""
    names = [each.plugin_name for hook in hooks for each in getattr(manager.hook, hook).get_hookimpls()]
    return next((name for name in names if name not in _SAME_VALUES), "")


_HOOKS = ("tt_kernel", "tt_observe_op", "tt_wrap_op", "tt_wrap_layer")
_watching = Answers(_find_watching, set(_HOOKS))
