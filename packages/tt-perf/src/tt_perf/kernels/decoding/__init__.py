"""Beside module 18: one token of a GPT as one compiled call. The plugin `jit` brings it to `kv-cache`.

Generating a token reads each weight once and multiplies it once, so it can be as fast as memory is. Op by op it is not:
each of some 200 ops costs microseconds in Python and hands work to threads anew. Here a model becomes a table of steps,
and a compiled function walks through it on all cores without returning to Python. Read in this order:

    columns.py      what a step says
    programs.py     from a model to its steps
    machine.py      the compiled walk: threads claim chunks of a step, and meet after each phase
    products.py     a weight times a vector: float32, int8 and int4
    several.py      the same for several vectors at once: batches of texts, and prompts (linear.py)
    attend.py       attention of one position over the cache
    elements.py     norms and activations
    rows.py         embedding tables
    intrinsics.py   atomic counters and dot products of bytes, for which Numba has no words
    session.py      a generation: the program, the cache, the threads
    hook.py         when a call of a GPT is one token, and what is left to the ops
"""
