"""Flags that several example programs have, and how they are checked before any work."""

import ast
import math
import sys

import tensorflow as tf
import training
from absl import app, flags, logging

from l2rkd_tf import methods, regions

FLAGS = flags.FLAGS

REGIONS = {
    "segment": regions.Segment,
    "simplex": regions.Simplex,
    "patch": regions.Patch,
    "ball": regions.Ball,
}
METHODS = {
    "attention_transfer": methods.AttentionTransfer,
    "correlation_congruence": methods.CorrelationCongruence,
    "crd": methods.CRD,
    "dist": methods.DIST,
    "dkd": methods.DKD,
    "fitnet": methods.FitNet,
    "fsp": methods.FSP,
    "jacobian_matching": methods.JacobianMatching,
    "logit_standardization": methods.LogitStandardization,
    "nst": methods.NeuronSelectivityTransfer,
    "pkt": methods.PKT,
    "rkd": methods.RelationalKD,
    "similarity_preserving": methods.SimilarityPreserving,
    "vid": methods.VID,
}


def parse_region(text):
    """A region from a flag: `patch`, `ball:radius=0.2,norm="linf"`, `patch:grid=8 + segment`.

    Args:
        text: Name of a region, and arguments of its class after a colon; several of them with
            `+` between are a mixture in equal parts. An empty text is `None`, the default region
            of the distiller.

    Returns:
        A `l2rkd_tf.regions.Region` or `None`.

    Raises:
        ValueError: If there is no such region or argument.
    """
    if not text:
        return None
    parts = [_parse_part(part.strip(), text) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else regions.Mixture(parts)


def _parse_part(part, text):
    name, _, arguments = part.partition(":")
    if name not in REGIONS:
        raise ValueError(f"`region` must begin with one of {sorted(REGIONS)}. Received: {text!r}")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if call.args:
            raise ValueError("an argument without a name")
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"`region` takes arguments as in 'patch:grid=4,radius=0.5'. Received: {text!r}"
        ) from error
    try:
        return REGIONS[name](**keywords)
    except TypeError as error:
        raise ValueError(f"`region` {name!r}: {error}. Received: {text!r}") from error


def make_methods(names):
    """Distillation methods from the words of a list flag, each with its defaults."""
    return [METHODS[name]() for name in names]


def define_data_flags():
    """Flags that say which data are read, and where results may go."""
    flags.DEFINE_string("dataset", "digits", "Data set: a name of tfds, or a folder of images.")
    flags.DEFINE_list(
        "splits",
        ["train", "validation", "test"],
        "Splits to train on, to watch and to report, such as train[:90%],train[90%:],test; or "
        "train,,test to watch none.",
    )
    flags.DEFINE_string("data_dir", None, "Where tfds keeps its data sets.")
    flags.DEFINE_boolean("download", False, "Whether to fetch a data set that is not prepared.")
    flags.DEFINE_integer("image_size", None, "Side that images are resized to.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 50, "Examples in a batch.", lower_bound=1)
    flags.register_validator(
        "splits",
        lambda splits: len(splits) == 3 and bool(splits[0]) and bool(splits[2]),
        "must be three splits, of which the second one may be empty",
    )


def define_schedule_flags(epochs, steps_per_epoch, learning_rate):
    """Flags that say how long and how fast to train, and where the results go."""
    flags.DEFINE_integer("epochs", epochs, "Epochs.", lower_bound=1)
    flags.DEFINE_integer(
        "steps_per_epoch",
        steps_per_epoch,
        "Steps of an epoch; the data repeat as often as needed. 0 for a pass through them; not "
        "given, for a teacher: a pass, or 20 steps where that is fewer.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "learning_rate", learning_rate, "Learning rate at the start, of which --optimizer tells."
    )
    flags.DEFINE_boolean("overwrite", False, "Whether to replace an existing output folder.")
    flags.DEFINE_integer("verbose", 1, "0: silent, 1: progress bars, 2: a line an epoch.", 0, 2)
    flags.register_validator("learning_rate", lambda rate: rate > 0, "must be above 0")


def define_widths_flag():
    """The flag that says how large a student is."""
    flags.DEFINE_list(
        "widths",
        [],
        "Channels of each block of the student. Empty for 16, and twice as many in each further "
        "block, as many as leave maps of 4 pixels: 16,32 for images of 8, 16,32,64,128 for 32.",
    )
    flags.register_validator(
        "widths", lambda words: not words or are_counts(words), "must be integers above 0"
    )


def define_tensorboard_flag():
    """The flag that says where TensorBoard finds a run."""
    flags.DEFINE_string(
        "tensorboard",
        "",
        "Folder for the TensorBoard of this run alone, of which an earlier run there is taken "
        "out; empty for none.",
    )


def define_strategy_flags():
    """Flags that say on what to train."""
    flags.DEFINE_enum(
        "strategy",
        "default",
        ["default", "mirrored", "multi_worker", "tpu"],
        "Replicas: one, one for each GPU, those of all workers in TF_CONFIG, or those of a TPU.",
    )
    flags.DEFINE_string("tpu", "local", "Name or address of the TPU of --strategy=tpu.")
    flags.DEFINE_integer(
        "cpu_devices", 1, "Parts of the CPU, to try --strategy=mirrored without GPUs.", 1
    )


def make_strategy():
    """The strategy that the flags ask for; to be made before anything else of TensorFlow."""
    if FLAGS.cpu_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * FLAGS.cpu_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    if FLAGS.strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if FLAGS.strategy == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if FLAGS.strategy == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(FLAGS.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def is_chief(strategy):
    """Whether this process is the one, of several workers, that reports and keeps the results."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def data_flags():
    """Arguments of `training.load_splits` from the flags."""
    names = ("splits", "data_dir", "download", "image_size")
    return {name: FLAGS[name].value for name in names}


def schedule_flags(dataset):
    """Arguments of `training.fit` from the flags, for this training split."""
    names = ("epochs", "learning_rate", "verbose")
    steps = FLAGS.steps_per_epoch
    if steps is None:
        steps = training.steps_of_a_pass(dataset)
    steps = steps or len(dataset)
    return {name: FLAGS[name].value for name in names} | {"steps_per_epoch": steps}


def student_widths(dataset):
    """Channels of each block of the student, for this training split."""
    if FLAGS.widths:
        return [int(width) for width in FLAGS.widths]
    side = min(dataset.element_spec[0].shape[1:3])
    return [16 * 2**block for block in range(max(1, int(math.log2(side)) - 1))]


def all_flags():
    """All flags of the program with their values, for the record."""
    return {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.argv[0])}


def start(argv):
    """Refuses words that are no flags, such as `epochs=3`, and silences the data libraries."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    logging.set_verbosity(logging.WARNING)


def are_counts(words):
    """Whether all words of a list flag are integers above 0."""
    return bool(words) and all(word.isdecimal() and int(word) > 0 for word in words)


def are_seeds(words):
    """Whether all words of a list flag are different integers from 0."""
    return bool(words) and all(map(str.isdecimal, words)) and len(set(words)) == len(words)


def are_methods(words):
    """Validator of `--methods`: raises a list of what there is."""
    unknown = sorted(set(words) - set(METHODS))
    if unknown:
        raise flags.ValidationError(f"must be among {sorted(METHODS)}. Received: {unknown}")
    return True


def are_weights(words):
    """Whether all words of a list flag are finite numbers from 0."""
    try:
        return all(0 <= float(word) < float("inf") for word in words)
    except ValueError:
        return False


def is_region(text):
    """Validator of `--region`: raises what `parse_region` finds wrong."""
    try:
        parse_region(text)
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True
