"""Each published method as a term: two steps equal those derived by hand."""

import keras
import numpy as np
import pytest

from l2rkd_tf import methods, regions
from tests.distiller.methods_by_hand import (
    METHODS,
    assert_equal_methods,
    compiled,
    data,
    distiller_of,
    example_weights,
    fit,
    hand_steps,
    network,
    pair,
    trained_by,
)
from tests.helpers import assert_equal_weights

BESIDE = {"num_points": 2}
REPLACED = {"num_points": 1, "replace_fraction": 0.5}


def test_every_method_is_tested_here():
    made = {type(make()).__name__ for make, _ in METHODS.values()}
    bases = {"Method", "FeatureMethod", "LayersMethod", "TrainableMethod"}
    assert made == {n for n in methods.__all__ if isinstance(getattr(methods, n), type)} - bases


@pytest.mark.covering
@pytest.mark.parametrize(
    ("at", "options"),
    [("data", REPLACED), ("region", BESIDE), ("both", REPLACED)],
    ids=["data, replaced", "region", "both, replaced"],
)
@pytest.mark.parametrize("name", METHODS)
def test_two_weighted_steps_equal_those_by_hand(name, at, options):
    x, y = data()
    weights = example_weights()
    distiller = distiller_of(
        [name],
        at,
        num_region_points=options["num_points"],
        replace_fraction=options.get("replace_fraction"),
    )
    before = distiller.get_teacher().get_weights()
    expected, student, twins = hand_steps(
        distiller, [name], at, [[(x, y, weights)]] * 2, regions.Segment(), **options
    )
    logs = fit(compiled(distiller), x, y, sample_weight=weights, epochs=2)
    for step in range(2):
        assert set(expected[step]) == set(logs)
        for term, value in expected[step].items():
            np.testing.assert_allclose(logs[term][step], value, rtol=2e-5, atol=1e-6, err_msg=term)
    # The memory of the contrast is empty in the first step.
    assert logs[f"{name}_loss"][1] != 0.0
    assert_equal_weights(distiller.student, student, atol=2e-6)
    assert_equal_methods(distiller, twins[0], atol=2e-6)
    for one, other in zip(distiller.get_teacher().get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_student_has_no_variables_of_methods():
    x, y = data()
    teacher, student = pair()
    own = [id(variable) for variable in student.variables]
    count, size = student.count_params(), student.get_config()
    distiller = compiled(distiller_of(METHODS, models=(teacher, student)))
    parts = [v for m in distiller.distillation_losses for v in trained_by(m)]
    # A projector, 3 x 3 + 1 + 3 + 3 (two with a variance), and two linear maps.
    assert len(parts) == 2 + 3 * 4 + 4
    for _ in range(2):
        fit(distiller, x, y)
        assert [id(variable) for variable in student.variables] == own
        assert (student.count_params(), student.get_config()) == (count, size)
        expected = [id(v) for v in (*student.trainable_variables, *parts)]
        assert sorted(map(id, distiller.trainable_variables)) == sorted(expected)
    held = {id(variable) for variable in distiller.variables}
    assert not held & {id(variable) for variable in teacher.variables}


def test_the_exported_student_has_the_same_outputs_with_and_without_methods(tmp_path):
    x, y = data()
    distiller = compiled(distiller_of(METHODS))
    fit(distiller, x, y)
    distiller.student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert loaded.count_params() == network(20, 4).count_params()
    np.testing.assert_array_equal(loaded(x), distiller(x))


def test_all_methods_together_at_different_points_equal_their_sum_by_hand():
    x, y = data()
    at = [("region", "data", "both")[index % 3] for index in range(len(METHODS))]
    names = list(METHODS)
    distiller = distiller_of(names, at)
    expected, student, twins = hand_steps(
        distiller, names, at, [[(x, y, None)]] * 2, regions.Segment()
    )
    logs = fit(compiled(distiller), x, y, epochs=2)
    for step in range(2):
        for term, value in expected[step].items():
            np.testing.assert_allclose(logs[term][step], value, rtol=1e-4, atol=1e-6, err_msg=term)
    assert_equal_weights(distiller.student, student, atol=1e-5)
    assert_equal_methods(distiller, twins[0], atol=1e-5)
