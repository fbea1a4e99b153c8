"""Comparisons of distillation methods: `python -m studies NAME`."""
