"""Flags of `l2rkd tune`."""

SUMMARY = "Search for radius, region weight and temperature on the validation split."
USAGE = ""


def define(FLAGS):
    """Defines the flags."""


def check(FLAGS):
    """Checks that the flags go together."""
