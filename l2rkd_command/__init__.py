"""The console command `l2rkd`: parses flags, then runs a program of `l2rkd_tf.cli`.

A package of its own, since importing anything of `l2rkd_tf` imports TensorFlow, which takes
seconds: help and wrong flags are answered before that.
"""
