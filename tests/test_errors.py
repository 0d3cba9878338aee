"""What a command ends with, and what it says."""

import errno
import pickle

import pytest

from srum_jax.data.errors import DataError
from srum_jax.errors import ANTICIPATED, BadInput, Failure, Incomplete, tell
from srum_jax.storage.errors import WriteError


@pytest.mark.parametrize(("error", "code"), [
    (BadInput("seed: expected 1, found 2."), 2),
    (Failure("no memory"), 1),
    (Incomplete("3 of 4"), 3),
    (FileNotFoundError("x"), 2),
    (PermissionError("x"), 2),
    (OSError(errno.ENOSPC, "No space left on device"), 1),
    (WriteError("x", 3, OSError(errno.EACCES, "denied")), 1),
])
def test_an_error_decides_the_exit_code_and_is_one_line(error, code, capsys):
    assert isinstance(error, ANTICIPATED)
    assert tell(error) == code
    out, said = capsys.readouterr()
    assert not out and said == f"error: {error}\n"


def test_errors_cross_to_another_process():
    error = pickle.loads(pickle.dumps(DataError("records.tfrecord", 3, "torn")))
    assert (error.file, error.record_number, error.reason, error.exit_code) == ("records.tfrecord", 3, "torn", 1)


def test_an_error_nobody_expects_keeps_its_traceback():
    assert not isinstance(KeyError("x"), ANTICIPATED) and not isinstance(ValueError("x"), ANTICIPATED)
