"""What the other packages share: types, argument validation, files, `tf.distribute`."""
