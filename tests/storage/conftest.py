"""Fixtures shared with other tests."""

from tests.faulty_bucket import faulty  # noqa: F401
from tests.gcs import emulator, gcs_bucket  # noqa: F401
