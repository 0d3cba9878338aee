"""Fixtures shared with other tests."""

from tests.faulty_bucket import faulty  # noqa: F401
from tests.training.conftest import bucket, tiny_base  # noqa: F401
