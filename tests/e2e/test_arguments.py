"""What the training command says to arguments and directories that it cannot use."""

import dataclasses
import json
import socket

import pytest

from srum_jax import train
from srum_jax.experiment import load_recipe
from srum_jax.overrides import apply_overrides, to_json
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.records import write_records
from tests import commands
from tests.faulty_bucket import ROOT
from tests.storage.owners import holder


@pytest.fixture
def command(capsys, tmp_path):
    def call(*arguments, workdir=tmp_path / "run"):
        code = train.main([*arguments, "--workdir", str(workdir)])
        return code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment=tny"], "no such experiment; the nearest is tiny"),
        (["--experiment=absent.py"], "absent.py: no such file"),
        (["--experiment=tiny", "--set", "seed=-1"], "seed: expected a number from 0 to 4294967295, found -1"),
        (["--experiment=tiny", "--set", "model.checkpoint=/absent"], "/absent: no such file"),
        (["--experiment=tiny", "--set", "training.stps=3"], "no such setting; the nearest is training.steps"),
        (["--experiment=tiny", "--set", "training.steps=many"], "training.steps: expected int, found 'many'"),
        (["--experiment=tiny", "--set", "training.steps=0"], "training.steps: expected a positive number, found 0"),
        (["--experiment=tiny", "--set", "compute.dtype=float16"], "compute.dtype: expected one of float32, bfloat16"),
        (["--experiment=tiny", "--set", "mesh.data=3"], "cannot be laid over"),
        (["--experiment=bagel_cot", "--set", "mesh.fsdp=5"], "cannot be laid over 8 devices"),
        *((["--experiment=bagel_cot", "--set", "mesh.fsdp=1", "--set", f"compute.attention={kernel}"],
           f"compute.attention: '{kernel}' {problem}")
          for kernel, problem in (("splash", "is a TPU kernel, found devices of platform cpu; use auto"),
                                  ("cudnn", "cannot be used: it is a kernel of NVIDIA GPUs, found"))),
        (["--experiment=bagel_cot", "--set", "mesh.fsdp=1"],
         "model.checkpoint: expected the directory of a checkpoint"),
        (["--experiment=tiny", "--set", "data.rows_per_batch=12"], "data.rows_per_batch: expected a multiple of 8"),
        (["--experiment=tiny", "--set", "mesh.seq=8", "--set", "rows.text_capacity=90"],
         "rows.text_capacity: expected a multiple of seq = 8 of the mesh, found 90"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_with_exit_code_2(command, monkeypatch, arguments, message, tmp_path):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    code, err = command(*arguments, workdir=tmp_path / "a" / "b")
    assert code == 2 and message in err and "Traceback" not in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "a").exists(), "a refused command leaves no trace"


@pytest.mark.parametrize("there", [False, True])
def test_what_was_made_for_a_run_that_is_refused_is_taken_back(command, monkeypatch, tiny_base, tmp_path, there):
    def prepare(experiment, workdir):
        (workdir / "made").mkdir()
        (workdir / "made" / "file").touch()
        model = dataclasses.replace(experiment.model, checkpoint=str(tiny_base))
        return dataclasses.replace(experiment, model=model)

    monkeypatch.setattr("experiments.tiny.prepare", prepare)
    if there:
        (tmp_path / "run" / "mine").mkdir(parents=True)
    code, err = command("--experiment=tiny", "--set", "model.trainable=absent.*")
    assert code == 2 and "absent.*" in err
    assert [path.name for path in tmp_path.rglob("*")] == (["run", "mine"] if there else [])


def test_pictures_that_the_model_has_no_positions_for_are_refused_before_anything_is_written(command, monkeypatch,
                                                                                             tmp_path):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    write_records(tmp_path / "records", 4, 0, wrong_share=0.0)
    code, err = command("--experiment=tiny", f"--set=model.checkpoint={trained_base()}",
                        f"--set=data.records={tmp_path / 'records'}")
    assert code == 2 and err.count("\n") == 1
    assert "rows.max_size: expected at most the 48 pixels that the model has positions for, found 64" in err
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


def begun(workdir, **changes):
    """A work directory that a run of the tiny experiment has begun."""
    workdir.mkdir(parents=True)
    settings = to_json(load_recipe("tiny").experiment) | {"read": {"checkpoint_sha256": "0", "records": []}} | changes
    (workdir / "config.json").write_text(json.dumps(settings))


