"""Pretraining the base through its command."""

import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file

from experiments.tiny_pretrain import main

_SIZES = ("--encoder-steps", "2", "--decoder-steps", "2", "--pictures", "32", "--images", "0", "--save-seconds", "0")


def test_a_share_outside_its_range_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path), "--wrong-captions", "1.5"])
    assert stopped.value.code == 2 and "--wrong-captions" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["--out", str(whole), "--steps", "20", *_SIZES]) == 0
    command = [sys.executable, "-m", "experiments.tiny_pretrain", "--out", str(killed), "--steps", "20", *_SIZES]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while not (killed / "joint" / "progress.json").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "base").exists()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    for file in ("ema.safetensors", "ae.safetensors"):
        first, second = load_file(whole / "base" / file), load_file(killed / "base" / file)
        assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_another_number_of_steps_is_another_run(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--stage", "encoder", "--pictures", "32"]
    assert main([*arguments, "--encoder-steps", "1"]) == 0
    assert main([*arguments, "--encoder-steps", "2"]) == 2
    assert "was begun with" in capsys.readouterr().err
