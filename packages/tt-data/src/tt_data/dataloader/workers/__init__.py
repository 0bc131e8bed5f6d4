"""Who prepares the batches of a loader: the loop itself, a thread beside it, or processes over shared memory."""
