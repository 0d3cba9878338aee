"""Runs that are stopped in every way, and then go on as if nothing had happened."""

import re
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from srum_jax.observability.goodput import GOODPUT_FILE, Start, account
from tests.e2e.training import QUICK, lines, parameters, run, start, steps, with_shapes

# Saving falls between log lines, so that a resumed run has to finish a line that another one began.
SETTINGS = (*QUICK, "training.steps=40", "training.save_every=4", "training.log_every=3", "training.keep=20")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    code, out, err = run(workdir, *SETTINGS)
    assert code == 0 and "done after step 40" in out, err
    assert steps(workdir) == list(range(4, 41, 4))
    return workdir


@pytest.mark.slow
def test_a_run_that_is_killed_interrupted_and_terminated_repeats_the_losses_of_one_that_is_not(whole, tmp_path):
    broken = tmp_path / "broken"
    code, *_ = start(broken, *SETTINGS).signal_when(lambda: 4 in steps(broken), signal.SIGKILL)
    assert code == -signal.SIGKILL
    killed_at = steps(broken)[-1]
    assert killed_at < 40

    code, out, err = start(broken, *SETTINGS).signal_when(lambda: steps(broken)[-1] > killed_at, signal.SIGINT)
    assert code == 130 and "interrupted" in err and f"restored from step {killed_at}" in out
    interrupted_at = steps(broken)[-1]

    code, out, err = start(broken, *SETTINGS).signal_when(lambda: steps(broken)[-1] > interrupted_at, signal.SIGTERM)
    stopped_at = steps(broken)[-1]
    assert code == 0 and f"stopped as asked after step {stopped_at}" in out, err

    (broken / "profile_now").touch()  # a trace is asked for
    code, out, err = run(broken, *SETTINGS)
    assert code == 0 and f"restored from step {stopped_at}" in out, err
    summary = next(line for line in out.splitlines() if line.startswith("goodput "))
    assert "profile: steps " in out and list(broken.glob("profile/plugins/profile/step_*/process_0.xplane.pb"))
    assert lines(broken) == lines(whole)
    expected = parameters(whole, 40)
    for name, values in parameters(broken, 40).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)

    code, out, _ = run(broken, *SETTINGS)  # there is nothing left to do
    assert code == 0 and "done after step 40" in out
    starts = [Start.from_line(line) for line in (broken / GOODPUT_FILE).read_text().splitlines()]
    assert [start.first_step for start in starts] == [0, killed_at, interrupted_at, stopped_at]
    assert [start.finished for start in starts] == [False, False, False, True] and starts[-1].step == 40
    seconds = account(starts)
    assert seconds["compute"] > 0 and seconds["compile"] > 0 and seconds["restore"] > 0 and seconds["down"] > 0
    assert "(4 starts)" in summary


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_names_the_records_and_keeps_the_last_checkpoint(tmp_path):
    code, _, err = run(tmp_path, "training.save_every=1", "data.rows_per_batch=2", "optimizer.learning_rate=1e15",
                       "optimizer.warmup_steps=0")
    assert code == 1 and "Traceback" not in err
    assert "step 2: loss" in err and "not finite" in err
    names = err.split("on this process): ")[1].split(". No checkpoint")[0].split(", ")
    assert len(names) == 4 and all(name.startswith("shapes_train-") for name in names), names
    assert steps(tmp_path) == [1]


@pytest.mark.slow
def test_damaged_records_stop_the_run_or_are_counted(tmp_path):
    short = (*QUICK, "training.steps=8")
    for name in ("strict", "lenient"):
        shard = min((with_shapes(tmp_path / name) / "shapes" / "records").glob("*.tfrecord"))
        data = bytearray(shard.read_bytes())
        for place in range(500, len(data), 1500):
            data[place] ^= 0xFF
        shard.write_bytes(data)

    code, _, err = run(tmp_path / "strict", *short)
    assert code == 1 and "Traceback" not in err
    assert shard.name in err and ": record " in err and "data.on_bad_record=skip" in err
    code, out, err = run(tmp_path / "lenient", *short, "data.on_bad_record=skip")
    assert code == 0, err
    assert "done after step 8" in out and "places were left empty" in out
    assert re.search(rf"left out \S*{re.escape(shard.name)}: record \d+: ", err)


@pytest.mark.slow
def test_a_run_on_eight_devices_repeats_one_on_a_single_device_and_goes_on_there(whole, tmp_path):
    many = tmp_path / "many"
    mesh = ("mesh.data=1", "mesh.fsdp=2", "mesh.seq=2", "mesh.tensor=2")
    code, out, err = run(many, *SETTINGS, *mesh, "training.steps=4", devices=8)
    assert code == 0 and "on 8 x cpu (data 1 x fsdp 2 x seq 2 x tensor 2)" in out, err
    code, out, err = run(many, *SETTINGS, "training.steps=9")
    assert code == 0 and "restored from step 4" in out and "on 1 x cpu" in out, err
    assert [line["step"] for line in lines(many)] == [3, 6, 9]
    for found, expected in zip(lines(many), lines(whole), strict=False):
        assert found["step"] == expected["step"]
        np.testing.assert_allclose(found["loss/total"], expected["loss/total"], rtol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_when_its_records_and_weights_lie_elsewhere_but_not_with_others(whole, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for part in ("base", "records"):
        shutil.copytree(whole / "shapes" / part, here / part)

    def settings(folder, end):
        return (*SETTINGS, f"training.steps={end}", f"model.checkpoint={folder}/base/",
                f"data.records={folder}/records")

    code, _, err = run(tmp_path / "run", *settings(here, 4))
    assert code == 0, err
    here.rename(there)
    code, out, err = run(tmp_path / "run", *settings(f"{there}/../there", 6))
    assert code == 0 and "restored from step 4" in out, err
    assert lines(tmp_path / "run") == lines(whole)[:2]

    path = there / "base" / "ema.safetensors"
    tensors = load_file(path)
    name = max(tensors, key=lambda name: tensors[name].size)
    save_file(tensors | {name: tensors[name] + 1}, path)
    code, _, err = run(tmp_path / "run", *settings(there, 8))
    assert code == 2 and "read.checkpoint_sha256" in err and "read.records" not in err


@pytest.mark.slow
def test_two_runs_cannot_share_a_work_directory_and_a_killed_one_does_not_keep_it(whole, tmp_path):
    workdir = tmp_path / "run"
    first = start(workdir, *SETTINGS)
    first.wait_for(lambda: (workdir / "owner.json").exists())
    first.send_signal(signal.SIGSTOP)  # it cannot end before the other one does
    code, _, err = run(workdir, *SETTINGS)
    assert code == 2 and f"process {first.pid} on " in err and err.count("\n") == 1
    first.send_signal(signal.SIGCONT)
    first.wait_for(lambda: steps(workdir))
    first.kill()
    code, out, err = run(workdir, *SETTINGS, "training.steps=24")
    assert code == 0 and "restored from step" in out, err
    assert lines(workdir) == lines(whole)[:8] and not (workdir / "owner.json").exists()
