"""PyTorch's names that scripts use and the journey does not need, as compositions of ops.

`functions` holds functions, `methods` and `elements` tensor methods, `layers` methods of layers. `ops` holds the few
ops that no composition gives.
"""
