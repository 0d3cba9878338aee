"""Fixtures that several tests of generation share."""

import json

import pytest

from srum_jax import generate
from tests.generation.fakes import FakePipeline


@pytest.fixture
def command(tiny_base, tmp_path, capsys, monkeypatch):
    """Calls the command with a fake in place of the model; returns exit code, output and errors."""
    pipelines = []

    def load(args, templates, *, understanding, sampler):
        pipelines.append(FakePipeline())
        return pipelines[-1]

    monkeypatch.setattr(generate, "load_pipeline", load)

    def call(*arguments, checkpoint=tiny_base, out=tmp_path / "out"):
        code = generate.main(["--checkpoint", str(checkpoint), "--out", str(out), "--size", "32x32", *arguments])
        return code, *capsys.readouterr()

    call.pipelines = pipelines
    return call


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} red circles"}) + "\n" for n in ("two", "three", "four")))
    return path
