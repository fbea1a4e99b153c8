"""Chooses the other examples of a batch that an example is mixed with."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.draws import random_bits
from l2rkd_tf.regions.leaves import is_mixable

PARTNERS = ("random", "nearest", "same_class")


def draw_partners(partner, leaves, labels, count, seed):
    """Rows of the partners, int32, shape `(batch, count)`; never an example's own row.

    Only if there is no other row (a batch of one, or no other example of the class) is an example
    its own partner, and then stays where it is.
    """
    batch = tf.shape(leaves[0])[0]
    if partner == "nearest":
        return _nearest(leaves, batch)[:, None]
    if partner == "same_class":
        return _random_of_same_class(_class_ids(labels), batch, seed)[:, None]
    others = tf.maximum(batch - 1, 1)
    start = random_bits([batch, 1], seed)
    offset = 1 + (start + tf.range(count)) % others
    return (tf.range(batch)[:, None] + offset) % batch


def _nearest(leaves, batch):
    # In float64, since the squared distances below are small differences of large numbers.
    flat = [
        tf.reshape(tf.cast(leaf, tf.float64), [batch, tf.reduce_prod(tf.shape(leaf)[1:])])
        for leaf in leaves
        if is_mixable(leaf.dtype)
    ]
    if not flat:
        raise ValueError(
            "`partner='nearest'` needs an input that is floating-point or a uint8 image, to "
            "measure distances. Received: inputs of dtype "
            f"{', '.join(leaf.dtype.name for leaf in leaves)}. Use partner='random'."
        )
    points = tf.concat(flat, axis=1)
    norms = tf.reduce_sum(points**2, axis=1)
    distances = norms[:, None] + norms - 2.0 * tf.matmul(points, points, transpose_b=True)
    distances = tf.linalg.set_diag(distances, tf.fill([batch], np.float64(np.inf)))
    return tf.argmin(_never_empty(distances, np.inf), axis=1, output_type=tf.int32)


def _random_of_same_class(classes, batch, seed):
    keys = random_bits([batch, batch], seed)
    is_candidate = tf.linalg.set_diag(classes[:, None] == classes, tf.fill([batch], False))
    keys = _never_empty(tf.where(is_candidate, keys, -1), -1)
    best = tf.argmax(keys, axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(is_candidate, axis=1), best, tf.range(batch))


def _never_empty(matrix, worst):
    """Appends a column that never wins: a replica's part of a batch may have no rows at all."""
    return tf.pad(matrix, [[0, 0], [0, 1]], constant_values=worst)


def _class_ids(labels):
    """Class numbers of shape `(batch,)` from integer or one-hot labels."""
    if labels is None or keras.tree.is_nested(labels):
        raise ValueError(
            "`partner='same_class'` needs labels: a single tensor of classes. Received: "
            f"labels={labels!r}. Train on (inputs, labels), or use partner='random'."
        )
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1:
        return labels
    if labels.shape.rank == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.shape.rank == 2:
        return tf.argmax(labels, axis=1)
    raise ValueError(
        "`partner='same_class'` needs labels of shape (batch,), (batch, 1) or one-hot (batch, "
        f"classes). Received: labels of shape {labels.shape}"
    )
