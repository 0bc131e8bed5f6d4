"""Beside module 18: pieces of one job that several threads take, without Python and its lock between them.

A job is a function of an address and a number: `piece(arguments, i)` computes piece i of what the numbers at
`arguments` describe. It lies in the *mail*, one array of integers that is never freed:

    CLAIM     job's number << 32 | pieces << 16 | pieces that are claimed
    DONE      pieces that are done
    BUSY      1 while a job is in the mail
    ASLEEP    for each helper, 1 while it waits to be woken

A thread claims the next piece by exchanging CLAIM for one more, which fails if any other thread was faster, or if the
job is not the one that it has seen. So a helper that comes late finds nothing to claim, and touches no memory but the
mail. The caller claims pieces like the others, and then waits for those that are claimed and not done.

A helper looks for work for some microseconds, then lets other programs have the core between two looks, and then sleeps
(`team.py` wakes it). So jobs that follow closely cost about a microsecond each to hand over, a helper that has no work
takes nothing from other programs, and one that loses its core holds up the piece that it has claimed and no more.
"""

from __future__ import annotations

from tt_perf.kernels.arrays import LabelsOut
from tt_perf.kernels.atomics import atomics

CLAIM, DONE, BUSY, HELPERS, YIELD, SLEEP = 0, 8, 16, 24, 25, 26
"""Places in the mail. HELPERS: how many may help. YIELD, SLEEP: addresses of C functions of one int."""
FUNCTION, ARGUMENTS, MOST = 32, 33, 24
"""The address of a job's function, and its numbers, up to MOST."""
ASLEEP = 64
SPINS, YIELDS = 2000, 300

atomic_add, atomic_load = atomics()["atomic_add"], atomics()["atomic_load"]
atomic_store, atomic_swap = atomics()["atomic_store"], atomics()["atomic_swap"]
call, call_piece = atomics()["call"], atomics()["call_piece"]
integers_at = atomics()["integers_at"]


def take(mail: int) -> None:
    """Claims and computes pieces until none is left; `mail` is an address."""
    while True:
        seen = atomic_load(mail + 8 * CLAIM)
        piece = seen & 65535
        if piece >= (seen >> 16) & 65535:
            return
        if atomic_swap(mail + 8 * CLAIM, seen, seen + 1):
            call_piece(integers_at(mail, ASLEEP)[FUNCTION], mail + 8 * ARGUMENTS, piece)
            atomic_add(mail + 8 * DONE, 1)


def run_pieces(mail: LabelsOut, function: int, arguments: LabelsOut, pieces: int) -> None:
    """Computes all pieces of a job: alone if another thread has a job in the mail, else with the helpers."""
    base = mail.ctypes.data
    if pieces == 1 or not atomic_swap(base + 8 * BUSY, 0, 1):
        for piece in range(pieces):
            call_piece(function, arguments.ctypes.data, piece)
        return
    mail[FUNCTION] = function
    for i in range(arguments.size):
        mail[ARGUMENTS + i] = arguments[i]
    atomic_store(base + 8 * DONE, 0)
    number = (atomic_load(base + 8 * CLAIM) >> 32) + 1
    atomic_store(base + 8 * CLAIM, (number & 0x7FFFFFFF) << 32 | pieces << 16)
    take(base)
    rounds = 0
    while atomic_load(base + 8 * DONE) < pieces:
        rounds += 1
        if rounds > SPINS + YIELDS:
            call(mail[SLEEP], 50)
        elif rounds > SPINS:
            call(mail[YIELD], 0)
    atomic_store(base + 8 * BUSY, 0)


def serve(mail: LabelsOut, helper: int) -> None:
    """Helps with jobs until none has come for a while; then this helper is asleep."""
    base = mail.ctypes.data
    rounds = 0
    while rounds < SPINS + YIELDS:
        seen = atomic_load(base + 8 * CLAIM)
        if (seen & 65535) < ((seen >> 16) & 65535) and helper < mail[HELPERS]:
            take(base)
            rounds = 0
        else:
            rounds += 1
            if rounds > SPINS:
                call(mail[YIELD], 0)
    atomic_store(base + 8 * (ASLEEP + helper), 1)
