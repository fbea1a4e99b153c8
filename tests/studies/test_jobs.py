"""Jobs of a study: what validation chooses, and what each run costs."""

import dataclasses

import keras
import pytest

from studies.harness import jobs, points, registry, runs, tasks
from studies.harness.definitions import Method
from tests.studies.made_up import made_up_runs


def test_only_validation_chooses(small):
    found = made_up_runs(
        jobs.tuning_jobs(small), lambda job: 90.0 if job["learning_rate"] == 0.2 else 80.0
    )
    wrong = {("pair", "KD"): {"learning_rate": 0.1}, ("pair", "L2RKD"): {}}
    found += made_up_runs(jobs.test_jobs(small, wrong), lambda job: 99.0)
    assert jobs.choose(small, found) == {
        ("pair", "KD"): {"learning_rate": 0.2},
        ("pair", "L2RKD"): {},
    }
    assert {run["fraction"] for run in found if run["phase"] == "validation"} == {0.1}


def test_settings_of_another_method_are_kept(small):
    follower = Method(kind="l2rkd", settings_of="KD")
    study = dataclasses.replace(small, methods=small.methods | {"L2RKD": follower})
    tuned = jobs.tuning_jobs(study)
    assert {job["method"] for job in tuned} == {"KD"}
    found = made_up_runs(tuned, lambda job: 100 * job["learning_rate"])
    assert jobs.choose(study, found)["pair", "L2RKD"] == {"learning_rate": 0.2}


def test_a_setting_whose_runs_failed_is_not_chosen(small):
    found = [
        job | ({"error": "x"} if job["learning_rate"] == 0.2 else {"accuracy": 1.0})
        for job in jobs.tuning_jobs(small)
    ]
    assert jobs.choose(small, found)["pair", "KD"] == {"learning_rate": 0.1}


@pytest.fixture(scope="module")
def networks():
    """Teachers and students of all pairs, made once."""
    made = {}

    def make(dataset, network):
        if dataset.split("/")[0] not in ("digits", "glyphs"):  # any tells what its points cost
            inputs = keras.Input((4,))
            embedding = keras.layers.Dense(2, name="embedding")(inputs)
            return keras.Model(inputs, keras.layers.Dense(3)(embedding))
        if (dataset, network) not in made:
            made[dataset, network] = tasks.get(dataset).build(network, 0)
        return made[dataset, network]

    return make


@pytest.mark.parametrize("name", registry.all_studies())
def test_no_method_of_a_study_costs_more_than_plain_distillation(name, networks):
    study = registry.get(name)
    name_of_pair, pair = next(iter(study.pairs.items()))
    dataset = study.dataset_of(name_of_pair)
    teacher, student = (networks(dataset, part) for part in (pair.teacher, pair.student))
    for key, method in study.methods.items():
        if method.batch_norm in ("two passes", "frozen in regions"):
            continue  # the same points in another order
        settings = study.methods[study.tuned_by(key)].settings()[0]
        options = runs.options_of(method, settings)
        trainee = runs.build_trainee(method, options, teacher, student, 0)
        steps = points.steps_of(study, trainee, 1.0)
        budget = study.steps * study.batch_size
        spent = steps * max(points.points_per_step(trainee, study.batch_size))
        assert 0.98 * budget < spent <= budget, key


def test_points_of_a_run_count_smaller_batches(networks):
    pair = registry.get("fewshot_digits").pairs["digits"]
    teacher, student = (networks("digits", part) for part in (pair.teacher, pair.student))
    trainee = runs.build_trainee(Method(kind="l2rkd"), {}, teacher, student, 0)
    # Two full passes would have six batches: 8, 8, 4, 8, 8.
    counts = points.count_points(20, 5, 8, trainee)
    assert counts == {"steps": 5, "student_points": 72, "teacher_points": 72}


def test_labels_only_cost_no_teacher(networks):
    student = networks("digits", registry.get("fewshot_digits").pairs["digits"].student)
    trainee = runs.build_trainee(Method(kind="none"), None, None, student, 0)
    assert points.points_per_step(trainee, 7) == (7, 0)
