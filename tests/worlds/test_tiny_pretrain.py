"""Pretraining the base through its command."""

import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file

from experiments.tiny_pretrain import main

_SIZES = ("--encoder-steps", "2", "--decoder-steps", "2", "--generator-steps", "2", "--pictures", "32", "--images", "0",
          "--save-seconds", "0")


def test_a_share_outside_its_range_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), "--wrong-captions", "1.5"])
    assert stopped.value.code == 2 and "--wrong-captions" in capsys.readouterr().err


def _start(*arguments):
    """The command in a process of its own, as users run it: flax's own layers broadcast where the tests forbid it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC")}
    return subprocess.Popen([sys.executable, "-m", "experiments.tiny_pretrain", *arguments],
                            env=environment | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _start("--out", str(whole), "--steps", "6", *_SIZES).wait() == 0
    process = _start("--out", str(killed), "--steps", "6", *_SIZES)
    while not (killed / "joint" / "progress.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "base").exists()
    assert _start("--out", str(killed), "--steps", "6", *_SIZES).wait() == 0
    for file in ("ema.safetensors", "ae.safetensors"):
        first, second = load_file(whole / "base" / file), load_file(killed / "base" / file)
        assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_another_number_of_steps_is_another_run(tmp_path):
    arguments = ["--out", str(tmp_path), "--stage", "encoder", "--pictures", "32"]
    assert _start(*arguments, "--encoder-steps", "1").wait() == 0
    refused = _start(*arguments, "--encoder-steps", "2")
    assert "was begun with" in refused.communicate()[1] and refused.returncode == 2
