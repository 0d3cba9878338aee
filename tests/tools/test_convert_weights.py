"""The converter's real commands: round trips, bad input, interruption."""

import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.fingerprint import checkpoint_fingerprint
from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.weights.run_folder import find_step
from tests import commands
from tests.golden import model_cases
from tests.loading import load_bagel
from tests.weights import tiny_checkpoint
from tools.convert_weights import import_
from tools.convert_weights.__main__ import main

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def published(tmp_path):
    return tiny_checkpoint.write(tmp_path / "published")


def run_import(source, out, *options):
    return main(["import", "--source", str(source), "--out", str(out), *options])


def run_export(checkpoint, template, out):
    return main(["export", "--checkpoint", str(checkpoint), "--template", str(template), "--out", str(out)])


def stored(directory):
    return load_file(directory / "ema.safetensors") | load_file(directory / "ae.safetensors")


def assert_equal_bytes(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        found = second[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name


@pytest.mark.parametrize("source", model_cases("bagel"))
def test_golden_weights_come_back_byte_equal_through_the_real_commands(tmp_path, source):
    for options in (
        ["import", "--source", source, "--out", tmp_path / "converted"],
        ["export", "--checkpoint", tmp_path / "converted", "--template", source, "--out", tmp_path / "exported"],
    ):
        code, _, err = commands.run_afresh("tools.convert_weights", *options)
        assert code == 0, err
    assert_equal_bytes(stored(source), stored(tmp_path / "exported"))
    for file in ("ema.safetensors", "ae.safetensors"):  # even order and header are the same
        assert (source / file).read_bytes() == (tmp_path / "exported" / file).read_bytes()


def test_an_export_has_everything_that_the_official_code_loads(tmp_path, published, capsys):
    assert run_import(published, tmp_path / "converted") == 0
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    exported = tmp_path / "exported"
    assert_equal_bytes(stored(published), stored(exported))
    for name in (
        "llm_config.json",
        "vit_config.json",
        "vae_config.json",
        "config.json",
        "vocab.json",
        "merges.txt",
    ):
        assert (exported / name).read_bytes() == (published / name).read_bytes()
    index = json.loads((exported / "model.safetensors.index.json").read_text())
    for file in ("ema.safetensors", "ae.safetensors"):
        with safe_open(exported / file, "numpy") as opened:
            assert set(opened.keys()) == {
                name for name, owner in index["weight_map"].items() if owner == file
            }
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in stored(published).values())
    assert "0 from the template" in capsys.readouterr().out
    assert run_import(exported, tmp_path / "again") == 0
    # BAGEL's code reads the one name; SRUM's scripts read the other, unless BAGEL-7B-MoT is in the path.
    assert (exported / "model.safetensors").samefile(exported / "ema.safetensors")
    for path in (exported, exported / "model.safetensors"):
        assert checkpoint_fingerprint(path, BAGEL) == checkpoint_fingerprint(published, BAGEL)


def test_a_checkpoint_of_float32_exports_the_template_dtypes_exactly(tmp_path, published):
    assert run_import(published, tmp_path / "converted", "--dtype", "float32") == 0
    content = load_file(tmp_path / "converted" / "weights-00001-of-00001.safetensors")
    assert {array.dtype for array in content.values()} == {np.dtype(np.float32)}
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    assert_equal_bytes(stored(published), stored(tmp_path / "exported"))


def test_bfloat16_rounds_to_nearest_even(tmp_path, published):
    assert run_import(published, tmp_path / "converted", "--dtype", "bfloat16") == 0
    content = load_file(tmp_path / "converted" / "weights-00001-of-00001.safetensors")
    wanted = stored(published)["decoder.conv_in.bias"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(content["vae.decoder.conv_in.bias"], wanted)


def test_arrays_are_divided_among_several_files(tmp_path, published, monkeypatch):
    monkeypatch.setattr(import_, "_FILE_BYTES", 20_000)
    assert run_import(published, tmp_path / "converted") == 0
    manifest = json.loads((tmp_path / "converted" / "srum_weights.json").read_text())
    assert len(manifest["files"]) > 5 and set(manifest["tensors"].values()) == set(manifest["files"])
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    assert_equal_bytes(stored(published), stored(tmp_path / "exported"))


def test_blocks_smaller_than_a_tensor_give_the_same_files(tmp_path, published, monkeypatch):
    monkeypatch.setattr("srum_jax.weights.arrays._BLOCK_BYTES", 100)
    assert run_import(published, tmp_path / "converted") == 0
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    assert_equal_bytes(stored(published), stored(tmp_path / "exported"))


def test_a_sharded_template_with_other_file_names_is_exported_under_the_official_names(tmp_path, published):
    content = load_file(published / "ema.safetensors")
    names = sorted(content)
    index_path = published / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    for number, part in enumerate((names[:50], names[50:])):
        save_file({name: content[name] for name in part}, published / f"model-{number}.safetensors")
        index["weight_map"] |= dict.fromkeys(part, f"model-{number}.safetensors")
    (published / "ema.safetensors").unlink()
    index_path.write_text(json.dumps(index))
    assert run_import(published, tmp_path / "converted") == 0
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    assert_equal_bytes(content, load_file(tmp_path / "exported" / "ema.safetensors"))


# --- bad input
# ---------------------------------------------------------------------------------------------------


def missing_tensor(directory):
    content = load_file(directory / "ema.safetensors")
    del content["language_model.model.layers.1.mlp_moe_gen.up_proj.weight"], content["llm2vae.bias"]
    (directory / "model.safetensors.index.json").unlink()
    save_file(content, directory / "ema.safetensors")
    return ["'language_model.model.layers.1.mlp_moe_gen.up_proj.weight' is missing: expected shape (24, 16)",
            "'llm2vae.bias' is missing", "2 problems"]


def extra_tensor(directory):
    content = load_file(directory / "ema.safetensors") | {"surprise.weight": np.zeros(3, np.float32)}
    save_file(content, directory / "ema.safetensors")
    return ["ema.safetensors: tensor 'surprise.weight' is extra (F32 [3])"]


def wrong_shape(directory):
    content = load_file(directory / "ae.safetensors")
    content["encoder.conv_in.weight"] = np.zeros((32, 3, 1, 1), np.float32)
    save_file(content, directory / "ae.safetensors")
    return ["ae.safetensors: tensor 'encoder.conv_in.weight': expected shape (32, 3, 3, 3), found (32, 3, "
            "1, 1)"]


def truncated_file(directory):
    path = directory / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    return ["ema.safetensors", "is truncated: expected", "copy the file again"]


def not_safetensors(directory):
    (directory / "ema.safetensors").write_bytes(pickle.dumps({"weights": list(range(1000))}, protocol=4))
    return ["ema.safetensors: not a safetensors file"]


def only_a_pickle(directory):
    for name in ("ema.safetensors", "model.safetensors.index.json"):
        (directory / name).unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    return ["expected ema.safetensors or model.safetensors", "pytorch_model.bin", "never opened"]


def absent_config(directory):
    (directory / "llm_config.json").unlink()
    return ["llm_config.json (BAGEL)"]


def config_of_another_model(directory):
    (directory / "llm_config.json").write_text(json.dumps(tiny_checkpoint.LLM | {"num_hidden_layers": 2}))
    return ["'language_model.model.layers.2.input_layernorm.weight' is extra (BF16 [16])", "28 problems"]


def layers_of_mixed_dtype(directory):
    content = load_file(directory / "ema.safetensors")
    name = "language_model.model.layers.1.input_layernorm.weight"
    content[name] = content[name].astype(np.float32)
    save_file(content, directory / "ema.safetensors")
    return ["'llm.layers.und.input_norm.scale': expected one dtype", "name the dtype that you want"]


def absent_directory(directory):
    shutil.rmtree(directory)
    return ["published: no such directory"]


DAMAGES = [
    missing_tensor,
    extra_tensor,
    wrong_shape,
    truncated_file,
    not_safetensors,
    only_a_pickle,
    absent_config,
    config_of_another_model,
    layers_of_mixed_dtype,
    absent_directory,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_source_is_refused_with_the_reason_and_leaves_nothing(tmp_path, published, capsys, damage):
    reasons = damage(published)
    before = sorted(tmp_path.iterdir())
    assert run_import(published, tmp_path / "out") == 2
    message = capsys.readouterr().err
    for reason in [*reasons, str(published)]:
        assert reason in message
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, published, capsys, monkeypatch):
    assert run_import(published, tmp_path / "converted") == 0
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    before = sorted(tmp_path.iterdir())
    assert run_import(published, tmp_path / "out") == 2
    assert run_export(tmp_path / "converted", published, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert message.count("not enough disk") == 2 and "found 0.00 GB" in message
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_output_is_refused_and_untouched(tmp_path, published, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("keep")
    assert run_import(published, tmp_path / "out") == 2
    assert run_export(published, published, tmp_path / "out") == 2
    assert capsys.readouterr().err.count("expected a new directory") == 2
    assert (tmp_path / "out" / "precious").read_text() == "keep"


def test_a_remote_output_is_refused(published, capsys):
    assert run_import(published, "gs://bucket/out") == 2
    assert "expected a local directory" in capsys.readouterr().err


def test_a_pickle_beside_the_weights_is_never_opened(tmp_path, published):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for name in ("pytorch_model.bin", "optimizer.pt", "scheduler.pkl"):
        (published / name).write_bytes(pickle.dumps(Bomb()))
    opened = []
    active = [True]

    def audit(event, arguments):
        if active and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(audit)
    assert run_import(published, tmp_path / "out") == 0
    assert run_export(tmp_path / "out", published, tmp_path / "exported") == 0
    active.clear()
    assert any(name.endswith("ema.safetensors") for name in opened)
    assert not [name for name in opened if name.endswith((".bin", ".pt", ".pkl"))]
    assert not (tmp_path / "exploded").exists()
    assert not list((tmp_path / "exported").glob("*.bin"))


def test_wrong_arguments_exit_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["import", "--model", "unheard", "--source", "a", "--out", "b"])
    assert caught.value.code == 2 and "unheard" in capsys.readouterr().err


def test_an_error_while_writing_leaves_nothing(tmp_path, published, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(import_, "write_text", full)
    before = sorted(tmp_path.iterdir())
    assert run_import(published, tmp_path / "out") == 1
    assert "No space left" in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


def test_an_interrupt_leaves_nothing(tmp_path, published, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_, "copy_files", interrupt)
    before = sorted(tmp_path.iterdir())
    assert run_import(published, tmp_path / "out") == 130
    assert sorted(tmp_path.iterdir()) == before


KILLED = """
import sys, time
from srum_jax.weights import safetensors_write
from tools.convert_weights import export, import_
from tools.convert_weights.__main__ import main

def stop(*_):
    print("here", flush=True)
    time.sleep(600)

moment, arguments = sys.argv[1], sys.argv[2:]
if moment == "between_tensors":
    original, calls = safetensors_write.SafetensorsWriter.write, []
    def write(self, *values):
        calls.append(1)
        if len(calls) == 40:
            stop()
        original(self, *values)
    safetensors_write.SafetensorsWriter.write = write
elif moment == "before_the_name":
    safetensors_write.SafetensorsWriter.close = stop
elif moment == "before_the_manifest":
    import_.write_text = export.write_text = stop
main(arguments)
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize("moment", ["between_tensors", "before_the_name", "before_the_manifest"])
def test_a_killed_conversion_leaves_nothing_that_loads(tmp_path, published, command, moment):
    out = tmp_path / "out"
    if command == "import":
        arguments = ["import", "--source", published, "--out", out]
    else:
        assert run_import(published, tmp_path / "converted") == 0
        arguments = ["export", "--checkpoint", tmp_path / "converted", "--template", published, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, moment, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    left = [path for path in tmp_path.iterdir() if "partial" in path.name]
    assert len(left) == 1
    if command == "import":
        for path in (out, *left):
            with pytest.raises(ValueError):
                load_bagel(path)
    elif moment != "before_the_manifest":
        with pytest.raises(ValueError):
            load_bagel(left[0])
    assert main(list(map(str, arguments))) == 0  # and the next attempt is not in the way of the last
    load_bagel(out)


# --- training checkpoints
# ----------------------------------------------------------------------------------------


def save_training(workdir, params, step=7):
    with ocp.training.Checkpointer(workdir / "checkpoints") as checkpointer:
        checkpointer.save_checkpointables(step, {"params": params, "meta": {"step": step}})


def trained_params(source, keep, change=1.0):
    """Nested parameters in float32 of all paths that `keep` accepts, moved away from the source's values."""
    state = load_bagel(source)[2]
    nested = {}
    for path, variable in nnx.to_flat_state(state):
        if keep(dotted(path)):
            node = nested
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = variable.get_value() + change
    return nested


def is_generation_side(path):
    return path.startswith(("llm.", "time_embedder.", "vae2llm.", "llm2vae."))


def test_a_training_checkpoint_is_completed_from_the_template(tmp_path, published, capsys):
    save_training(tmp_path / "workdir", trained_params(published, is_generation_side))
    for number, checkpoint in enumerate(("workdir", "workdir/checkpoints", "workdir/checkpoints/7")):
        assert run_export(tmp_path / checkpoint, published, tmp_path / f"exported{number}") == 0
    printed = capsys.readouterr().out
    for line in ("vit: ", "connector: 4 tensors", "vit_pos_embed: 1 tensor\n", "latent_pos_embed: 1 "
                                                                               "tensor\n", "vae: "):
        assert f"\n  {line}" in printed
    original, found = stored(published), stored(tmp_path / "exported0")
    assert_equal_bytes(found, stored(tmp_path / "exported2"))
    for name, array in original.items():
        trained = name.startswith(("language_model.", "time_embedder.", "vae2llm.", "llm2vae."))
        wanted = (array.astype(np.float32) + 1).astype(array.dtype) if trained else array
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)
    report = json.loads((tmp_path / "exported0" / "export_report.json").read_text())
    assert report["tensors_from_template"]["connector"] == 4
    assert run_import(tmp_path / "exported0", tmp_path / "again") == 0


def test_a_partly_trained_model_says_which_groups_came_from_the_template(tmp_path, published, capsys):
    save_training(
        tmp_path / "workdir", trained_params(published, lambda path: path.startswith("llm.layers.gen."))
    )
    assert run_export(tmp_path / "workdir", published, tmp_path / "exported") == 0
    printed = capsys.readouterr().out
    assert "llm.layers.und: 42 tensors" in printed and "llm.layers.gen" not in printed
    assert "llm.embed: 1 tensor\n" in printed


def test_the_latest_finished_step_is_exported(tmp_path, published):
    for step, change in ((9, 1.0), (10, 2.0)):
        save_training(tmp_path / "workdir", trained_params(published, is_generation_side, change), step)
    shutil.copytree(
        tmp_path / "workdir/checkpoints/9", tmp_path / "workdir/checkpoints/11.orbax-checkpoint-tmp"
    )
    (tmp_path / "workdir/checkpoints/12").mkdir()
    assert find_step(tmp_path / "workdir").name == "10"


def test_in_a_bucket_a_step_that_is_still_being_written_is_not_taken(tmp_path, published, monkeypatch):
    for step in (9, 10):
        save_training(tmp_path / "workdir", trained_params(published, is_generation_side), step)
    (tmp_path / "workdir/checkpoints/10/commit_success.txt").unlink()
    assert find_step(tmp_path / "workdir").name == "10", "a local step is renamed when it is complete"
    monkeypatch.setattr("srum_jax.weights.run_folder.is_local", lambda path: False)
    assert find_step(tmp_path / "workdir").name == "9"
    assert find_step(tmp_path / "workdir/checkpoints/10") is None


def test_chunks_of_a_training_checkpoint_are_read_once_whatever_their_shape(tmp_path, published, monkeypatch):
    params = trained_params(published, is_generation_side)
    saving = ocp.options.ArrayOptions.Saving(
        storage_options=ocp.options.ArrayOptions.Saving.StorageOptions(chunk_byte_size=400))
    with ocp.Context(array_options=ocp.options.ArrayOptions(saving=saving)):
        save_training(tmp_path / "workdir", params)
    monkeypatch.setattr("srum_jax.weights.orbax_params._BOX_BYTES", 1000)
    arrays = OrbaxArrays(tmp_path / "workdir/checkpoints/7")
    boxes = list(arrays.boxes("llm.layers.gen.gate.kernel"))
    assert len(boxes) > 3
    covered = np.zeros((3, 16, 24), int)
    for box in boxes:
        covered[box] += 1
    assert (covered == 1).all()
    assert run_export(tmp_path / "workdir", published, tmp_path / "exported") == 0
    gate = stored(tmp_path / "exported")["language_model.model.layers.2.mlp_moe_gen.gate_proj.weight"]
    wanted = np.asarray(params["llm"]["layers"]["gen"]["gate"]["kernel"])[2].T.astype(gate.dtype)
    np.testing.assert_array_equal(gate, wanted)


def test_an_unfinished_or_foreign_checkpoint_is_refused(tmp_path, published, capsys):
    (tmp_path / "empty" / "checkpoints" / "3").mkdir(parents=True)
    assert run_export(tmp_path / "empty", published, tmp_path / "out") == 2
    assert "found none of these" in capsys.readouterr().err
    save_training(
        tmp_path / "other", {"llm": {"embed": {"embedding": jnp.zeros((4, 4))}}, "ghost": jnp.zeros(3)}
    )
    assert run_export(tmp_path / "other", published, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "array 'llm.embed.embedding': expected shape (32, 16) as in the template, found (4, 4)" in message
    assert "array 'ghost' (3,): expected no such array" in message and "2 problems" in message
    assert not (tmp_path / "out").exists()


def test_a_damaged_training_checkpoint_is_refused(tmp_path, published, capsys):
    save_training(tmp_path / "workdir", trained_params(published, is_generation_side))
    metadata = tmp_path / "workdir/checkpoints/7/params/_METADATA"
    metadata.write_text("{}")
    assert run_export(tmp_path / "workdir", published, tmp_path / "out") == 2
    assert "field 'tree_metadata'" in capsys.readouterr().err


def test_lost_or_cut_off_values_of_a_training_checkpoint_are_noticed(tmp_path, published, capsys):
    save_training(tmp_path / "workdir", trained_params(published, is_generation_side))
    for path in (tmp_path / "workdir/checkpoints/7/params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = sorted(tmp_path.iterdir())
    assert run_export(tmp_path / "workdir", published, tmp_path / "out") == 2
    assert "use another step" in capsys.readouterr().err
    for path in (tmp_path / "workdir/checkpoints/7/params").rglob("d/*"):
        path.unlink()
    assert run_export(tmp_path / "workdir", published, tmp_path / "out") == 2
    assert "use another step" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_chunk_that_was_never_stored_is_not_taken_for_zeros(tmp_path):
    saving = ocp.options.ArrayOptions.Saving(use_ocdbt=False, use_zarr3=True)
    with ocp.Context(array_options=ocp.options.ArrayOptions(saving=saving)):
        save_training(tmp_path / "workdir", {"a": jnp.ones((4, 4))})
    arrays = OrbaxArrays(tmp_path / "workdir/checkpoints/7")
    np.testing.assert_array_equal(arrays.read("a"), np.ones((4, 4)))
    chunks = [path for path in (tmp_path / "workdir/checkpoints/7/params/a").rglob("*")
              if path.is_file() and path.name != "zarr.json"]
    assert len(chunks) == 1
    chunks[0].unlink()
    with pytest.raises(WeightsError, match="array 'a': cannot be read"):
        arrays.read("a")


def test_a_converted_checkpoint_without_vision_tower_is_completed(tmp_path, published, capsys):
    assert run_import(published, tmp_path / "converted", "--without", "vit", "--without", "vae") == 0
    assert "the model is built without its vision tower" in capsys.readouterr().out
    assert run_export(tmp_path / "converted", published, tmp_path / "exported") == 0
    assert "connector: 4 tensors" in capsys.readouterr().out
    assert_equal_bytes(stored(published), stored(tmp_path / "exported"))


def test_a_part_that_the_model_has_not_is_refused_with_those_it_has(tmp_path, published, capsys):
    assert run_import(published, tmp_path / "converted", "--without", "tower") == 2
    message = capsys.readouterr().err
    assert all(part in message for part in ("tower", *BAGEL.parts))


def test_a_polite_kill_leaves_nothing(tmp_path, published, capsys, monkeypatch):
    monkeypatch.setattr(import_, "copy_files", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert run_import(published, tmp_path / "out") == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
