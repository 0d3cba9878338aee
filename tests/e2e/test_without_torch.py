"""Training and generating work where neither PyTorch nor transformers can be imported."""

import pytest

from srum_jax.worlds.shapes.base import trained_base
from tests import commands
from tests.e2e.training import QUICK


@pytest.fixture
def without(tmp_path):
    """Variables with which an import of either ends the process."""
    for name in ("torch", "transformers", "tensorboardX", "tensorflow_datasets"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return {"PYTHONPATH": str(tmp_path / "blocked")}


@pytest.mark.slow
def test_training_needs_neither(without, tmp_path):
    done = commands.run_afresh("srum_jax.train", "--experiment=tiny", "--workdir", tmp_path / "run",
                               *(f"--set={setting}" for setting in (*QUICK, "training.steps=1")), env=without)
    assert done.code == 0, done.err
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert all(": reading " in line for line in done.err.splitlines()), "no other library speaks among our lines"


@pytest.mark.slow
def test_generating_needs_neither(without, tmp_path):
    done = commands.run_afresh("srum_jax.generate", "--checkpoint", trained_base(), "--prompt", "a red circle", "--out",
                               tmp_path / "out", "--set", "sampler.num_timesteps=3", "--dtype", "float32", env=without)
    assert done.code == 0 and "complete" in done.out, done.err
    assert all(": reading " in line for line in done.err.splitlines()), done.err
