"""PyTorch's names that scripts use and the journey does not need, as compositions of ops.

`functions` holds functions, `methods` tensor methods, `layers` methods of layers, `ops` the few ops that no composition
gives.
"""
