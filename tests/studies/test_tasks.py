"""Data of the studies: parts, subsets and scores; and a teacher for each seed."""

import dataclasses

import keras
import numpy as np
import pytest

from l2rkd_tf.cli.common import training
from studies.harness import jobs, registry, run_study, runs, tasks
from studies.harness.pairs import Architecture, Network, Pair
from studies.harness.tasks import arrays, known


def rows_of(batches):
    return np.concatenate([inputs.numpy()[:, 0] for inputs, _ in batches])


@pytest.fixture
def numbered():
    """Ten groups of five examples in two classes; the input is the number of the example."""
    numbers = np.arange(50, dtype="float32")
    return arrays.Arrays(numbers[:, None], np.arange(50) % 2, None, groups=np.arange(50) // 5)


def test_parts_are_divided_by_the_seed_and_keep_groups_together(numbered):
    parts = [rows_of(part) for part in numbered.load(8, seed=3)]
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert [len(part) for part in parts] == [30, 10, 10]
    groups = [set(part // 5) for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    others = [rows_of(part) for part in numbered.load(8, seed=4)]
    assert set(parts[2]) != set(others[2])


def test_fractions_are_balanced_and_nested_and_leave_the_other_parts(numbered):
    whole, small, smaller = (numbered.load(8, fraction, seed=0) for fraction in (1, 0.5, 0.2))
    assert set(rows_of(smaller[0])) < set(rows_of(small[0])) < set(rows_of(whole[0]))
    assert rows_of(small[0]).astype(int).tolist() != sorted(rows_of(small[0]))  # shuffled
    labels = np.concatenate([labels for _, labels in small[0]])
    assert abs(labels.mean() - 0.5) < 0.1
    for part in (1, 2):
        np.testing.assert_array_equal(rows_of(small[part]), rows_of(whole[part]))


def test_mean_intersection_over_union():
    labels, predicted = np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]])
    assert arrays.mean_iou(labels, predicted) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "wine"])
def test_tables_are_standardised_and_fit_their_networks(name):
    task = tasks.get(f"tables/{name}")
    train, _, test = task.load(1000)
    (inputs, labels) = next(iter(train))
    everything = np.concatenate([inputs["numbers"], *(part["numbers"] for part, _ in test)])
    assert abs(everything.mean()) < 0.05
    assert abs(everything.std() - 1) < 0.2
    logits = task.build(Network(widths=(4,)), 0)(inputs)
    assert logits.shape == (len(labels), int(labels.numpy().max()) + 1)


def test_known_images_take_networks_of_the_catalogue(monkeypatch):
    images, labels = np.zeros((2, 28, 28, 1), "float32"), np.zeros(2, "int64")
    monkeypatch.setattr(known, "_images", lambda name: (images, labels))
    task, architecture = tasks.get("known/mnist"), Architecture(name="resnet8")
    assert task.build(architecture, 0)(images).shape == (2, 10)
    assert task.build(architecture, 0).count_params() == 78_426
    pair = Pair(teacher=architecture, student=architecture)
    study = dataclasses.replace(registry.get("f1_resnet"), pairs={"fashion": pair})
    path = runs.teacher_path("teachers", study, {"pair": "fashion", "seed": 3})
    assert path == "teachers/known_fashion_mnist_resnet8_2000_of50_0.004_crop_flip_seed3.keras"


def test_series_and_texts_fit_their_networks():
    for name in ("series/italy_power_demand", "text/languages"):
        task = tasks.get(name)
        inputs, _ = next(iter(task.load(4)[0]))
        assert task.build(Network(widths=(4, 4)), 0)(inputs).shape[0] == 4
    texts = np.unique(np.concatenate([part for part, _ in task.load(512)[0]]), axis=0)
    other = np.concatenate([part for part, _ in task.load(512)[2]])
    assert not {text.tobytes() for text in texts} & {text.tobytes() for text in other}


def test_each_seed_has_its_teacher_and_the_results_tell_their_mean(small, tmp_path):
    network = Network(widths=(4,))
    study = dataclasses.replace(
        small,
        dataset="",
        pairs={"tables/wine": Pair(teacher=network, student=network)},
        fractions=(0.5,),
        seeds=(0, 1),
        teacher_steps=8,
        measures=(),
        contrasts=(),
    )
    trained = jobs.teacher_jobs(study)
    assert [job["seed"] for job in trained] == [0, 1, *study.tuning_seeds]
    found = [job | runs.train_teacher(job, study, tmp_path) for job in trained[:2]]
    assert found[0]["weights_sha256"] != found[1]["weights_sha256"]
    assert len(list(tmp_path.glob("*.keras"))) == 2
    mean = jobs.teachers_of_pairs(study, found + [trained[2] | {"accuracy": 0.0}])["tables/wine"]
    assert mean["accuracy"] == pytest.approx((found[0]["accuracy"] + found[1]["accuracy"]) / 2)
    some = dataclasses.replace(study, seeds=(0,))
    begun = jobs.teachers_of_pairs(some, found[:1])
    assert run_study.are_those_of(begun, study, found) and run_study.are_those_of({}, study, found)
    other = {"tables/wine": begun["tables/wine"] | {"weights_sha256": "another"}}
    assert not run_study.are_those_of(other, study, found)
    both = jobs.teachers_of_pairs(study, found)
    assert run_study.are_those_of(both, study, found)
    settings = {("tables/wine", name): {"learning_rate": 0.1} for name in study.methods}
    job = jobs.test_jobs(study, settings)[0]
    result = runs.train_student(job, study, tmp_path)
    assert result["steps"] == 8
    assert 0 <= result["accuracy"] <= 100


