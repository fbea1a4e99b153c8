"""Flags of `l2rkd benchmark`."""

SUMMARY = "Measure a student's LiteRT files: size, latency, accuracy, fidelity."
USAGE = ""


def define(FLAGS):
    """Defines the flags."""


def check(FLAGS):
    """Checks that the flags go together."""
