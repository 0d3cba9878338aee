"""Features of BLIP3o stored ahead by the real command, and trained on without the tower that made them."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.data.example_proto import decode_record
from srum_jax.data.records_source import RecordsSource
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.overrides import apply_overrides
from srum_jax.training.experiment import Experiment
from srum_jax.training.run import run
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.worlds.shapes.records import write_records
from tests.families.blip3o import tiny_checkpoint
from tests.families.tiny import TINY_BASES
from tools.convert_weights.__main__ import main as convert
from tools.precompute_latents.__main__ import main

ROWS = dataclasses.replace(next(tiny.rows for tiny in TINY_BASES if tiny.family == "blip3o"), readings_per_row=0,
                           reading_capacity=0, reading_windows=0, answer_capacity=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_records(folder / "records", 6, image_size=64, num_shards=2)
    assert main(["--records", str(folder / "records"), "--out", str(folder / "stored"), "--checkpoint",
                 str(tiny_checkpoint.shared()), "--images-per-device", "2"]) == 0
    return folder


def losses(records, workdir, *settings):
    experiment = Experiment("tiny", rows=ROWS)
    experiment = apply_overrides(experiment, [
        f"model.checkpoint={tiny_checkpoint.shared()}", f"data.records={records}", "data.rows_per_batch=8",
        "data.text_dropout=0", "training.steps=3", "training.log_every=1", "optimizer.warmup_steps=1",
        "mesh.fsdp=1", *settings])
    run(experiment, workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss/total"] for line in lines if "loss/total" in line]


def test_every_record_gets_the_features_of_its_picture(folder):
    records, stored = (RecordsSource(folder / name) for name in ("records", "stored"))
    codes = [decode_record(stored.read(place)).code for place in range(len(stored))]
    assert {(code.kind, code.shape, code.image_height, code.dtype) for code in codes} == {
        ("features", (4, 4, 32), 56, "float16")}
    assert {code.encoder_sha256 for code in codes} == {
        encoder_sha256(open_checkpoint(tiny_checkpoint.shared(), BLIP3O, {"eva"}))}
    assert len({code.values for code in codes}) == len(records) == 6


@pytest.mark.slow
def test_training_on_stored_features_is_training_on_pictures_without_the_tower(folder, tmp_path):
    from_pictures = losses(folder / "records", tmp_path / "pictures")
    from_features = losses(folder / "stored", tmp_path / "features", "rows.features=stored")
    assert len(from_pictures) == 3
    np.testing.assert_allclose(from_features, from_pictures, rtol=2e-3)

    # The run never held the tower: an export takes what was not trained from its template.
    exported, published = tmp_path / "exported", tiny_checkpoint.shared()
    assert convert(["export", "--checkpoint", str(tmp_path / "features"), "--template", str(published), "--out",
                    str(exported)]) == 0
    changed = {}
    for file in published.rglob("*.safetensors"):
        before, after = load_file(file), load_file(exported / file.relative_to(published))
        assert before.keys() == after.keys()
        changed |= {name: not np.array_equal(before[name], after[name]) for name in before}
    assert {name for name, differs in changed.items() if differs} <= {
        name for name in changed if name.startswith(("model.dit.", "model.latent_queries"))}
    assert changed["model.latent_queries"] and changed["model.dit.model.norm_out.linear_2.weight"]


def test_records_without_features_are_refused_before_training(folder, tmp_path):
    with pytest.raises(Exception, match=r"code/values.*precompute_latents"):
        losses(folder / "records", tmp_path / "run", "rows.features=stored")
