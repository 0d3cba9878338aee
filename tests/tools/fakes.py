"""Folders, pictures, scores, judges and damage for the tests of the stages."""

import hashlib
import io
import json

import numpy as np
from PIL import Image

from srum_jax.data.example_proto import decode_record
from srum_jax.data.manifest import shard_name
from srum_jax.data.records_source import find_records, read_manifest
from srum_jax.data.tfrecord import TFRecordFile
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.generation.prompts import Prompt
from srum_jax.generation.run_file import Run, begin_run
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.inference.requests import GeneratedImage
from srum_jax.rewards.judgement.calls import Reply
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import StageFolder
from tests.generation.fakes import run
from tools.make_rewards import judge as judge_stage
from tools.make_rewards.__main__ import main

SETTINGS = GenerationSettings(height=40, width=48, batch_size=2, sampler=FlowSampler(), output=OutputSettings(2))
PROMPTS = [Prompt(i, "set", str(i), text, "color") for i, text in enumerate(
    ["a red circle left of a square", "two green triangles", "a blue ring", "a cross", "a diamond above a ring"])]


class Painter:
    """Draws one rectangle per picture on a light ground."""

    def generate(self, requests, *, plan):
        return [GeneratedImage(self.draw(request.seed % 7), None) for request in requests]

    def draw(self, number):
        pixels = np.full((40, 48, 3), 235, np.uint8)
        pixels[4 : 14 + number, 6 : 20 + number] = (200, 20, 30 * number)
        return pixels


def generated(out, prompts=PROMPTS):
    """A folder as `generate` leaves it."""
    out.mkdir()
    folder = StageFolder(out, GENERATE, SETTINGS.output.num_shards)
    begin_run(Run(SETTINGS, list(prompts), "0" * 64, {}), folder)
    run(out, list(prompts), SETTINGS, Painter())
    return out


def scores_for(path, prompts=PROMPTS, **changes):
    """A file of scores for every picture."""
    lines = [{"record_id": p.record_id(0), "regions": [{"box": [6, 4, 20, 14], "score": 0.5, "object": "shape"}],
              "global": {"score": 0.8, "reason": "fine"}} | changes for p in prompts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"jsonl:{path}"


def all_stages(out, scores):
    assert main(["segment", "--out", str(out), "--provider", "components"]) in (0, 3)
    assert main(["judge", "--out", str(out), "--judge", scores]) in (0, 3)
    return main(["export", "--out", str(out), "--num-record-shards", "2"])


def exported(out):
    """All records by id."""
    directory = find_records(out)
    manifest = read_manifest(directory)
    records = {}
    for shard in range(manifest.num_shards):
        file = TFRecordFile(directory / shard_name(manifest.name, shard, manifest.num_shards))
        for number in range(len(file)):
            record = decode_record(file[number])
            records[record.record_id] = record
    return records


GOOD = {
    "identify": "REGION 1\nOBJECT: a circle\nKEYWORD: circle\n",
    "local": "REGION 1\nOBJECT: a circle\nKEYWORD: circle\nSCORE: 0.5\nSEVERITY: 0\nREASON: round\n",
    "global": "SCORE: 0.25\nREASON: fine\n",
    "sample": "IMPRESSION: calm\nSCORE: 0.25\nREASON: fine\n",
}


class ScriptedJudge:
    """Answers by the kind of the call; `replies` has texts, or `Reply`s, or functions of the call."""

    def __init__(self, **replies):
        self.replies, self.calls = GOOD | replies, []

    def answer(self, calls):
        return [self._answer(call) for _, call in calls]

    def _answer(self, call):
        self.calls.append(call)
        reply = self.replies[call.kind]
        reply = reply(call) if callable(reply) else reply
        return reply if isinstance(reply, Reply) else Reply(reply, 9, True)


def judge_with(monkeypatch, tmp_path, judge, out, *arguments):
    """Runs the real `judge` command with a scripted judge in the place of PyTorch; returns the exit code."""
    monkeypatch.setattr(judge_stage, "HuggingFaceJudge", lambda source, think: judge)
    (tmp_path / "checkpoint").mkdir(exist_ok=True)
    return main(["judge", "--out", str(out), "--judge", f"transformers:{tmp_path / 'checkpoint'}", *arguments])


def segment(out, *arguments):
    return main(["segment", "--out", str(out), "--provider", "components", *arguments])


def judge(out, tmp_path, *arguments):
    return main(["judge", "--out", str(out), "--judge", scores_for(tmp_path / "scores.jsonl"), *arguments])


def export(out, *arguments):
    return main(["export", "--out", str(out), "--num-record-shards", "2", *arguments])


def lines(out, stage):
    """All lines of a stage by record id."""
    found = {}
    for path in sorted((out / stage / "chunks").rglob("*.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            assert line["record_id"] not in found
            found[line["record_id"]] = line
    return found


def summary(out, stage):
    return json.loads((out / f"summary-{stage}.json").read_text())


def rejects(out):
    """Reasons by record id, as `export` lists them."""
    text = (out / "rejects" / "export-00000-of-00001.jsonl").read_text()
    return {line["record_id"]: line["reason"] for line in map(json.loads, text.splitlines())}


def image_path(out, number):
    return out / "generate" / "images" / f"{number % 2:05d}" / f"set-{number}-c00.png"


def put_image(out, number, image):
    """Replaces a generated image by another one, which is recorded as if it had been made so."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    image_path(out, number).write_bytes(buffer.getvalue())
    for chunk in (out / "generate" / "chunks").rglob("*.jsonl"):
        records = [json.loads(line) for line in chunk.read_text().splitlines()]
        for record in records:
            if record["record_id"] == f"set-{number}-c00":
                record |= {"width": image.width, "height": image.height,
                           "image_sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        chunk.write_text("".join(json.dumps(record) + "\n" for record in records))


def picture(mode="RGB", size=(48, 40)):
    """A dark square on a light ground, in any mode."""
    pixels = np.full((size[1], size[0], 3), 235, np.uint8)
    pixels[4:14, 6:20] = (200, 20, 30)
    image = Image.fromarray(pixels)
    return image.quantize() if mode == "P" else image.convert(mode)


def set_aside(out):
    """Names of what lies in old/."""
    return sorted(str(path.relative_to(out / "old")) for path in (out / "old").rglob("*") if path.is_file())
