"""A search for the best setting of some numbers, by KerasTuner."""

import keras_tuner

_OBJECTIVE = "val_accuracy"


class _Search(keras_tuner.BayesianOptimization):
    """Tries settings; what one is worth is told by a function of it."""

    def __init__(self, accuracy_of, **kwargs):
        self._accuracy_of = accuracy_of
        super().__init__(objective=keras_tuner.Objective(_OBJECTIVE, "max"), **kwargs)

    def run_trial(self, trial, *args, **kwargs):
        """The value of a trial, by name."""
        return {_OBJECTIVE: self._accuracy_of(_setting_of(trial))}


def search(accuracy_of, ranges, *, max_trials, directory, seed=0, verbose=0):
    """Searches for the setting with the largest accuracy.

    Args:
        accuracy_of: Function of a setting, a dict of numbers by name, that trains with it and
            returns the accuracy on the validation split.
        ranges: Smallest and largest value of each number, above 0, by its name; or one value alone,
            which is kept. Numbers are tried on a logarithmic scale.
        max_trials: Number of settings to try.
        directory: Folder in which KerasTuner keeps the trials. A search that finds finished ones
            there goes on from them.
        seed: Seed of the search.
        verbose: 1 for a report of each trial.

    Returns:
        All trials, a dict for each with its setting and `val_accuracy`, the best one first.
    """
    space = keras_tuner.HyperParameters()
    for name, values in ranges.items():
        if len(values) == 1 or values[0] == values[1]:
            space.Fixed(name, values[0])
        else:
            space.Float(name, *values, sampling="log")
    tuner = _Search(
        accuracy_of,
        hyperparameters=space,
        max_trials=max_trials,
        seed=seed,
        directory=directory,
        project_name="trials",
    )
    tuner.search(verbose=verbose)
    return [
        _setting_of(trial) | {_OBJECTIVE: trial.score}
        for trial in tuner.oracle.get_best_trials(max_trials)
    ]


def _setting_of(trial):
    """The numbers of a trial, to the digits that matter."""
    return {name: float(f"{value:.3g}") for name, value in trial.hyperparameters.values.items()}
