"""Training from the teacher's cache."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, methods
from l2rkd_tf.data import epoch_order
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher
from tests.helpers import (
    CallCountingModel,
    assert_equal_weights,
    batches,
    compiled,
    convnet,
    few,
    images,
)
from tests.teacher_cache.helpers import EXAMPLES, QUIET

SETTINGS = {
    "KD": {"region_weight": 0.0},
    "interpolated": {"region_targets": "interpolated"},
    "interpolated, no KD": {"region_targets": "interpolated", "kd_weight": 0.0},
    "interpolated, half": {"region_targets": "interpolated", "replace_fraction": 0.5},
    "interpolated, two": {"region_targets": "interpolated", "num_region_points": 2},
    "teacher": {},
    "teacher, half": {"replace_fraction": 0.5},
    "teacher, no KD": {"kd_weight": 0.0},
    "methods": {"region_weight": 0.0, "distillation_losses": [methods.DKD()]},
    "inner features": {
        "distillation_losses": [methods.SimilarityPreserving()],
        "distillation_losses_at": "both",
    },
}


ORDINARY = (
    "interpolated, half",
    "interpolated, two",
    "teacher, no KD",
    "methods",
    "inner features",
)


@pytest.mark.parametrize("settings", few(ORDINARY, SETTINGS))
def test_training_is_that_with_a_live_teacher(settings):
    settings = SETTINGS[settings]
    teacher = convnet(0, 8)
    x, y = images(EXAMPLES)
    plain = batches(x, y)
    cached = cache_teacher(plain, teacher, shuffle=False, **QUIET)
    students = [convnet(1), convnet(1)]
    logs = []
    for student, data in zip(students, (plain, cached), strict=True):
        distiller = L2RKDDistiller(teacher, student, seed=3, **settings)
        logs.append(compiled(distiller).fit(data, epochs=2, verbose=0).history)
    # The live teacher's batch normalizations are folded, which rounds.
    assert_equal_weights(*students, atol=3e-6)
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"region_weight": 0.0}, []),
        ({"region_targets": "interpolated"}, []),
        ({}, [4]),
        ({"replace_fraction": 0.5}, [2]),
    ],
)
def test_the_teacher_runs_only_for_what_the_cache_lacks(settings, rows):
    x, y = images(4)
    teacher = CallCountingModel(convnet(0, 8))
    distiller = L2RKDDistiller(teacher, convnet(1), **settings)
    known = CachedInputs(x, teacher.model(x))
    compiled(distiller, run_eagerly=True).train_on_batch(known, y)
    assert [number for number, _ in teacher.calls] == rows


@pytest.mark.parametrize(
    "options",
    [pytest.param({"jit_compile": True}, marks=pytest.mark.stress), {"run_eagerly": True}],
)
def test_without_a_teacher_it_is_the_same_training(options, tmp_path):
    teacher = convnet(0, 8)
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, shuffle=False, **QUIET)
    students = [convnet(1), convnet(1)]
    for one, student in zip((teacher, None), students, strict=True):
        distiller = L2RKDDistiller(one, student, region_targets="interpolated", seed=3)
        compiled(distiller, **({} if one else options)).fit(cached, epochs=2, verbose=0)
    assert_equal_weights(*students, atol=1e-6)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for one in (loaded, distiller):
        one.fit(cached, verbose=0)
    assert loaded.get_teacher() is None
    assert_equal_weights(loaded.student, students[1], atol=1e-6)


def test_arrays_may_carry_outputs(teacher):
    x, y = images(EXAMPLES)
    outputs = teacher.predict(x, verbose=0)
    students = [convnet(1), convnet(1)]
    for one, inputs in zip((teacher, None), (x, CachedInputs(x, outputs)), strict=True):
        distiller = compiled(L2RKDDistiller(one, students[0 if one else 1], region_weight=0.0))
        distiller.fit(inputs, y, batch_size=4, shuffle=False, verbose=0)
    assert_equal_weights(*students, atol=1e-6)


def test_cached_inputs_outside_a_tuple_are_refused(teacher):
    x, _ = images(4)
    alone = tf.data.Dataset.from_tensors(CachedInputs(x, teacher(x)))
    distiller = compiled(L2RKDDistiller(teacher, convnet(1), hard_weight=0.0))
    with pytest.raises(ValueError, match="within a tuple"):
        distiller.fit(alone, verbose=0)
    with pytest.raises(ValueError, match="within a tuple"):
        distiller.evaluate(alone, verbose=0)


NO_TEACHER = {
    "teacher asked in regions": ({}, True, "`teacher` must be given for region_targets='teacher'"),
    "plain data": ({"region_targets": "interpolated"}, False, "data must carry its outputs"),
    "plain data, KD": ({"region_weight": 0.0}, False, "data must carry its outputs"),
}


@pytest.mark.parametrize("case", NO_TEACHER)
def test_missing_teachers_are_reported_before_training(case, teacher):
    settings, is_cached, message = NO_TEACHER[case]
    data = batches(*images(4))
    student = convnet(1)
    before = student.get_weights()
    distiller = compiled(L2RKDDistiller(None, student, **settings))
    with pytest.raises(ValueError, match=message):
        distiller.fit(cache_teacher(data, teacher, **QUIET) if is_cached else data, verbose=0)
    for one, other in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_hard_labels_only_needs_neither_teacher_nor_cache():
    x, y = images(EXAMPLES)
    students = [convnet(1), convnet(1)]
    distiller = L2RKDDistiller(None, students[0], hard_weight=1.0, kd_weight=0.0, region_weight=0.0)
    compiled(distiller).fit(batches(x, y), verbose=0)
    compiled(students[1]).fit(batches(x, y), verbose=0)
    assert_equal_weights(*students)


@pytest.mark.parametrize("method", [methods.FitNet("a", "b"), methods.SimilarityPreserving()])
def test_methods_of_inner_features_need_a_teacher(method):
    with pytest.raises(ValueError, match="`distillation_losses` must compare the models' outputs"):
        L2RKDDistiller(None, convnet(1), distillation_losses=[method])


def test_callbacks_that_need_a_teacher_report_its_absence(teacher):
    x, y = images(4)
    cached = cache_teacher(batches(x, y), teacher, **QUIET)
    distiller = compiled(L2RKDDistiller(None, convnet(1), region_targets="interpolated"))
    with pytest.raises(ValueError, match="with a teacher"):
        distiller.fit(cached, callbacks=[callbacks.LocalShapeMonitor(x)], verbose=0)


def test_ordered_indices_are_permutations_of_all_examples():
    data, cursor = epoch_order.ordered_indices(7, 3, seed=4, shuffle=True)
    stream = [batch.tolist() for batch in data.repeat(2).as_numpy_iterator()]
    assert [len(batch) for batch in stream] == [3, 3, 1] * 2
    passes = [sum(stream[:3], []), sum(stream[3:], [])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(7)) and passes[0] != passes[1]
    cursor.set_batch(4)
    assert [batch.tolist() for batch in data.as_numpy_iterator()][:2] == stream[4:]
