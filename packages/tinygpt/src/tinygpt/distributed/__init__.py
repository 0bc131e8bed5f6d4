"""Module 20, capstone: one training on several processes, on one machine or on many, by MPI.

`mpiexec -n 4 tinygpt train --plugin data-parallel`: each process, or rank, computes the gradient of its share of every
batch, and all take the same step with the mean. Read `world` for the processes, `plugin` for the gradients.
"""

from __future__ import annotations

from tinygpt.distributed.world import ONE as ONE
from tinygpt.distributed.world import World as World
from tinygpt.distributed.world import world as world
