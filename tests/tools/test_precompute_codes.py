"""Codes of Janus-Pro stored ahead by the real command, and trained on without the tokenizer that made them."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from srum_jax.data.example_proto import decode_record
from srum_jax.data.record_reader import picture_of
from srum_jax.data.records_source import RecordsSource
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.vq import from_bytes
from srum_jax.overrides import apply_overrides
from srum_jax.training.experiment import Experiment
from srum_jax.training.run import run
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.weights.load import load
from srum_jax.worlds.shapes.records import write_records
from tests.families.janus_pro import tiny_checkpoint
from tests.families.tiny import TINY_BASES
from tools.precompute_latents.__main__ import main

ROWS = dataclasses.replace(next(tiny.rows for tiny in TINY_BASES if tiny.family == "janus_pro"), readings_per_row=0,
                           reading_capacity=0, answer_capacity=0)
SIDE = tiny_checkpoint.PICTURE_SIDE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    write_records(folder / "records", 5, image_size=64, num_shards=2)
    assert main(["--records", str(folder / "records"), "--out", str(folder / "stored"), "--checkpoint",
                 str(tiny_checkpoint.shared()), "--images-per-device", "2"]) == 0
    return folder


def losses(records, workdir, *settings):
    experiment = apply_overrides(Experiment("tiny", rows=ROWS), [
        f"model.checkpoint={tiny_checkpoint.shared()}", f"data.records={records}", "data.rows_per_batch=8",
        "data.text_dropout=0.3", "training.steps=3", "training.log_every=1", "optimizer.warmup_steps=1",
        "mesh.fsdp=1", *settings])
    run(experiment, workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss/total"] for line in lines if "loss/total" in line]


def test_every_record_gets_the_codes_of_its_picture(folder):
    stored = RecordsSource(folder / "stored")
    opened = open_checkpoint(tiny_checkpoint.shared(), JANUS_PRO)
    model = nnx.merge(*load(opened))
    for place in range(len(stored)):
        record = decode_record(stored.read(place))
        shown = picture_of(record).image().convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        expected = np.asarray(model.vq.encode(from_bytes(jnp.asarray(np.asarray(shown))[None])))[0]
        code = record.code
        assert (code.kind, code.shape, code.image_height, code.dtype) == ("codes", (6, 6), SIDE, "int32")
        assert code.encoder_sha256 == encoder_sha256(opened)
        assert np.mean(code.array.reshape(-1) == expected) > 0.95  # near ties may fall the other way in a batch


@pytest.mark.slow
def test_training_on_stored_codes_is_training_on_pictures_without_the_tokenizer(folder, tmp_path):
    from_pictures = losses(folder / "records", tmp_path / "pictures")
    from_codes = losses(folder / "stored", tmp_path / "codes", "rows.codes=stored")
    assert len(from_pictures) == 3
    np.testing.assert_allclose(from_codes, from_pictures, rtol=5e-3)


def test_records_without_codes_are_refused_before_training(folder, tmp_path):
    with pytest.raises(Exception, match=r"code/values.*precompute_latents"):
        losses(folder / "records", tmp_path / "run", "rows.codes=stored")
