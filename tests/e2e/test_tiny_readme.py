"""The README's main command, shortened: it trains, the loss falls, the weights come out and go in again."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests import commands


def _run(*arguments, run=commands.run, **options):
    code, out, err = run(*arguments, **options)
    assert code == 0, out + err
    return out + err


@pytest.mark.slow
def test_the_tiny_experiment_trains_exports_and_imports_again(tmp_path):
    workdir, exported, imported = (tmp_path / name for name in ("run", "exported", "imported"))
    printed = _run("srum_jax.train", "--experiment=tiny", "--workdir", workdir,
                   "--set", "training.steps=24", "--set", "training.save_every=24", "--set", "training.log_every=6",
                   "--set", "data.rows_per_batch=4",
                   run=commands.run_afresh, env={"JAX_ENABLE_COMPILATION_CACHE": "false"})  # as on a fresh machine
    losses = [float(value) for value in re.findall(r"\bloss +(\d+\.\d+)", printed)]
    assert len(losses) >= 4 and losses[-1] < 0.9 * losses[0]
    assert "done after step 24" in printed

    base = workdir / "shapes" / "base"
    _run("tools.convert_weights", "export", "--checkpoint", workdir, "--template", base, "--out", exported)
    _run("tools.convert_weights", "import", "--model", "bagel", "--source", exported, "--out", imported)
    again = tmp_path / "again"
    _run("tools.convert_weights", "export", "--checkpoint", imported, "--template", exported, "--out", again)
    for file in ("ema.safetensors", "ae.safetensors"):
        before, after, repeated = (load_file(path / file) for path in (base, exported, again))
        assert before.keys() == after.keys() == repeated.keys()
        for name, values in after.items():
            np.testing.assert_array_equal(values, repeated[name], err_msg=name)
            assert values.shape == before[name].shape and np.isfinite(values).all(), name
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        assert bool(changed) == (file == "ema.safetensors")
        assert not any(name.startswith(("vit_model.", "connector.")) for name in changed)
