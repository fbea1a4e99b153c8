"""The ranking of regions by short trainings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf import RankedRegion, rank_regions
from l2rkd_tf.region_ranking.ranking import halve, plan_rounds
from l2rkd_tf.regions import Ball, Compose, Patch, Segment, Simplex, Swap
from l2rkd_tf.regions.default import regions_to_try
from tests.geometry.helpers import curved, linear, logits, numbers


def sgd(steps):
    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, steps))


def kl_in_float64(teacher, student, x):
    """Mean of `KL(softmax(f_T(x)) || softmax(f_S(x)))`."""
    targets, outputs = (
        np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
        for z in (logits(teacher, x), logits(student, x))
    )
    return (np.exp(targets) * (targets - outputs)).sum(axis=1).mean()


@pytest.mark.parametrize("region", [None, Swap(), Segment(0.5)])
def test_a_candidate_is_judged_by_the_divergence_after_its_training(region):
    x, held_out = numbers(24, 4), numbers(300, 4, seed=1)
    teacher, student = curved(0), linear(1)
    train = tf.data.Dataset.from_tensor_slices((x, np.zeros(24, "int64"))).batch(8)
    options = {"steps": 6, "rounds": 1, "optimizer": sgd, "seed": 3, "temperature": 2.0}
    (entry,) = rank_regions(teacher, student, train, held_out, [region], verbose=False, **options)
    weights = {"region_weight": 0.0} if region is None else {"replace_fraction": 0.5}
    distiller = l2rkd_tf.L2RKDDistiller(
        teacher, student, region=region, hard_weight=0.0, temperature=2.0, seed=3, **weights
    )
    distiller.compile(sgd(6))
    distiller.fit(train.repeat(), steps_per_epoch=6, verbose=0)
    assert entry.region is region and entry.steps == 6
    np.testing.assert_allclose(
        entry.divergence, kl_in_float64(teacher, student, held_out), rtol=1e-5
    )


def test_all_begin_with_the_given_weights_and_the_student_has_them_again():
    teacher, student = curved(0), linear(1)
    before = student.get_weights()
    x = numbers(24, 4)
    same = rank_regions(teacher, student, x, x, [Swap(), Swap()], steps=3, rounds=1, verbose=False)
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert same[0].divergence == same[1].divergence > 0.0


def test_data_that_are_shuffled_begin_anew_for_each_candidate():
    train = l2rkd_tf.data.load("digits", "train", batch_size=10, fraction=0.1)
    teacher, student = (curved(seed, shape=(8, 8, 1)) for seed in range(2))
    held_out = np.zeros((4, 8, 8, 1), "float32")
    options = {"steps": 3, "rounds": 1, "verbose": False}
    same = rank_regions(teacher, student, train, held_out, [Segment(), Segment()], **options)
    assert same[0].divergence == same[1].divergence


def test_the_students_weights_are_given_back_after_a_failure():
    student = linear(1)
    before = student.get_weights()
    with pytest.raises(FloatingPointError):
        rank_regions(curved(0), student, np.full((8, 4), np.nan, "float32"), numbers(8, 4))
    np.testing.assert_array_equal(before[0], student.get_weights()[0])


class Judge:
    """A trial with known results, of candidates that are numbers."""

    def __init__(self, results):
        self.results, self.calls = results, []

    def __call__(self, region, steps):
        self.calls.append((region, steps))
        return RankedRegion(region, self.results[region, steps], 0.0, steps)


def test_the_better_half_goes_on_for_twice_the_steps():
    first = {(n, 10): value for n, value in enumerate([5.0, 1.0, np.nan, 3.0, 2.0])}
    judge = Judge(first | {(1, 20): 0.9, (4, 20): 0.3, (3, 20): 0.5, (4, 40): 0.2, (3, 40): 0.1})
    ranking = halve(judge, [0, 1, 2, 3, 4], 10, 3, False)
    assert judge.calls[5:] == [(1, 20), (4, 20), (3, 20), (4, 40), (3, 40)]
    assert [entry.region for entry in ranking] == [3, 4, 1, 0, 2]
    assert [entry.steps for entry in ranking] == [40, 40, 20, 10, 10]


@pytest.mark.parametrize(
    ("count", "rounds", "plan"),
    [
        (8, 3, [(8, 10), (4, 20), (2, 40)]),
        (1, 3, [(1, 10)]),
        (2, 5, [(2, 10), (1, 20)]),
        (5, 1, [(5, 10)]),
    ],
)
def test_rounds(count, rounds, plan):
    assert plan_rounds(count, 10, rounds) == plan


def test_eight_candidates_cost_15_per_cent_of_training_with_each():
    plan = plan_rounds(8, 75, 2)
    assert sum(count * steps for count, steps in plan) == 0.15 * 8 * 1000


def test_batch_normalization_is_judged_with_the_statistics_of_the_batch():
    teacher = curved(0)
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    )
    x, held_out = numbers(24, 4), 3.0 * numbers(200, 4, seed=1) + 2.0
    before = student.get_weights()
    options = {"steps": 2, "rounds": 1, "optimizer": lambda _: keras.optimizers.SGD(0.0)}
    (entry,) = rank_regions(teacher, student, x, held_out, [Swap()], verbose=False, **options)
    normalized = (held_out - held_out.mean(0)) / np.sqrt(held_out.var(0) + 1e-3)
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    dense.set_weights(student.layers[-1].get_weights())
    targets, outputs = (
        np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
        for z in (logits(teacher, held_out), logits(dense, normalized.astype("float32")))
    )
    expected = (np.exp(targets) * (targets - outputs)).sum(axis=1).mean()
    np.testing.assert_allclose(entry.divergence, expected, rtol=1e-4)
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_is_printed(capsys):
    x = numbers(24, 4)
    ranking = rank_regions(curved(0), linear(1), x, x, [None, Swap()], steps=2, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/1] plain distillation, without a region: ")
    assert " after 2 steps, about " in lines[0] and lines[1].endswith("about 0 s left")
    assert lines[2].split()[:2] == ["region", "steps"]
    for line, entry in zip(lines[3:5], ranking, strict=True):
        assert line.startswith(entry.name) and f" {entry.divergence:.4f} ± " in line
    assert lines[5].startswith(f"Use {ranking[0].name}: after 2 steps its student is nearest")


@pytest.mark.parametrize(
    ("rate", "notice"),
    [
        (0.0, "Do not use this order: no student is nearer"),
        (1e30, "Do not use this order: no student is nearer"),
        (0.01, "That is still {share:.0%} of the divergence of the initial weights"),
        (3.0, ""),
    ],
)
def test_what_is_said_of_students_that_have_learned_little(capsys, rate, notice):
    x, teacher, student = numbers(64, 4), curved(0), linear(1)
    initial = kl_in_float64(teacher, student, x)
    options = {"steps": 100, "rounds": 1, "optimizer": lambda _: keras.optimizers.SGD(rate)}
    (entry,) = rank_regions(teacher, student, x, x, [None], **options)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(notice.format(share=entry.divergence / initial) or "Use ")
    assert (f"({initial:.4f})" in last) == bool(notice)
    if not notice:
        assert entry.divergence <= 0.25 * initial


@pytest.mark.parametrize(
    ("inputs", "kinds", "count"),
    [
        (tf.TensorSpec((None, 8, 8, 1)), {type(None), Patch, Swap, Segment, Simplex, Ball}, 8),
        (tf.TensorSpec((None, 2, 8, 1)), {type(None), Patch, Swap, Segment, Simplex, Ball}, 7),
        (tf.TensorSpec((None, 5)), {type(None), Compose, Swap, Segment, Simplex, Ball}, 8),
        (tf.TensorSpec((None, 5), tf.int32), {type(None), Swap}, 4),
    ],
)
def test_default_candidates_suit_the_inputs(inputs, kinds, count):
    found = regions_to_try(inputs)
    assert len(found) == count and {type(region) for region in found} == kinds
    assert len({repr(region) for region in found}) == count


def test_ids_and_inputs_by_name_are_ranked():
    ids = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(10, 4),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    student = keras.models.clone_model(ids)
    x = np.random.default_rng(0).integers(0, 10, (16, 6)).astype("int32")
    ranking = rank_regions(ids, student, x, x, steps=1, rounds=1, verbose=False)
    assert len(ranking) == 4

    def named():
        symbols = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
        joined = keras.layers.Concatenate()(list(symbols.values()))
        return keras.Model(symbols, keras.layers.Dense(2)(joined))

    data = {"a": numbers(16, 3), "b": numbers(16, 2)}
    for form in (dict, lambda arrays: list(arrays.values()), lambda arrays: (*arrays.values(),)):
        x = form(data)
        ranking = rank_regions(named(), named(), x, x, [Swap()], steps=1, verbose=False)
        assert np.isfinite(ranking[0].divergence)


def test_the_teacher_may_be_anything_that_a_distiller_takes():
    x = numbers(16, 4)
    weights = numbers(4, 3)
    teacher = l2rkd_tf.CallableTeacher(lambda inputs: inputs @ weights, 3)
    ranking = rank_regions(teacher, linear(1), x, x, [Swap()], steps=1, verbose=False)
    expected = linear(0)
    expected.set_weights([weights, np.zeros(3)])
    same = rank_regions(expected, linear(1), x, x, [Swap()], steps=1, verbose=False)
    np.testing.assert_allclose(ranking[0].divergence, same[0].divergence, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"rounds": 1.5}, "`rounds` must be a positive integer"),
        ({"regions": []}, "`regions` must hold regions"),
        ({"regions": ["swap"]}, "`regions` must hold regions"),
        ({"region": Swap()}, "`region` must not be given"),
        ({"region_weight": 1.0}, "`region_weight` must not be given"),
        ({"hard_weight": 0.1}, "`hard_weight` must be 0"),
        ({"unlabelled": numbers(0, 4)}, "`unlabelled` must have at least one example"),
        ({"data": numbers(0, 4)}, "`data` must have at least one example"),
        ({"data": (numbers(8, 4), np.zeros(8))}, r"`data` must hold as many arrays.* inputs, 1\."),
        ({"unlabelled": [numbers(8, 4), np.zeros(8)]}, r"`unlabelled` must hold.*\(8, 4\), \(8,\)"),
        ({"student": linear(1, outputs=2)}, "outputs"),
        ({"temperature": -1.0}, "`temperature` must be"),
        ({"optimizer": "adam"}, "`optimizer` must be a function of the number of steps"),
        ({"optimizer": keras.optimizers.Adam}, "`optimizer` must be a function"),
    ],
)
def test_wrong_use_is_found_before_any_training(changes, message, monkeypatch):
    monkeypatch.setattr(l2rkd_tf.L2RKDDistiller, "fit", lambda *_, **__: pytest.fail("trained"))
    arguments = {"student": linear(1), "data": numbers(8, 4), "unlabelled": numbers(8, 4)}
    with pytest.raises(ValueError, match=message):
        rank_regions(curved(0), **(arguments | {"regions": [Swap()]} | changes))


def test_several_outputs_are_refused_before_any_training(monkeypatch):
    monkeypatch.setattr(l2rkd_tf.L2RKDDistiller, "fit", lambda *_, **__: pytest.fail("trained"))

    def two(seed):
        symbol = keras.Input((4,))
        outputs = {name: keras.layers.Dense(2)(symbol) for name in ("a", "b")}
        return keras.Model(symbol, outputs)

    with pytest.raises(ValueError, match="must have one output"):
        rank_regions(two(0), two(1), numbers(8, 4), numbers(8, 4), [Swap()])


def normalized(rate):
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.BatchNormalization(), keras.layers.Dropout(rate)]
    return keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3)])


def test_a_layer_that_is_called_twice_is_judged_once_and_left_as_it_was():
    normalize, x = keras.layers.BatchNormalization(), numbers(20, 4)
    inputs = keras.Input((4,))
    twice = keras.layers.Add()([normalize(inputs), keras.Sequential([normalize])(inputs)])
    student = keras.Model(inputs, keras.layers.Dense(3)(twice))
    rank_regions(linear(0), student, x[:8], x[8:], [None], steps=1, rounds=1, verbose=False)
    assert "call" not in vars(normalize)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_students_are_judged_with_statistics_of_the_batch_and_without_dropout(rate):
    teacher, student, x = linear(0), normalized(rate), numbers(20, 4)
    ranking = rank_regions(
        teacher, student, x[:8], x[8:], [None], steps=1, rounds=1, verbose=False,
        optimizer=lambda steps: keras.optimizers.SGD(1e-9),
    )  # fmt: skip
    held_out = x[8:]
    deviation = np.sqrt(held_out.var(axis=0) + 1e-3)
    outputs = (held_out - held_out.mean(axis=0)) / deviation @ student.layers[-1].get_weights()[0]
    targets = logits(teacher, held_out)
    logs = [z - np.log(np.exp(z).sum(axis=1, keepdims=True)) for z in (targets, outputs)]
    expected = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean()
    assert ranking[0].divergence == pytest.approx(expected, rel=1e-4)


def test_no_example_is_judged_by_statistics_of_few():
    x = numbers(257 + 4, 4)
    found = [
        rank_regions(
            linear(0), normalized(0.0), x[:4], held_out, [None], steps=1, rounds=1, verbose=False,
            optimizer=lambda steps: keras.optimizers.SGD(1e-9),
        )[0].divergence
        for held_out in (x[4:], x[4:-1])
    ]  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_ranking_leaves_the_order_of_the_data_as_it_was():
    data = l2rkd_tf.data.load("digits", "train", batch_size=50, fraction=0.1, seed=3)
    first = next(iter(data))
    data.cursor.set_batch(0)
    models = [l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(2,)) for _ in "TS"]
    options = {"steps": 3, "rounds": 1, "verbose": False}
    rank_regions(*models, data, data.map(lambda x, y: x), [None, Segment()], **options)
    assert data.cursor.batch == 0
    np.testing.assert_array_equal(next(iter(data))[0], first[0])
