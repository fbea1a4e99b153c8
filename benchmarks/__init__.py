"""What things cost, and how that was measured: `python -m benchmarks.speed`.

The programs are `speed`, `profile_step`, `time_to_accuracy`, `scaling` and `finite`. They run
from the root of the repository and write to `runs/`, or where `--output` says.
"""
