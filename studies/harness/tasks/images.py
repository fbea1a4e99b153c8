"""Images of `l2rkd_tf.data`, with the splits that they come with and one teacher for all seeds."""

from l2rkd_tf.cli.common import training
from studies.harness import measures


class Images:
    """A task of images.

    Args:
        dataset: Name, as for `l2rkd_tf.data.load`.
    """

    def __init__(self, dataset):
        self._dataset = dataset

    def load(self, batch_size, fraction=1.0, seed=0, augment=""):
        """Training, validation and test images, of the first a balanced `fraction`."""
        return training.load_splits(
            self._dataset, batch_size, fraction=fraction, seed=seed, augment=augment or None
        )

    def build(self, network, seed):
        """A small convnet, from initial weights of this seed."""
        images, *_ = training.load_splits(self._dataset, 1, splits=("test", "", ""))
        return training.build_network(images, network.widths, seed, network.convs_per_block)

    def train_teacher(self, study, network, seed, fraction=1.0):
        """A teacher, trained on all training images or a fraction, with random crops."""
        model, *_ = training.train_teacher(
            self._dataset,
            widths=network.widths,
            convs_per_block=network.convs_per_block,
            batch_size=study.teacher_batch_size,
            seed=seed,
            data_options={"fraction": fraction},
            steps_per_epoch=study.teacher_steps,
            epochs=1,
            learning_rate=study.teacher_learning_rate,
            verbose=0,
        )
        return model

    def measure(self, model, split, names=(), teacher=None):
        """See `measures.measure`."""
        return measures.measure(model, split, names, teacher)
