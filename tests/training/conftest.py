"""What several tests of training share."""

import pytest

from srum_jax.worlds.shapes.base import write_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A published directory of the tiny model."""
    directory = tmp_path_factory.mktemp("tiny") / "base"
    write_base(directory, 0)
    return directory
