"""What a user of the library writes, for a type checker: see tests/test_typing.py.

A line that ends in `# wrong` must be refused, and no other line.
"""

import keras
import numpy as np

import l2rkd_tf
from l2rkd_tf import (
    callbacks,
    data,
    export,
    geometry,
    losses,
    methods,
    models,
    plots,
    regions,
    teacher_cache,
)


def distil(teacher: keras.Model, student: keras.Model) -> float:
    """Trains a student with most of what there is."""
    train = data.load("digits", "train", batch_size=32, fraction=0.1, augment="crop")
    cached = teacher_cache.cache_teacher(train, teacher, verbose=False)
    ranking = l2rkd_tf.rank_regions(teacher, student, train, train)
    distiller = l2rkd_tf.L2RKDDistiller(
        teacher,
        student,
        region=ranking[0].region,
        region_targets="interpolated",
        divergence="kl",
        distillation_losses=[methods.DKD(beta=2.0), methods.FitNet("block2", "block2")],
        distillation_losses_at=["data", "both"],
    )
    warmup = callbacks.schedules.linear_warmup(0.9, epochs=3)
    watch = [callbacks.LossWeightScheduler(warmup), callbacks.TrainingBackup("backup", train)]
    distiller.fit(cached, epochs=3, callbacks=watch)
    profile = geometry.fidelity_profile(teacher, student, np.zeros((8, 8)), regions.Segment())
    figure = plots.fidelity_profiles({"student": profile})
    figure.savefig("profile.png")
    report = export.export_litert(student, "student.tflite", "int8", representative_data=train)
    return report.max_abs_difference + float(profile.kl[0])


def make_wrong_use(student: keras.Model) -> None:
    """Each is an error before anything runs."""
    regions.Segment("half")  # wrong
    regions.Segment(partner="nearby")  # wrong
    regions.Ball(0.1, norm="l1")  # wrong
    regions.Mixture(regions.Segment())  # wrong
    _ = regions.Segment().size  # wrong
    methods.DKD(alpha="much")  # wrong
    models.convnet(8, 10)  # wrong
    losses.logits_from_probabilities(np.ones((1, 2)), temperature=2.0)  # wrong
    l2rkd_tf.L2RKDDistiller(student, student, divergence="rkl")  # wrong
    l2rkd_tf.L2RKDDistiller(student, student, region="patch")  # wrong
    export.export_litert(student, "student.tflite", "int4")  # wrong
    data.load("digits", "train", batch_size="all")  # wrong
