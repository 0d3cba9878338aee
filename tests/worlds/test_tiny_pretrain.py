"""Pretraining the base through its command."""

import signal

import pytest
from safetensors.numpy import load_file

from experiments.tiny_pretrain import main
from tests import commands

_SIZES = ("--encoder-steps", "2", "--decoder-steps", "2", "--generator-steps", "2", "--pictures", "32", "--images", "0",
          "--save-seconds", "0")


def test_a_share_outside_its_range_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), "--wrong-captions", "1.5"])
    assert stopped.value.code == 2 and "--wrong-captions" in capsys.readouterr().err


def _start(*arguments, start=commands.start):
    """The command in a process of its own, as users run it: flax's own layers broadcast where the tests forbid it."""
    return start("experiments.tiny_pretrain", *arguments)


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, err = _start("--out", whole, "--steps", "6", *_SIZES, start=commands.start_afresh).finish()
    assert code == 0, err
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
