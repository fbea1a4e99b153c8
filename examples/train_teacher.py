"""Trains a teacher on all of a data set and saves it.

    python examples/train_teacher.py --output=runs/teacher

The folder holds `model.keras`, `config.json`, `history.json`, `log.csv` and `metrics.json`.
"""

import os

import keras
import run_flags
import training
from absl import app, flags
from run_folder import check_new, run_folder, save_run

FLAGS = flags.FLAGS

run_flags.define_data_flags()
run_flags.define_schedule_flags(epochs=40, steps_per_epoch=20, learning_rate=2e-3)
flags.adopt_module_key_flags(run_flags)  # shown by --help, too
flags.DEFINE_list("widths", ["32", "64", "128"], "Channels of each block.")
flags.DEFINE_integer("convs_per_block", 2, "Convolutions in each block.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of initial weights, order and augmentation.", lower_bound=0)
flags.DEFINE_string("output", "runs/teacher", "New folder for the results.")
flags.register_validator("widths", run_flags.are_counts, "must be integers above 0")


def main(argv):
    """Trains, evaluates and saves the teacher."""
    run_flags.start(argv)
    check_new(FLAGS.output, FLAGS.overwrite)
    with run_folder(FLAGS.output, FLAGS.overwrite) as folder:
        teacher, history, metrics = training.train_teacher(
            FLAGS.dataset,
            widths=[int(width) for width in FLAGS.widths],
            convs_per_block=FLAGS.convs_per_block,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            data_options=run_flags.data_flags(),
            callbacks=[keras.callbacks.CSVLogger(os.path.join(folder, "log.csv"))],
            **run_flags.schedule_flags(),
        )
        save_run(folder, teacher, run_flags.all_flags(), history, metrics)
    print(f"Teacher in {FLAGS.output}: test accuracy {metrics['test']['accuracy']:.2%}")


if __name__ == "__main__":
    app.run(main)
