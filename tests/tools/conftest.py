"""Fixtures that several tests of the tools share."""

import pytest

from tests.faulty_bucket import faulty  # noqa: F401
from tests.gcs import emulator, gcs_bucket  # noqa: F401
from tests.tools.fakes import all_stages, generated, scores_for
from tests.tools.official_files import Folder


@pytest.fixture
def whole(tmp_path):
    """A run that nothing interrupted."""
    out = generated(tmp_path / "whole")
    assert all_stages(out, scores_for(tmp_path / "scores.jsonl")) == 0
    return out


@pytest.fixture
def folder(tmp_path):
    """Three pictures, and a way to import what is said of them."""
    return Folder(tmp_path)
