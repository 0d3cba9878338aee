"""What can be wrong with a study, other than a program."""

from srum_jax.errors import BadInput, Failure


class SettingsError(BadInput):
    """Arguments, or a folder, that cannot be used: the same command will fail again."""


class StudyError(Failure):
    """A step of the study failed: the same command goes on."""
