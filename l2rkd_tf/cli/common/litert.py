"""LiteRT files as Keras models that the library can measure, and how long a call takes."""

import random
import threading
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    # The interpreter inside TensorFlow runs the same files.
    Interpreter = tf.lite.Interpreter


class OneImage:
    """Runs a `.tflite` file on one image at a time, as a program on a device does.

    Args:
        path: The file. It has one input and one output.
        num_threads: Threads that a call may use.
    """

    def __init__(self, path, num_threads=1):
        self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (image,), (outputs,) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._image, self._outputs = image["index"], outputs["index"]
        self.num_outputs = int(outputs["shape"][-1])

    def __call__(self, image):
        """The outputs, shape `(1, outputs)`, of an image of shape `(1, ...)`."""
        self._interpreter.set_tensor(self._image, image)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._outputs)


class LiteRTModel(keras.Model):
    """A `.tflite` file as a Keras model, so that it can be measured like its student.

    Args:
        path: The file, as in `OneImage`. It runs on the images of a batch one after another.
    """

    def __init__(self, path):
        super().__init__()
        self.built = True
        self.supports_jit = False  # XLA cannot call Python
        self._one_image = OneImage(path)
        self._one_at_a_time = threading.Lock()  # graphs may call from several threads

    def _call_each(self, images):
        with self._one_at_a_time:
            return np.concatenate([self._one_image(image[None]) for image in images])

    def call(self, images, training=False):
        """The outputs, shape `(batch, outputs)`, of a batch of images."""
        del training  # the file is for inference only
        outputs = tf.numpy_function(self._call_each, [images], tf.float32)
        return tf.ensure_shape(outputs, (images.shape[0], self._one_image.num_outputs))


def time_calls(calls, images, rounds, warm_up, seed=0, show_progress=False):
    """Times calls on single images. They take turns, so that a slow moment slows all of them.

    Args:
        calls: Functions of an image of shape `(1, ...)`, by name.
        images: Images, shape `(images, ...)`. Each round takes the next one.
        rounds: Number of timed rounds. A round makes every call once, in a new random order.
        warm_up: Number of rounds before these, which do not count.
        seed: Seed of the orders.
        show_progress: Whether to show a bar with the time left, if stderr is a terminal.

    Returns:
        Seconds of each call by name, shape `(rounds,)`.
    """
    seconds, order = {name: [] for name in calls}, list(calls)
    generator = random.Random(seed)
    hidden = None if show_progress else True  # None: unless it is a terminal
    for number in tqdm.trange(warm_up + rounds, unit="round", disable=hidden):
        generator.shuffle(order)
        image = images[number % len(images)][None]
        for name in order:
            start = time.perf_counter()
            calls[name](image)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[warm_up:]) for name, values in seconds.items()}
