"""The tuned loops of Act V: what `jit`, `naive` and `capture` run in place of NumPy's kernels.

The lesson is in `tt_perf/acceleration/`; these files are the same idea for every op that trains a network. A file of
loops (`*_loops.py`) has formulas as loops over arrays, which run in plain Python and compile with Numba. The file of
kernels beside it checks what an op was given, allocates the results, shares the work over the cores, and leaves what
the loops do not cover to NumPy's kernel.

    arrays.py, views.py     the type hints by which a loop says what it takes, and rows of matrices
    tiles.py                products that stay in vector registers
    ops.py                  gelu, layer norm, cross entropy and products of integers, over `acceleration/loops.py`
    row_loops.py            softmax, cross entropy and others over rows; rows.py
    product_loops.py        matrix products by tiles; products.py says when they are faster than BLAS
    attention_loops.py      attention in blocks of queries, with products inside the loops; attention.py
    planes.py               convolution as products of tiles; convolution.py
    image_loops.py          pooling, ReLU and batch normalization; pooling.py
    stage_loops.py          convolution, bias, ReLU and pooling in one; stages.py
    update_loops.py         steps of optimizers over whole groups; optimizers.py
    pairs.py                several ops of a captured step as one kernel
    team_loops.py           pieces of one job that several cores take without Python; team.py, atomics.py
    decoding/               a token of a GPT as one compiled call, which `jit` brings to `kv-cache`
"""
