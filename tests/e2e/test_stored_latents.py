"""Latents computed once by the tool, and trained on by the training command."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.records import write_records
from tests import commands
from tests.e2e.training import lines

SHORT = ("training.steps=3", "training.save_every=3", "training.log_every=1", "data.rows_per_batch=2",
         "optimizer.warmup_steps=1")


def train(workdir, records, *settings):
    chosen = (*SHORT, f"data.records={records}", *settings)
    code, _, err = commands.run("srum_jax.train", "--experiment=tiny_srum", "--workdir", workdir,
                                *(f"--set={setting}" for setting in chosen))
    return code, err


def precompute(records, out, run=commands.run):
    code, _, err = run("tools.precompute_latents", "--experiment=tiny_srum", "--records", records, "--out", out)
    return code, err


@pytest.mark.slow
def test_a_run_on_stored_latents_has_the_losses_of_one_on_images(tmp_path):
    write_records(tmp_path / "records", 9, image_size=64)
    code, err = precompute(tmp_path / "records", tmp_path / "latents")
    assert code == 0, err
    for kind, records in (("images", "records"), ("stored", "latents")):
        code, err = train(tmp_path / kind, tmp_path / records, f"rows.latents={kind}")
        assert code == 0, err
    images, stored = (lines(tmp_path / kind) for kind in ("images", "stored"))
    assert [line["step"] for line in stored] == [line["step"] for line in images] == [1, 2, 3]
    for one, other in zip(images, stored, strict=True):
        assert one.keys() == other.keys()
        for name in ("loss/total", "loss/reward", "loss/reference", "norm/gradient"):
            np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)

    code, err = train(tmp_path / "images", tmp_path / "latents", "rows.latents=stored", "training.steps=4")
    assert code == 2 and 'rows.latents: the folder "images", this command "stored"' in err


@pytest.mark.slow
def test_latents_of_another_transform_or_encoder_are_refused_with_what_to_do(tmp_path):
    write_records(tmp_path / "records", 4, image_size=48)
    code, err = precompute(tmp_path / "records", tmp_path / "latents", commands.run_afresh)
    assert code == 0, err
    code, err = train(tmp_path / "run", tmp_path / "latents", "rows.latents=stored", "rows.max_size=40",
                      "rows.min_size=40")
    assert code == 2 and "code/image_height': expected 40" in err and "tools.precompute_latents" in err

    base = tmp_path / "base"
    shutil.copytree(trained_base(), base)
    tensors = load_file(base / "ae.safetensors")
    tensors["encoder.conv_in.bias"] = tensors["encoder.conv_in.bias"] + np.float32(1e-3)
    save_file(tensors, base / "ae.safetensors")
    code, err = train(tmp_path / "other", tmp_path / "latents", "rows.latents=stored", f"model.checkpoint={base}")
    assert code == 2 and "the encoder of model.checkpoint" in err and "Traceback" not in err
