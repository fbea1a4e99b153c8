"""Add published methods to L2RKD: FitNet, attention transfer and DKD.

    python examples/train_teacher.py --output=teacher.keras
    python examples/feature_methods.py --teacher=teacher.keras --methods=fitnet --methods=dkd

Each method is one more term of the objective. It compares teacher and student at the training
points, at region points, or at both. The layers to compare are found by themselves.
"""

import os

import keras
from absl import app, flags, logging

import l2rkd_tf
from l2rkd_tf import methods

METHODS = {
    "fitnet": methods.FitNet,
    "attention_transfer": methods.AttentionTransfer,
    "dkd": methods.DKD,
}
FLAGS = flags.FLAGS

flags.DEFINE_string("teacher", "teacher.keras", "Keras file of the teacher.")
flags.DEFINE_multi_enum("methods", ["attention_transfer"], [*METHODS], "Methods to add.")
flags.DEFINE_enum("at", "both", ["data", "region", "both"], "Where the methods compare.")
flags.DEFINE_float("scale", 0.1, "Factor on the papers' weights.", lower_bound=0.0)
flags.DEFINE_integer("steps", 1500, "Training steps.", lower_bound=1)
flags.register_validator("teacher", os.path.exists, "must be a file: run train_teacher.py first")


def main(argv):
    """Distills with the chosen methods, and prints each term and the accuracy."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(0)
    few = l2rkd_tf.data.load("digits", "train", batch_size=50, fraction=0.1)
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)

    distiller = build_distiller(keras.models.load_model(FLAGS.teacher))
    history = distiller.fit(few.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=0).history

    print(f"Layers that are compared: {distiller.distillation_loss_layers}")
    for name in sorted(name for name in history if name.endswith("_loss")):
        print(f"{name}, before its weight: {history[name][-1]:.3g}")
    accuracy = distiller.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"Test accuracy {accuracy:.1%}")


def build_distiller(teacher):
    """A compiled distiller whose objective has the chosen methods."""
    terms = [METHODS[name]() for name in FLAGS.methods]
    distiller = l2rkd_tf.L2RKDDistiller(
        teacher,
        l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(16, 32)),
        distillation_losses=terms,
        distillation_loss_weights=[FLAGS.scale * term.default_weight for term in terms],
        distillation_losses_at=FLAGS.at,
        seed=0,
    )
    rate = keras.optimizers.schedules.CosineDecay(0.03, FLAGS.steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return distiller


if __name__ == "__main__":
    app.run(main)
