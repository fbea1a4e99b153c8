"""Flags that say which devices train."""

from absl import flags

from l2rkd_command.flags.groups import under


def define(FLAGS):
    """Defines the flags."""
    options = under("Devices", FLAGS)
    flags.DEFINE_enum(
        "strategy",
        "default",
        ["default", "mirrored", "multi_worker", "tpu"],
        "One device; all GPUs of this machine; all workers in TF_CONFIG, see `l2rkd launch`; or a "
        "TPU.",
        **options,
    )
    flags.DEFINE_string("tpu", "local", "Name or address of the TPU of --strategy=tpu.", **options)
    flags.DEFINE_integer(
        "cpu_devices",
        1,
        "Devices to split the CPU into, to try --strategy=mirrored without GPUs.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_enum(
        "mixed_precision",
        "none",
        ["none", "mixed_float16", "mixed_bfloat16"],
        "Precision of the student.",
        **options,
    )
    flags.DEFINE_enum(
        "jit_compile",
        "auto",
        ["auto", "on", "off"],
        "Whether XLA compiles the training steps.",
        **options,
    )