def test_a_work_directory_of_another_run_is_refused_with_the_differences(command, monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    begun(tmp_path / "run")
    code, err = command("--experiment=tiny", "--set", "optimizer.learning_rate=0.5", "--set", "seed=3")
    assert code == 2 and "begun with something else" in err
    assert "optimizer.learning_rate: the folder 0.001, this command 0.5" in err
    assert "seed: the folder 0, this command 3" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    may_change = ("training.steps=7", "mesh.tensor=2", "data.prefetch=9", "model.checkpoint=/a", "data.records=/b")
    code, err = command("--experiment=tiny", *(f"--set={setting}" for setting in may_change))
    assert code == 2 and "/a: no such" in err, "these settings may change"


def test_a_work_directory_begun_with_other_weights_or_records_is_refused(command, monkeypatch, tiny_base, tmp_path):
    records = tmp_path / "records"
    write_records(records, 4, 0, wrong_share=0.0)
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    begun(tmp_path / "run")
    code, err = command("--experiment=tiny", f"--set=model.checkpoint={tiny_base}", f"--set=data.records={records}")
    assert code == 2 and "read.checkpoint_sha256: the folder \"0\"" in err and "read.records: the folder []" in err


def test_a_run_that_another_version_began_is_refused_in_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    begun(tmp_path / "run", later=1)
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    del settings["data"]["text_dropout"], settings["ema"]
    path.write_text(json.dumps(settings))
    code, err = command("--experiment=tiny")
    assert code == 2 and "another version" in err and "ema, later, data.text_dropout" in err and err.count("\n") == 1


def test_a_work_directory_that_another_run_is_in_is_refused(tmp_path):
    with holder(tmp_path / "run") as process:
        done = commands.run("srum_jax.train", "--experiment=tiny", "--workdir", tmp_path / "run")
        assert done.code == 2 and done.err.count("\n") == 1
        assert f"process {process.pid} on {socket.gethostname()}" in done.err
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["owner.json"]


def test_a_tilde_stands_for_the_users_folder_wherever_a_path_is_given(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from experiments.tiny import experiment\n")
    for settings in (["model.checkpoint=~/weights"], [f"model.checkpoint={tmp_path}", "data.records=~/weights"],
                     [f"model.checkpoint={tmp_path}", 'data.records=[["~/weights", 1]]']):
        chosen = apply_overrides(load_recipe("~/mine.py").experiment, settings)
        assert f'"{tmp_path}/weights"' in json.dumps(to_json(chosen)), settings
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    code, err = command("--experiment=~/mine.py", workdir="~/run")
    assert code == 2 and f"{tmp_path}/run/config.json: not valid JSON" in err
    assert not (tmp_path / "~").exists()


def test_a_settings_file_that_is_damaged_is_named(command, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    code, err = command("--experiment=tiny")
    assert code == 2 and "config.json: not valid JSON" in err


def test_a_work_directory_that_cannot_be_made_is_an_error(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, err = command("--experiment=tiny", workdir=tmp_path / "file" / "run")
    assert code == 2 and "cannot be made" in err


def test_records_that_are_absent_are_an_error_with_exit_code_2(command, monkeypatch, tiny_base, tmp_path):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    code, err = command("--experiment=tiny", "--set", f"model.checkpoint={tiny_base}",
                        "--set", f"data.records={tmp_path / 'nowhere'}")
    assert code == 2 and "nowhere" in err and "Traceback" not in err


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("what", ["work directory", pytest.param("records", marks=pytest.mark.slow)])
def test_a_bucket_that_refuses_is_an_error_that_names_the_role_with_exit_code_2(command, monkeypatch, tiny_base, faulty,
                                                                               code, what):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    faulty.code = code
    if what == "records":
        found, err = command("--experiment=tiny", "--set", f"model.checkpoint={tiny_base}",
                             "--set", f"data.records={ROOT}")
        assert "roles/storage.objectViewer" in err
    else:
        found, err = command("--experiment=tiny", workdir=ROOT)
        assert "roles/storage.objectAdmin" in err
    assert found == 2 and err.startswith("error: ") and "storage.objects.get access" in err and "Traceback" not in err


@pytest.mark.parametrize("what", ["work directory", "model", pytest.param("records", marks=pytest.mark.slow)])
def test_a_bucket_that_does_not_answer_is_an_error_that_another_start_may_mend(command, monkeypatch, tiny_base, faulty,
                                                                              what):
    monkeypatch.setattr("experiments.tiny.prepare", lambda experiment, workdir: experiment)
    faulty.code = 503
    settings = {"work directory": [], "model": ["--set", f"model.checkpoint={ROOT}"],
                "records": ["--set", f"model.checkpoint={tiny_base}", "--set", f"data.records={ROOT}"]}[what]
    found, err = command("--experiment=tiny", *settings, **({"workdir": ROOT} if what == "work directory" else {}))
    assert found == 1 and err.startswith("error: ") and "no backend" in err and "Traceback" not in err


def test_a_file_that_cannot_be_read_is_an_error_and_no_traceback(command, tmp_path):
    (tmp_path / "folder.py").mkdir()
    code, err = command(f"--experiment={tmp_path / 'folder.py'}")
    assert code == 2 and "folder.py: no such file" in err
    (tmp_path / "run" / "config.json").mkdir(parents=True)
    code, err = command("--experiment=tiny")
    assert code == 2 and err.startswith("error: ") and "config.json" in err


def test_records_in_the_work_directory_that_are_not_the_runs_are_an_error_with_exit_code_2(command, tmp_path):
    records = tmp_path / "run" / "shapes" / "records"
    records.mkdir(parents=True)
    (records / "manifest.json").write_text('{"provenance": {}}')
    code, err = command("--experiment=tiny")
    assert code == 2 and "choose another workdir" in err and "Traceback" not in err
    (records / "manifest.json").write_text("[")
    code, err = command("--experiment=tiny")
    assert code == 2 and "manifest.json: not a manifest" in err and "Traceback" not in err


def test_help_shows_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--experiment=tiny" in text and "exit codes" in text and "bagel_lambda_sweep:0.25" in text


def test_an_absent_experiment_is_an_error_of_usage():
    with pytest.raises(SystemExit) as stopped:
        train.main([])
    assert stopped.value.code == 2
