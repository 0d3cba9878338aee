"""What can be wrong with a study, other than a program."""


class SettingsError(ValueError):
    """Arguments, or a folder, that cannot be used: the same command will fail again."""


class StudyError(RuntimeError):
    """A step of the study failed: the same command goes on."""
