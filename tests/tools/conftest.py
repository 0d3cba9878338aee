"""Fixtures shared with other tests."""

from tests.gcs import emulator, gcs_bucket  # noqa: F401
