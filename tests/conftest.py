"""Two CPU devices for every test, a fixed seed, and no memory of the models of other tests."""

import collections
import gc
import os
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
import tensorflow as tf
from absl.testing import flagsaver
from tensorflow.python.eager import context
from tensorflow.python.ops import gen_stateless_random_ops_v2, random_ops_util

# Searching for garbage takes a tenth of the time: TensorFlow's own objects need none of it, and of
# the many that tests make, few at a time are garbage.
gc.freeze()
gc.set_threshold(200_000, 20, 50)

# TensorFlow's kernels outlive a reset: making them again for each test takes a fifth of the time.
# What they remember, the state of random operations with seeds of their own, no test uses.
context.pywrap_tfe = types.SimpleNamespace(
    **{**vars(context.pywrap_tfe), "TFE_ContextClearCaches": lambda handle: None}
)

# One operation in place of fifteen for a draw, with the same values on a CPU; not in graphs, which
# XLA may compile: there the values are others.
_scramble_seed = random_ops_util._philox_scramble_seed
random_ops_util._philox_scramble_seed = lambda seed: (
    gen_stateless_random_ops_v2.stateless_random_get_key_counter(seed)
    if tf.executing_eagerly()
    else _scramble_seed(seed)
)


# A step that makes variables, those of optimizers and metrics, would be traced twice, which takes a
# third of the time: they are made outside of it.
KERAS_INITIALIZE = keras.Variable._initialize


def _initialize_outside(variable, value):
    if tf.executing_eagerly() or tf.distribute.has_strategy() or not callable(value):
        return KERAS_INITIALIZE(variable, value)
    with tf.init_scope():
        graph = tf.compat.v1.get_default_graph()
        creators, graph._variable_creator_stack = graph._variable_creator_stack, []
        try:
            return KERAS_INITIALIZE(variable, value)
        finally:
            graph._variable_creator_stack = creators


keras.Variable._initialize = _initialize_outside

CPUS = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(CPUS[0], [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_collection_modifyitems(items):
    """Leaves to `make stress` what is marked `stress`, and what a covering does not need."""
    if "L2RKD_STRESS" not in os.environ:
        left = [item for item in items if item.get_closest_marker("stress")]
        by_test = collections.defaultdict(list)
        for item in items:
            if item.get_closest_marker("covering") and item not in left:
                by_test[item.nodeid.partition("[")[0]].append(item)
        for cases in by_test.values():
            left += _beyond_a_covering(cases)
        for item in left:
            item.add_marker(pytest.mark.skip(reason="takes long: make stress"))


def _beyond_a_covering(cases):
    """The cases of a test that go beyond a few that have each value of each parameter."""
    values = {case: {(k, id(v)) for k, v in case.callspec.params.items()} for case in cases}
    missing = set().union(*values.values())
    while missing:
        best = max(values, key=lambda case: len(values[case] & missing))
        missing -= values.pop(best)
    return list(values)


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """Folder of TensorFlow Datasets in which the digits are prepared."""
    # Imported here: programs that are started as processes also import this module.
    from l2rkd_tf.data import digits, offline

    directory = tmp_path_factory.mktemp("tfds")
    offline.prepare_offline(digits.Digits(data_dir=directory))
    return directory


@pytest.fixture(autouse=True)
def _own_flags():
    """Flags of a program that a test imports end with the test: others have the same names."""
    with flagsaver.flagsaver():
        yield


@pytest.fixture(autouse=True)
def _fresh_keras():
    # Python collects garbage often enough by itself: after each test it takes a third of the time.
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
