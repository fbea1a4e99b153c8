"""Flags that several commands share: `define(FLAGS, ...)` defines those of one group."""


def under(heading, flag_values):
    """Arguments of `flags.DEFINE_...` that put a flag under a heading of the help page.

    absl groups flags by the module that defines them; here the heading takes its place.
    """
    return {"flag_values": flag_values, "module_name": heading}
