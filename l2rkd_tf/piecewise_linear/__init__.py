"""Exact analysis of piecewise-linear networks, such as those of ReLU and max-pooling."""
