"""Fixtures shared with the tests of training."""

from tests.faulty_bucket import faulty  # noqa: F401
from tests.training.conftest import tiny_base  # noqa: F401
