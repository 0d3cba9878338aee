"""What can go wrong, by what a command ends with. One of these is the base of every exception of this project.

A subclass exists where a caller tells it from others; commands catch `ANTICIPATED` and hand it to `tell`. Anything else
that arrives there is a fault of ours, and is shown with its traceback.
"""

import sys


class BadInput(ValueError):
    """Arguments, settings or files that cannot be used: exit code 2. The same command would end in the same way."""

    exit_code = 2


class Failure(Exception):
    """Something failed on the way: exit code 1. What was committed is intact, and the same command goes on."""

    exit_code = 1


class Incomplete(Exception):
    """The command came to its end, but with less than was asked for: exit code 3."""

    exit_code = 3


# What commands expect to happen to them. The system's own errors are told by what they mean; see `exit_code`.
ANTICIPATED = (BadInput, Failure, Incomplete, OSError)

# A path that is absent, in the way, or not ours to use, as opposed to a disk that is full or a network that is down.
_UNUSABLE_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def check(name: str, condition: bool, expected: str, found: object) -> None:
    """Raises BadInput, about a setting or an argument, unless the condition holds."""
    if not condition:
        raise BadInput(f"{name}: expected {expected}, found {found!r}.")


def exit_code(error: BaseException) -> int:
    """What a command ends with because of an error."""
    return getattr(error, "exit_code", 2 if isinstance(error, _UNUSABLE_PATH) else 1)


def tell(error: BaseException | str, code: int | None = None) -> int:
    """Says on standard error why a command ends.

    Args:
      error: the reason.
      code: that of an error which has none of its own.

    Returns:
      The exit code.
    """
    print(f"error: {error}", file=sys.stderr)
    return exit_code(error) if code is None else code
