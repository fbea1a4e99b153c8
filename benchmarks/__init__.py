"""What things cost: `python -m benchmarks.speed` and so on."""
