"""Tuned kernels of Act IV, each registered beside the formula of its op."""
