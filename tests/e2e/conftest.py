"""Fixtures shared with the tests of training."""

from tests.training.conftest import tiny_base  # noqa: F401
