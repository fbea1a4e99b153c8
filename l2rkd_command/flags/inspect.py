"""Flags of `l2rkd inspect`."""

SUMMARY = "Report how well students match their teacher between the examples."
USAGE = ""


def define(FLAGS):
    """Defines the flags."""


def check(FLAGS):
    """Checks that the flags go together."""
