"""What `--tensorboard` shows of a training: see docs/tensorboard.md."""

import numpy as np

from l2rkd_tf import L2RKDDistiller, callbacks, plots
from l2rkd_tf.cli.common.run_folder import NOT_OF_TRAINING

_DRAWINGS = 5
_POINTS = 256
_RESOLUTION = 60


def make_callbacks(folder, config, model, dataset=None):
    """Callbacks that write the board of a run, to stand before `TrainingBackup`.

    Args:
        folder: Folder of the board; empty for no board.
        config: Flags of the program with their values.
        model: The model to fit.
        dataset: Validation data; with them, the local shape of a distiller's student is watched,
            and drawn about five times.

    Returns:
        A list of callbacks.
    """
    if not folder:
        return []
    freq = max(1, config["epochs"] // _DRAWINGS)
    watching, figures = _watch_shape(model, dataset, freq)
    board = callbacks.DistillationTensorBoard(
        folder, config=config, hparams=hyperparameters(config), figures=figures, figure_freq=freq
    )
    return [*watching, board]


def hyperparameters(config):
    """Settings that tell runs apart, as TensorBoard takes them: numbers, booleans and strings."""
    return {
        name: _as_hyperparameter(value)
        for name, value in config.items()
        if name not in {"command", *NOT_OF_TRAINING}
    }


def _as_hyperparameter(value):
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "" if value is None else value


def _watch_shape(model, dataset, freq):
    """A monitor of local shape, and figures; nothing where there is no teacher to compare with."""
    if dataset is None or not isinstance(model, L2RKDDistiller):
        return [], {}
    monitor = callbacks.LocalShapeMonitor(dataset, measure_freq=freq, max_points=_POINTS)
    figures = {"fidelity_profile": lambda _: plots.fidelity_profiles(monitor.profile)}
    examples = _of_three_classes(dataset)
    if examples is not None:
        figures["decision_map"] = lambda distiller: plots.decision_map(
            {"teacher": distiller.get_teacher(), "student": distiller.student},
            examples,
            class_names=dataset.class_names,
            resolution=_RESOLUTION,
        )
    return [monitor], figures


def _of_three_classes(dataset):
    """The first image of each of three classes of a batch; `None` where there are fewer."""
    images, labels = next(dataset.as_numpy_iterator())
    _, first = np.unique(labels, return_index=True)
    return images[np.sort(first)[:3]] if len(first) >= 3 else None
