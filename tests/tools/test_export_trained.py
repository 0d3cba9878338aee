"""Export of training runs that keep an average of their weights, or train low-rank factors."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.models.layers.sincos_table import sincos_table
from srum_jax.overrides import to_json
from srum_jax.training.checkpoint import Checkpoints
from srum_jax.training.config import LoraConfig, ModelSource
from srum_jax.training.experiment import Experiment
from srum_jax.training.state import TrainState, load_model
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.fingerprint import checkpoint_fingerprint
from srum_jax.weights.merged import MergedArrays, factored_maps
from srum_jax.weights.orbax_params import OrbaxArrays
from srum_jax.weights.run_folder import find_step
from srum_jax.worlds.shapes.bases.bagel import write_base
from tests.loading import load_bagel
from tests.models.packs import mesh_of, random_batch
from tests.weights import tiny_checkpoint
from tools.convert_weights.__main__ import main

LORA = LoraConfig(rank=3, alpha=4.5, targets=("*",))
RAW, EMA = 1, 2  # seeds of what a step holds
QUERY = "language_model.model.layers.2.self_attn.q_proj_moe_gen"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny_checkpoint.write(tmp_path_factory.mktemp("published") / "tiny")


def source(checkpoint, lora):
    return ModelSource(str(checkpoint), trainable=("llm.layers.gen.*",), lora=lora)


def trained(model, seed):
    """Random values in the place of everything that is trained."""
    flat = nnx.to_flat_state(model.trained)
    keys = jax.random.split(jax.random.key(seed), len(flat))
    return nnx.from_flat_state([
        (path, variable.replace(0.1 * jax.random.normal(key, variable.get_value().shape)))
        for key, (path, variable) in zip(keys, flat, strict=True)])


def save_run(workdir, checkpoint, lora, *, with_ema=False, settings=None):
    """A finished step as the training loop leaves it; returns the loaded model."""
    model = load_model(source(checkpoint, lora), mesh_of(1, 1, 1, 1), "float32")
    state = TrainState(jnp.asarray(4), trained(model, RAW), {"count": jnp.zeros(())},
                       trained(model, EMA) if with_ema else None)
    experiment = to_json(Experiment("x", model=source(checkpoint, lora))) if settings is None else settings
    with Checkpoints(workdir / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(4, state, {}, experiment)
    return model


def note_start(workdir, start):
    """As `python -m srum_jax.train` notes what it reads."""
    noted = {"model": {"checkpoint": str(start)}, "read": {"checkpoint_sha256": checkpoint_fingerprint(start, BAGEL)}}
    (workdir / "config.json").write_text(json.dumps(noted))


def run_export(workdir, template, out, *options):
    return main(["export", "--checkpoint", str(workdir), "--template", str(template), "--out", str(out), *options])


def factors_of(model, seed, path):
    values = {dotted(name): np.asarray(variable[...], np.float64)
              for name, variable in nnx.to_flat_state(trained(model, seed))}
    return values[f"{path}.lora_a"], values[f"{path}.lora_b"]


@pytest.mark.slow
def test_the_average_is_exported_if_there_is_one_and_the_newest_weights_if_asked_for(tmp_path, published, capsys):
    model = save_run(tmp_path / "run", published, None, with_ema=True)
    for options, seed in (((), EMA), (("--weights", "ema"), EMA), (("--weights", "raw"), RAW)):
        out = tmp_path / f"out{len(options)}{seed}"
        assert run_export(tmp_path / "run", published, out, *options) == 0
        assert ("averaged weights (ema)" in capsys.readouterr().out) == (seed == EMA)
        assert json.loads((out / "export_report.json").read_text())["weights"] == ("ema" if seed == EMA else "raw")
        stored = load_file(out / "ema.safetensors")[f"{QUERY}.weight"]
        wanted = trained(model, seed).llm.layers.gen.query.kernel[...][2].T
        np.testing.assert_array_equal(stored, np.asarray(wanted).astype(stored.dtype))


@pytest.mark.slow
def test_an_average_that_is_not_there_is_an_error(tmp_path, published, capsys):
    save_run(tmp_path / "run", published, None)
    assert run_export(tmp_path / "run", published, tmp_path / "out", "--weights", "ema") == 2
    assert "holds no average of the weights: the run was trained without ema" in capsys.readouterr().err
    assert main(["import", "--model", "bagel", "--source", str(published), "--out", str(tmp_path / "conv")]) == 0
    assert run_export(tmp_path / "conv", published, tmp_path / "out", "--weights", "ema") == 2
    assert "converted weights, which have no average" in capsys.readouterr().err
    assert run_export(tmp_path / "conv", published, tmp_path / "out", "--adapter") == 2
    assert "expected low-rank factors of a run with model.lora" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--weights", "raw")], ids=["ema", "raw"])
def test_factors_are_merged_in_float32_and_everything_else_is_the_templates(tmp_path, published, capsys, options):
    model = save_run(tmp_path / "run", published, LORA, with_ema=True)
    assert run_export(tmp_path / "run", published, tmp_path / "out", *options) == 0
    assert "LoRA: low-rank factors merged" in capsys.readouterr().out
    before, after = load_file(published / "ema.safetensors"), load_file(tmp_path / "out" / "ema.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {name for name in before if name.endswith(".weight") and "norm" not in name
                       and ("_moe_gen" in name or name.startswith(("vae2llm", "llm2vae", "time_embedder")))}
    seed = RAW if options else EMA
    for name, path, layer in ((f"{QUERY}.weight", "llm.layers.gen.query", 2),
                              ("language_model.model.layers.0.mlp_moe_gen.down_proj.weight", "llm.layers.gen.down", 0),
                              ("time_embedder.mlp.2.weight", "time_embedder.fc2", ...)):
        a, b = factors_of(model, seed, path)
        exact = before[name].astype(np.float64) + 1.5 * (a[layer] @ b[layer]).T
        assert after[name].dtype == before[name].dtype and after[name].dtype.itemsize == 2
        np.testing.assert_allclose(after[name].astype(np.float64), exact, rtol=2**-8, atol=1e-6)
        nearest = exact.astype(np.float32).astype(after[name].dtype)
        assert np.mean(nearest == after[name]) > 0.99, "rounded once"


def test_regions_of_merged_kernels_are_those_of_the_whole(tmp_path, published):
    save_run(tmp_path / "run", published, LORA)
    factors = OrbaxArrays(find_step(tmp_path / "run"))
    assert factored_maps(factors)
    base = open_checkpoint(published, BAGEL).published
    merged = MergedArrays(base, factors, 1.5, BAGEL.table)
    for path, region in (("llm.layers.gen.gate.kernel", (slice(1, 3), slice(2, 9), slice(5, 20))),
                         ("llm2vae.kernel", (slice(3, 16), slice(0, 4)))):
        whole = merged.read(path)
        assert whole.shape == merged.shapes[path] == base.shapes[path] and whole.dtype == np.float32
        np.testing.assert_allclose(merged.read(path, region), whole[region], rtol=0, atol=1e-6)
        boxes = list(merged.boxes(path))
        np.testing.assert_allclose(np.concatenate([merged.read(path, box) for box in boxes]), whole, rtol=0, atol=1e-6)
        assert len(boxes) == (3 if "layers" in path else 1)


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "expected model.lora, since the step holds low-rank factors"),
    ({"model": {"lora": {"rank": "three"}}}, "found {'model': {'lora': {'rank': 'three'}}}"),
])
def test_a_step_whose_settings_do_not_say_how_to_merge_is_refused(tmp_path, published, capsys, settings, message):
    save_run(tmp_path / "run", published, LORA, settings=settings)
    assert run_export(tmp_path / "run", published, tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_another_models_factors_are_refused(tmp_path, published, capsys):
    write_base(tmp_path / "other")
    save_run(tmp_path / "run", published, LoraConfig(rank=2, targets=("gate",)))
    for options in ((), ("--adapter",)):
        assert run_export(tmp_path / "run", tmp_path / "other", tmp_path / "out", *options) == 2
        assert "array 'llm.layers.gen.gate.kernel': expected shape" in capsys.readouterr().err


@pytest.fixture
def run_of_save(tmp_path, published):
    """A run that started from another checkpoint than `published`, of the same shapes: its directory, and the start."""
    save = tiny_checkpoint.write(tmp_path / "save", seed=7)
    save_run(tmp_path / "run", save, None)
    note_start(tmp_path / "run", save)
    return tmp_path / "run", save


@pytest.mark.parametrize("moved", [False, True])
def test_a_template_that_a_run_did_not_start_from_is_refused(tmp_path, published, run_of_save, capsys, moved):
    run, save = run_of_save
    if moved:
        save = save.rename(tmp_path / "elsewhere")
    assert run_export(run, published, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert str(published) in said and str(tmp_path / "save") in said and not (tmp_path / "out").exists()
    assert run_export(run, save, tmp_path / "out") == 0, "its own start, wherever it lies"


def test_low_rank_factors_are_not_merged_into_other_weights_than_their_own(tmp_path, published, capsys):
    save = tiny_checkpoint.write(tmp_path / "save", seed=7)
    save_run(tmp_path / "run", save, LORA)
    note_start(tmp_path / "run", save)
    for options in ((), ("--adapter",)):
        assert run_export(tmp_path / "run", published, tmp_path / "out", *options) == 2
        assert str(save) in capsys.readouterr().err


def test_a_template_may_be_the_start_filled_up_or_what_it_was_converted_from(tmp_path, published, run_of_save):
    run, save = run_of_save
    content = load_file(save / "ema.safetensors")
    blind = {name: values for name, values in content.items() if BAGEL.part_of(name) != "vit"}
    base = load_file(published / "ema.safetensors")
    save_file(blind, save / "ema.safetensors")
    note_start(run, save)
    filled = shutil.copytree(save, tmp_path / "filled")
    save_file(base | blind, filled / "ema.safetensors")
    assert run_export(run, filled, tmp_path / "out") == 0
    assert main(["import", "--source", str(filled), "--out", str(tmp_path / "converted"), "--dtype", "float32"]) == 0
    note_start(run, tmp_path / "converted")
    assert run_export(run, filled, tmp_path / "again") == 0
    written = [load_file(tmp_path / name / "ema.safetensors") for name in ("out", "again")]
    for name, values in written[0].items():
        np.testing.assert_array_equal(values, written[1][name])
        if "vit" in name:
            np.testing.assert_array_equal(values, base[name])
    assert run_export(run, published, tmp_path / "mixed") == 2


@pytest.mark.slow
def test_a_save_without_vision_tower_is_filled_up_as_the_page_says_and_then_is_a_template(tmp_path, published, capsys):
    save = tiny_checkpoint.write(tmp_path / "save", seed=7)
    content = load_file(save / "ema.safetensors")
    save_file({name: values.astype(np.float32) for name, values in content.items() if BAGEL.part_of(name) != "vit"},
              save / "ema.safetensors")
    save_run(tmp_path / "run", save, None)
    note_start(tmp_path / "run", save)
    assert run_export(tmp_path / "run", save, tmp_path / "out") == 2
    assert "fill these weights up with it first" in capsys.readouterr().err
    assert run_export(tmp_path / "run", published, tmp_path / "out") == 2
    assert f"--template {save}; if it lacks a part, fill it up first" in capsys.readouterr().err
    assert main(["import", "--source", str(save), "--out", str(tmp_path / "converted"), "--without", "vit"]) == 0
    assert run_export(tmp_path / "converted", published, tmp_path / "filled") == 0
    assert run_export(tmp_path / "run", tmp_path / "filled", tmp_path / "out") == 0
    base, found = load_file(published / "ema.safetensors"), load_file(tmp_path / "out" / "ema.safetensors")
    for name, values in found.items():
        if "_moe_gen" not in name:
            np.testing.assert_array_equal(values, (base if BAGEL.part_of(name) == "vit" else content)[name])


def test_a_step_of_an_unknown_start_is_exported_with_a_warning(tmp_path, published, run_of_save, caplog):
    run, _ = run_of_save
    (run / "config.json").unlink()
    assert run_export(run, published, tmp_path / "out") == 0
    warned, = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "read.checkpoint_sha256" in warned and str(published) in warned


@pytest.mark.parametrize("checkpoint", ["run", "converted"])
def test_position_tables_that_a_template_lacks_are_written(tmp_path, published, capsys, checkpoint):
    bare = shutil.copytree(published, tmp_path / "bare")
    content = load_file(published / "ema.safetensors")
    tables = {name for name in content if name.endswith("pos_embed.pos_embed")}
    save_file({name: values for name, values in content.items() if name not in tables}, bare / "ema.safetensors")
    save_run(tmp_path / "run", bare, None)
    assert main(["import", "--source", str(bare), "--out", str(tmp_path / "converted")]) == 0
    assert run_export(tmp_path / checkpoint, bare, tmp_path / "out") == 0
    written = load_file(tmp_path / "out" / "ema.safetensors")
    assert len(tables) == 2 and written.keys() == content.keys()
    printed = capsys.readouterr().out
    for name, side in (("latent_pos_embed.pos_embed", 4), ("vit_pos_embed.pos_embed", 2)):
        np.testing.assert_array_equal(written[name], sincos_table(16, side).astype(written[name].dtype))
        assert written[name].shape == content[name].shape and written[name].dtype == content[name].dtype
        assert (f"computed {name}: neither" in printed) == (checkpoint == "run")


def test_a_published_checkpoint_is_no_checkpoint_to_export_and_is_to_be_imported_first(tmp_path, published, capsys):
    assert run_export(published, published, tmp_path / "out") == 2
    assert f"import it first (python -m tools.convert_weights import --source {published}" in capsys.readouterr().err


def test_an_adapter_has_the_modules_of_the_official_model(tmp_path, published):
    model = save_run(tmp_path / "run", published, LORA)
    assert run_export(tmp_path / "run", published, tmp_path / "adapter", "--adapter") == 0
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 3, 4.5)
    modules = {name.removesuffix(".weight") for name in load_file(published / "ema.safetensors")}
    assert set(settings["target_modules"]) <= modules and len(settings["target_modules"]) == 3 * 7 + 4
    assert len(tensors) == 2 * len(settings["target_modules"])
    a, b = factors_of(model, RAW, "llm.layers.gen.query")
    for factor, values in (("A", a[2].T), ("B", b[2].T)):
        stored = tensors[f"base_model.model.{QUERY}.lora_{factor}.weight"]
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored, values)


def test_the_next_run_cannot_begin_with_what_was_not_exported_and_is_told_what_to_do(tmp_path, published):
    save_run(tmp_path / "run", published, LORA)
    assert run_export(tmp_path / "run", published, tmp_path / "adapter", "--adapter") == 0
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoints" / "4"):
        with pytest.raises(WeightsError, match=f"a training run: export .* --checkpoint {path} --template"):
            load_model(source(path, LORA), mesh_of(1, 1, 1, 1), "float32")
    with pytest.raises(WeightsError, match="a LoRA adapter without its model: export the run without --adapter"):
        load_model(source(tmp_path / "adapter", LORA), mesh_of(1, 1, 1, 1), "float32")


def test_peft_adds_the_adapter_to_a_torch_model(tmp_path, published):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    model = save_run(tmp_path / "run", published, LORA)
    assert run_export(tmp_path / "run", published, tmp_path / "adapter", "--adapter") == 0
    torch_model = torch.nn.Module()
    for name, values in load_file(published / "ema.safetensors").items():
        *parents, last = name.removesuffix(".weight").split(".")
        if name.endswith(".weight") and values.ndim == 2:
            node = torch_model
            for part in parents:
                if not hasattr(node, part):
                    node.add_module(part, torch.nn.Module())
                node = getattr(node, part)
            node.add_module(last, torch.nn.Linear(values.shape[1], values.shape[0], bias=False))
    adapted = peft.PeftModel.from_pretrained(torch_model, tmp_path / "adapter")
    for path, name in (("llm.layers.gen.query", QUERY), ("time_embedder.fc2", "time_embedder.mlp.2")):
        a, b = (factor[2] if factor.ndim == 3 else factor for factor in factors_of(model, RAW, path))
        delta = adapted.base_model.model.get_submodule(name).get_delta_weight("default")
        np.testing.assert_allclose(delta.detach().numpy(), (1.5 * a @ b).T, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_merged_export_of_the_tiny_base_draws_what_the_factored_model_draws(tmp_path):
    base = write_base(tmp_path / "base")
    model = save_run(tmp_path / "run", base, LORA)
    assert run_export(tmp_path / "run", base, tmp_path / "exported") == 0
    _, graphdef, merged = load_bagel(tmp_path / "exported", {"vae"})
    batch = random_batch(dataclasses.replace(model.config, vit=None), rows=2)
    noisy = jax.random.normal(jax.random.key(5), (2, 16, model.config.latent_values))

    def velocity(graphdef, *states):
        run = jax.jit(lambda states: nnx.merge(graphdef, *states)(
            batch, noisy, jnp.full((2, 16), 0.4), ComputeConfig(dtype="float32", attention="dense")).velocity)
        return np.asarray(run(states))

    found, expected = velocity(graphdef, merged), velocity(model.graphdef, trained(model, RAW), model.frozen)
    assert np.abs(expected).max() > 0.1, "llm2vae of the base is zero: only its factors draw"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
