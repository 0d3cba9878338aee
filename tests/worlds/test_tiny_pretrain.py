"""Pretraining the base through its command."""

import json
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx
from safetensors.numpy import load_file

from experiments._tiny_bagel.autoencoder import cells_of, unit_range
from experiments._tiny_janus.base_files import trained_janus_config
from experiments._tiny_janus.picture_tokenizer import complete, make_codes_stage, pictures_to_code
from experiments._tiny_janus.settings import CodesSettings
from experiments.tiny_pretrain import main
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.vq import VQ
from srum_jax.worlds.shapes.base import RECIPE, check_trained_base
from tests import commands

_SIZES = ("--encoder-steps", "2", "--decoder-steps", "2", "--generator-steps", "2", "--pictures", "32", "--images", "0",
          "--save-seconds", "0")


def test_a_share_outside_its_range_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), "--wrong-captions", "1.5"])
    assert stopped.value.code == 2 and "--wrong-captions" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--base", "janus", "--stage", "encoder"], "--stage: expected one of codes, pixels, joint, judge, export"
                                               " for janus"),
    (["--base", "janus", "--generator-steps", "2"], "--generator-steps: expected it with --base bagel alone"),
    (["--judge-steps", "2"], "--judge-steps: expected it with --base janus alone"),
    (["--stage", "codes"], "--stage: expected one of encoder, decoder"),
])
def test_what_another_base_has_is_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def _start(*arguments, start=commands.start):
    """The command in a process of its own, as users run it: flax's own layers broadcast where the tests forbid it."""
    return start("experiments.tiny_pretrain", *arguments)


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, err = _start("--out", whole, "--steps", "6", *_SIZES, start=commands.start_afresh).finish()
    assert code == 0, err
    for stage in ("encoder", "decoder"):
        shutil.copytree(whole / stage, killed / stage)
    process = _start("--out", killed, "--steps", "6", *_SIZES)
    process.signal_when((killed / "joint" / "progress.json").exists, signal.SIGKILL)
    assert not (killed / "base").exists()
    code, _, err = _start("--out", killed, "--steps", "6", *_SIZES).finish()
    assert code == 0, err
    for file in ("ema.safetensors", "ae.safetensors"):
        first, second = load_file(whole / "base" / file), load_file(killed / "base" / file)
        assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_another_number_of_steps_is_another_run(tmp_path):
    arguments = ["--out", tmp_path, "--stage", "encoder", "--pictures", "32"]
    code, _, err = _start(*arguments, "--encoder-steps", "1").finish()
    assert code == 0, err
    code, _, err = _start(*arguments, "--encoder-steps", "2").finish()
    assert code == 2 and "was begun with" in err


@pytest.mark.slow
def test_a_janus_is_made_and_measured_by_the_same_command(tmp_path):
    sizes = ("--encoder-steps", "2", "--decoder-steps", "2", "--steps", "2", "--judge-steps", "2", "--pictures", "32",
             "--images", "8")
    code, _, err = _start("--base", "janus", "--out", tmp_path, *sizes, start=commands.start_afresh).finish()
    assert code == 0, err
    base = epath.Path(tmp_path / "base")
    assert JanusConfig.from_directory(base) == trained_janus_config()
    measured = json.loads((base / RECIPE).read_text())["measured"]
    assert {"reconstruction", "held_out_prompts", "judge_own_pictures", "captions_of_tidy_pictures"} <= set(measured)
    check_trained_base(base)


@pytest.mark.slow
def test_codes_of_the_stored_tokenizer_are_those_that_training_chose():
    """The encoder that is trained cell by cell, put into the architecture's own networks."""
    config = trained_janus_config().vq
    start, module, _ = make_codes_stage(config, CodesSettings(steps=1), seed=0)
    stage, vq = module(start), VQ(config, rngs=nnx.Rngs(1))
    complete(stage, vq.decoder, vq)
    pictures = unit_range(jnp.asarray(pictures_to_code(0, 5)))
    chosen = jnp.argmax(stage.directions(cells_of(pictures)) @ stage.encoder.codebook.embedding[...].T, axis=-1)
    found = vq.encode(pictures).reshape(chosen.shape)
    assert len(np.unique(found)) > 20 and np.mean(np.asarray(found == chosen)) > 0.999  # ties fall by rounding
