"""Fixtures that several tests of the tools share."""

import pytest

from tests.tools.fake_cloud import FakeCloud
from tests.tools.fakes import all_stages, generated, scores_for
from tests.tools.official_files import Folder
from tests.tools.pretended_pod import put_project


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


@pytest.fixture
def pod(tmp_path):
    """A pod on which the project is installed."""
    cloud = FakeCloud(tmp_path)
    cloud.states("ACTIVE")
    put_project(cloud.worker)
    yield cloud
    cloud.run("stop.sh", PLACE=str(cloud.worker))
