"""Flags of the commands, a module each, and the groups that several commands share.

The module of a command has

    SUMMARY          one line about the command
    USAGE            command lines to show in its help
    define(FLAGS)    defines its flags in a new `absl.flags.FlagValues`
    check(FLAGS)     completes parsed flags, and raises `UsageError` if they do not go together

None of these import TensorFlow.
"""
