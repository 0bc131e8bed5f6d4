"""Preparing the batches of a loader: in the loop itself, in a thread, or in processes with shared memory.

Part of module 08, dataloader. Read `fetch` (one batch), `pools` (the loop and the thread), `processes` and `server`
(the two sides of a worker), and `memory`.
"""

from __future__ import annotations

from tt_data.dataloader.workers.fetch import Fetcher as Fetcher
from tt_data.dataloader.workers.fetch import WorkerInfo as WorkerInfo
from tt_data.dataloader.workers.fetch import get_worker_info as get_worker_info
from tt_data.dataloader.workers.pools import InlinePool as InlinePool
from tt_data.dataloader.workers.pools import Pool as Pool
from tt_data.dataloader.workers.pools import ThreadPool as ThreadPool
from tt_data.dataloader.workers.pools import WorkerError as WorkerError
from tt_data.dataloader.workers.processes import ProcessPool as ProcessPool
