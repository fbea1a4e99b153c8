"""The `tf.distribute` strategy of a program."""

import tensorflow as tf
from absl.flags import FlagValues

__all__ = ["is_chief", "make_strategy"]


def make_strategy(flags: FlagValues) -> tf.distribute.Strategy:
    """The strategy that the flags ask for; to be made before anything else of TensorFlow."""
    if flags.cpu_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * flags.cpu_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    if flags.strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if flags.strategy == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if flags.strategy == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(flags.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one, of several workers, that reports and keeps the results."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id
