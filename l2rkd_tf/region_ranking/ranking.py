"""Which region suits a teacher, a student and data: successive halving of short trainings."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.geometry.evaluation import as_arrays, batched, half_width
from l2rkd_tf.region_ranking.trials import Batches, RankedRegion, Trial, cursors_given_back
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.default import regions_to_try
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.types import Data, TeacherLike
from l2rkd_tf.utils.validation import checked_seed, is_positive_integer

__all__ = ["rank_regions"]

# Untrained students whose divergence stays a larger share of their initial one: too few steps.
_LEARNED = 0.25
_JUDGED_TOGETHER = 256


def rank_regions(
    teacher: TeacherLike,
    student: keras.Model,
    data: Data,
    unlabelled: Data,
    regions: Iterable[Region | None] | None = None,
    *,
    steps: int = 100,
    rounds: int = 2,
    optimizer: Callable[[int], keras.optimizers.Optimizer] | None = None,
    batch_size: int = 50,
    seed: int = 0,
    verbose: bool = True,
    **options: Any,
) -> list[RankedRegion]:
    """Ranks regions by short trainings of the student, judged at inputs without labels.

    Successive halving: in the first round each candidate trains the student for `steps` steps, and
    the better half goes on to the next round, which trains from the same initial weights for twice
    as many. A candidate is judged by

    ```
    mean_x KL(softmax(f_T(x)) || softmax(f_S(x)))
    ```

    over the unlabelled inputs, with which the student should not be tested afterwards. No label is
    used. All candidates get the same steps, initial weights and seed, and the same batches: arrays,
    and data of `l2rkd_tf.data.load`, start again for each of them. With `c` candidates it takes
    about `c * rounds * steps` steps in all: 16 times `steps` for 8 candidates in 2 rounds. Give
    `steps` 7.5 % of the final training's, and the ranking costs 15 % of training with each
    candidate. A student with batch normalization is judged with the statistics of each batch of the
    unlabelled inputs, since moving averages of few steps lag behind. Short trainings favour regions
    from which a student learns fast: trust the order if twice as many steps do not change it. What
    is printed says so where the best student has not come down to a quarter of the divergence that
    it had before.

    Args:
        teacher: As in `L2RKDDistiller`, with one output.
        student: Built Keras model with initial weights. It has them again afterwards.
        data: Training data: a finite batched `tf.data.Dataset` of inputs or `(inputs, labels[,
            weights])`, or inputs of shape `(examples, ...)`, an array, or a list or dict of such.
        unlabelled: Held-out inputs, in one of the same forms; labels are ignored.
        regions: Candidates: `l2rkd_tf.regions.Region` objects, and `None` for plain distillation.
            By default, what suits the inputs: patches, swaps, segments and noise of different sizes
            and plain distillation, 8 for floats, 4 for integers and strings.
        steps: Steps of the first round.
        rounds: Number of rounds; it ends earlier when one candidate is left.
        optimizer: Function of the number of steps that makes an optimizer; give that of your final
            training. Default: Adam, with a learning rate of 0.003 on half a cosine wave.
        batch_size: Examples in a batch, if `data` is not a dataset.
        seed: Integer seed of all draws.
        verbose: Whether to print progress with the time left, a table, and what to use.
        **options: Arguments of `L2RKDDistiller`, as for your final training. The defaults here are
            `hard_weight=0`, so that no labels are needed, and `replace_fraction=0.5`, so that a
            step of every candidate costs the same.

    Returns:
        List of `RankedRegion`, best first: those of later rounds come before those that left
        earlier. `rank_regions(...)[0].region` is the suggestion.

    Raises:
        ValueError: If a number is not a positive integer, `regions` is empty or holds something
            else, the data are empty, endless or of another number of arrays than the student takes,
            `options` has `region`, `region_weight` or a positive `hard_weight`, the models have
            several outputs, or an argument does not suit `L2RKDDistiller`.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
        >>> regions = [None, l2rkd_tf.regions.Swap()]
        >>> ranking = rank_regions(
        ...     teacher, student, x[:32], x[32:], regions, steps=5, rounds=1, verbose=False
        ... )
        >>> len(ranking), ranking[0].divergence <= ranking[1].divergence
        (2, True)

    Reference: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter
    Optimization (arXiv:1502.07943), for successive halving. That agreement with the teacher on
    unlabelled inputs ranks regions is a finding of this project.
    """
    for name, number in {"steps": steps, "rounds": rounds, "batch_size": batch_size}.items():
        if not is_positive_integer(number):
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={number!r}")
    check_models_are_built(student=student)
    if optimizer is not None and (isinstance(optimizer, type) or not callable(optimizer)):
        raise ValueError(
            "`optimizer` must be a function of the number of steps, such as "
            f"`lambda steps: keras.optimizers.Adam(0.001)`. Received: optimizer={optimizer!r}"
        )
    _check_options(options)
    _check_arrays("data", data, student)
    _check_arrays("unlabelled", unlabelled, student)
    options = {"hard_weight": 0.0, "replace_fraction": 0.5, "seed": checked_seed(seed)} | options
    batches = Batches(data, batch_size, options["seed"])
    candidates = _candidates(regions, batches.element_spec, student)
    with cursors_given_back(data, unlabelled):
        held_out = _held_out(unlabelled)
        trial = Trial(teacher, student, batches, held_out, optimizer or _adam, options)
        ranking = halve(trial, candidates, steps, rounds, verbose)
    if verbose:
        print(_report(ranking, trial.initial_divergence))
    return ranking


def _held_out(unlabelled):
    """Batches that judge; a small rest joins the others, as students may take its statistics."""
    found = batched(unlabelled, _JUDGED_TOGETHER)
    count = sum(len(leaves[0]) for leaves in found.dataset)
    num_batches, rest = divmod(count, _JUDGED_TOGETHER)
    if num_batches and 0 < rest < _JUDGED_TOGETHER // 2:
        found = batched(unlabelled, -(-count // num_batches))
    return found


def _check_options(options):
    for name in ("region", "region_weight"):
        if name in options:
            raise ValueError(
                f"`{name}` must not be given, since each candidate sets it. Received: "
                f"{name}={options[name]!r}. Give the candidates as `regions`."
            )
    if options.get("hard_weight", 0.0) != 0.0:
        raise ValueError(
            "`hard_weight` must be 0, since regions are ranked without labels. Received: "
            f"hard_weight={options['hard_weight']!r}. Leave it out."
        )


def _check_arrays(argument, data, student):
    """Checks that there are examples, and as many arrays as inputs: no labels among them."""
    if isinstance(data, (dict, tf.data.Dataset)):
        return
    expected = len(getattr(student, "inputs", None) or [])
    shapes = [array.shape for array in keras.tree.flatten(as_arrays(data))]
    if any(shape[:1] == (0,) for shape in shapes):
        raise ValueError(
            f"`{argument}` must have at least one example. Received: arrays of shapes {shapes}"
        )
    if expected and len(shapes) != expected:
        raise ValueError(
            f"`{argument}` must hold as many arrays as the student has inputs, {expected}. "
            f"Received: {len(shapes)} of the shapes {shapes}. Leave out labels, which are not "
            "used, or pass a batched tf.data.Dataset of (inputs, labels)."
        )


def _candidates(regions, element, student):
    if regions is None:
        return regions_to_try(element[0] if isinstance(element, tuple) else element, student)
    candidates = [regions] if isinstance(regions, Region) else regions
    candidates = list(candidates) if np.iterable(candidates) else []
    if not candidates or not all(one is None or isinstance(one, Region) for one in candidates):
        raise ValueError(
            "`regions` must hold regions, or None for plain distillation, at least one. "
            f"Received: regions={regions!r}"
        )
    return candidates


def _adam(steps):
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps))


def halve(trial, candidates, steps, rounds, verbose):
    """Successive halving; the candidates best first."""
    plan = plan_rounds(len(candidates), steps, rounds)
    total = sum(count * length for count, length in plan)
    left_over = []
    begun, done = time.monotonic(), 0
    for number, (count, length) in enumerate(plan, start=1):
        judged = []
        for region in candidates[:count]:
            judged.append(trial(region, length))
            done += length
            if verbose:
                left = (time.monotonic() - begun) * (total - done) / done
                print(
                    f"[{number}/{len(plan)}] {judged[-1].name}: {judged[-1].divergence:.4g} after "
                    f"{length:,} steps, about {math.ceil(left)} s left",
                    flush=True,
                )
        judged.sort(key=_order)
        following = plan[number][0] if number < len(plan) else 0
        left_over = judged[following:] + left_over
        candidates = [entry.region for entry in judged[:following]]
    return left_over


def _order(entry):
    """Sorts by divergence; a student whose weights are not finite comes last."""
    return entry.divergence if math.isfinite(entry.divergence) else math.inf


def plan_rounds(count: int, steps: int, rounds: int) -> Sequence[tuple[int, int]]:
    """How many candidates each round has, and for how many steps each of them trains."""
    plan = [(count, steps)]
    while len(plan) < rounds and plan[-1][0] > 1:
        plan.append((math.ceil(plan[-1][0] / 2), 2 * plan[-1][1]))
    return plan


def _report(ranking, initial):
    """The ranking as a table, and what to use; `initial` is the divergence before training."""
    width = max(len(entry.name) for entry in ranking)
    lines = [f"{'region':<{width}}  {'steps':>6}  divergence from the teacher (± 95 %)"]
    for entry in ranking:
        spread = half_width(entry.divergence_stderr)
        lines.append(
            f"{entry.name:<{width}}  {entry.steps:>6,}  {entry.divergence:.4f} ± {spread:.4f}"
        )
    first = ranking[0]
    plain = [e for e in ranking[1:] if e.region is None and e.steps == first.steps]
    against = f", against {plain[0].divergence:.4f} without a region" if plain else ""
    lines.append(
        f"Use {first.name}: after {first.steps:,} steps its student is nearest to the teacher at "
        f"the unlabelled inputs ({first.divergence:.4f}{against})."
    )
    if not first.divergence < initial:
        lines.append(
            "Do not use this order: no student is nearer to the teacher than with its initial "
            f"weights ({initial:.4f}). Lower the learning rate of `optimizer` or give more `steps`."
        )
    elif first.divergence > _LEARNED * initial:
        lines.append(
            f"That is still {first.divergence / initial:.0%} of the divergence of the initial "
            f"weights ({initial:.4f}). If these were not trained before, longer training may well "
            "favour another region: give more `steps`."
        )
    return "\n".join(lines)
