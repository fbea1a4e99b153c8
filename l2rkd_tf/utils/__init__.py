"""What the other packages share: types, checks of arguments, files, `tf.distribute`."""