def test_the_order_of_examples_does_not_depend_on_earlier_runs(small, tmp_path, monkeypatch):
    network = Network(widths=(4,))
    pairs = {"tables/wine": Pair(teacher=network, student=network)}
    study = dataclasses.replace(
        small, dataset="", pairs=pairs, fractions=(0.5,), teacher_steps=1, measures=(), contrasts=()
    )
    runs.train_teacher(jobs.teacher_jobs(study)[0], study, tmp_path)
    settings = {("tables/wine", name): {"learning_rate": 0.1} for name in study.methods}
    job, seen = jobs.test_jobs(study, settings)[0], []
    monkeypatch.setattr(runs.training, "fit", lambda _, data, **__: seen.append(next(iter(data))))
    for earlier in (5, 6):
        keras.utils.set_random_seed(earlier)
        runs.train_student(job, study, tmp_path)
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    np.testing.assert_array_equal(seen[0][0]["numbers"], seen[1][0]["numbers"])


def test_known_images_have_a_fixed_division_and_are_augmented_by_the_seed():
    images = np.random.default_rng(0).random((70_000, 2, 2, 1)).astype("float32")
    task = known.Known(images, np.arange(70_000) % 10, None)
    fraction = 100 / 55_000
    parts = task.load(100, fraction, seed=0)
    assert [part.num_examples for part in parts] == [100, 5000, 10_000]
    np.testing.assert_array_equal(next(iter(parts[2]))[0], images[60_000:60_256])
    plain = next(iter(parts[0]))[0].numpy()
    augmented = task.load(100, fraction, 0, "crop_flip")[0]
    first, again = (next(iter(augmented))[0].numpy() for _ in range(2))
    assert (first != plain).any() and (first != again).any()
    once_more = next(iter(task.load(100, fraction, 0, "crop_flip")[0]))[0].numpy()
    np.testing.assert_array_equal(first, once_more)


def test_a_teacher_of_the_same_data_has_the_students_examples(small, tmp_path):
    study = dataclasses.replace(
        small, fractions=(0.05, 0.1), seeds=(0, 1), teacher_steps=2, teacher_of_fraction=True
    )
    study = dataclasses.replace(
        study, measures=("corruptions",), tuning_seeds=(2,), tuning_fraction=0.05
    )
    trained = jobs.teacher_jobs(study)
    cells = [(job["seed"], job["fraction"]) for job in trained]
    assert cells[:4] == [(0, 0.05), (0, 0.1), (1, 0.05), (1, 0.1)]
    found = [job | runs.train_teacher(job, study, tmp_path) for job in trained[:4]]
    assert len({run["weights_sha256"] for run in found}) == 4
    (mean,) = jobs.teachers_of_pairs(study, found).values()
    few, more = (
        np.mean([run["accuracy"] for run in found if run["fraction"] == fraction])
        for fraction in study.fractions
    )
    assert mean["accuracy_by_fraction"] == pytest.approx([few, more])
    assert mean["corrupted"]["noise 0.1"] == pytest.approx(
        np.mean([run["corrupted"]["noise 0.1"] for run in found])
    )


@pytest.mark.parametrize("dataset", ["digits", "tables/wine"])
def test_a_teacher_does_not_depend_on_the_batches_of_students(dataset, small, tmp_path):
    network = Network(widths=(4,))
    common = {"dataset": dataset, "pairs": {dataset: Pair(teacher=network, student=network)}}
    common |= {"teacher_steps": 4, "measures": ()}
    trained = [
        dataclasses.replace(small, **common | batches)
        for batches in ({}, {"batch_size": 16}, {"teacher_batch_size": 16})
    ]
    job = jobs.teacher_jobs(trained[0])[0]
    digests = [
        runs.train_teacher(job, study, str(tmp_path / str(number)))["weights_sha256"]
        for number, study in enumerate(trained)
    ]
    assert digests[0] == digests[1] != digests[2]
    names = {runs.teacher_path("", study, job) for study in trained}
    assert len(names) == 2


def test_a_teacher_sees_a_fraction_of_the_images(monkeypatch):
    seen = []
    monkeypatch.setattr(training, "fit", lambda _, data, **__: seen.append(data) or ({}, 0.0))
    monkeypatch.setattr(training, "measure", lambda *_: {})
    study = registry.get("fewshot_digits")
    tasks.get("digits").train_teacher(study, Network(widths=(2,)), 3, 0.1)
    labels = np.concatenate([part for _, part in seen[0]])
    expected = tasks.get("digits").load(50, 0.1, 3)[0]
    assert len(labels) == expected.num_examples < 200
    np.testing.assert_array_equal(
        np.sort(labels), np.sort(np.concatenate([part for _, part in expected]))
    )
