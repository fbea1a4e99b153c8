"""The programs behind the console command `l2rkd`, one module each: `run(flags)`."""
