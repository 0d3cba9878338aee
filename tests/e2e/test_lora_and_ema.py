"""Low-rank training with an average of the factors, from the training command to the exported checkpoint."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.weights.run_folder import EMA
from tests import commands
from tests.e2e.training import lines, parameters, run

# llm2vae of the tiny base is zero: without factors of its own nothing before it would have a gradient.
EMA_SETTINGS = ("ema.decay=0.9", "ema.warmup=true")
SETTINGS = ("model.lora.rank=2", "model.lora.targets=*", "training.log_every=1", "training.save_every=2",
            "data.rows_per_batch=2", "optimizer.warmup_steps=1", "optimizer.first_moment_dtype=bfloat16",
            "optimizer.second_moment_dtype=bfloat16")


def averages(workdir, step):
    arrays = OrbaxArrays(workdir / "checkpoints" / str(step), EMA)
    return {name: np.asarray(arrays.read(name)) for name in arrays.shapes}


def export(workdir, template, out, *options):
    code, printed, err = commands.run("tools.convert_weights", "export", "--checkpoint", workdir,
                                      "--template", template, "--out", out, *options)
    assert code == 0, err
    return printed


@pytest.mark.slow
def test_a_low_rank_run_resumes_bit_equal_and_exports_its_average_merged(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, out, err = run(whole, *SETTINGS, *EMA_SETTINGS, "training.steps=4")
    assert code == 0 and "(LoRA of rank 2)" in out, err
    for steps in (2, 4):
        code, out, err = run(broken, *SETTINGS, *EMA_SETTINGS, f"training.steps={steps}")
        assert code == 0, err
    assert "restored from step 2" in out and lines(broken) == lines(whole)
    for read in (parameters, averages):
        expected, found = read(whole, 4), read(broken, 4)
        assert expected.keys() == found.keys() and len(found) == 22
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert any(not np.array_equal(values, averages(whole, 4)[name]) for name, values in parameters(whole, 4).items())

    code, _, err = run(broken, *SETTINGS, "training.steps=6")
    assert code == 2 and "begun with something else" in err and 'ema: the folder {"decay": 0.9' in err

    template = json.loads((whole / "config.json").read_text())["model"]["checkpoint"] or str(whole / "shapes" / "base")
    assert "averaged weights (ema)" in export(whole, template, tmp_path / "ema")
    assert "averaged" not in export(whole, template, tmp_path / "raw", "--weights", "raw")
    name = "language_model.model.layers.1.mlp_moe_gen.up_proj.weight"
    base = load_file(f"{template}/ema.safetensors")[name]
    for kind, read in (("ema", averages), ("raw", parameters)):
        factors = read(whole, 4)
        a, b = (factors[f"llm.layers.gen.up.lora_{letter}"][1] for letter in "ab")
        exported = load_file(tmp_path / kind / "ema.safetensors")[name]
        np.testing.assert_allclose(exported, base + 16 * (a @ b).T, rtol=0, atol=1e-6)
        assert not np.array_equal(exported, base)
    export(whole, template, tmp_path / "adapter", "--adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
