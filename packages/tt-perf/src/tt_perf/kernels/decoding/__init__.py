"""Beside module 18: one token of a GPT as one compiled call. The plugin `jit` brings it to `kv-cache`.

Generating a token reads and multiplies each weight once, so it could run at the speed of memory. Op by op it does not:
each of some 200 ops costs microseconds in Python and hands its work to the threads again. Here a model becomes a table
of steps, and a compiled function walks through it on all cores without returning to Python. Read in this order:

    columns.py      the columns of the table: what a step consists of
    programs.py     from a model to its steps
    machine.py      the compiled walk: threads claim chunks of a step, and meet after each phase
    products.py     a weight times a vector: float32, int8 and int4
    several.py      the same for several vectors at once: batches of texts, and prompts (linear.py)
    attend.py       attention of one position over the cache
    elements.py     norms and activations
    rows.py         embedding tables
    intrinsics.py   atomic counters and dot products of bytes, which Numba does not provide
    session.py      a generation: the program, the cache, the threads
    hook.py         which calls of a GPT are handled here, and which are left to the ops
"""
