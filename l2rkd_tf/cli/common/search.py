"""A search for the best setting of some numbers, with KerasTuner."""

import keras_tuner

OBJECTIVE = "val_accuracy"


class _Search(keras_tuner.BayesianOptimization):
    """Tries settings whose accuracy a function returns."""

    def __init__(self, accuracy_of, **kwargs):
        self._accuracy_of = accuracy_of
        super().__init__(objective=keras_tuner.Objective(OBJECTIVE, "max"), **kwargs)

    def run_trial(self, trial, *args, **kwargs):
        """The objective of a trial, by name."""
        return {OBJECTIVE: self._accuracy_of(_setting_of(trial))}


def search(accuracy_of, ranges, *, max_trials, directory, seed=0, verbose=0):
    """Searches for the setting with the highest accuracy.

    Args:
        accuracy_of: Function of a setting, a dict of numbers by name. It trains with the setting
            and returns the accuracy on the validation split.
        ranges: Smallest and largest value of each number by its name, above 0, searched on a
            logarithmic scale; or one value, which stays fixed.
        max_trials: Number of settings to try.
        directory: Folder in which KerasTuner keeps the trials. A search that finds finished trials
            there resumes after them.
        seed: Seed of the search.
        verbose: 1 for a report of each trial.

    Returns:
        A dict for each trial, with its setting and `val_accuracy`, the best one first.
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
        _setting_of(trial) | {OBJECTIVE: trial.score}
        for trial in tuner.oracle.get_best_trials(max_trials)
    ]


def _setting_of(trial):
    """The numbers of a trial, rounded to three significant digits."""
    return {name: float(f"{value:.3g}") for name, value in trial.hyperparameters.values.items()}
