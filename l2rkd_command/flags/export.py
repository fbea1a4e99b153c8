"""Flags of `l2rkd export`."""

SUMMARY = "Export a student as SavedModel and LiteRT, and check both against Keras."
USAGE = ""


def define(FLAGS):
    """Defines the flags."""


def check(FLAGS):
    """Checks that the flags go together."""
