"""A model whose images are functions of the request, and a small run around it."""

import dataclasses
import json

import numpy as np
from etils import epath

from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.generation.prompts import Prompt
from srum_jax.generation.resume import missing_units
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.generation.runner import finish_shards, generate_units
from srum_jax.generation.work_units import plan_work
from srum_jax.inference.requests import GeneratedImage, RequestError
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import StageFolder
from srum_jax.stages.processes import Processes

SETTINGS = GenerationSettings(height=16, width=16, batch_size=2, sampler=FlowSampler(), output=OutputSettings(2))


@dataclasses.dataclass
class FakePipeline:
    """Remembers its batches; fails at the one with number `fails_at`."""

    fails_at: int | None = None
    batches: list = dataclasses.field(default_factory=list)

    def check(self, request):
        if not request.prompt.strip():
            raise RequestError("prompt: expected a text, found nothing.")
        if len(request.prompt) > 30:
            raise RequestError("prompt: expected 1 to 30 tokens, found more.")
        if request.height is not None and request.height % 8:
            raise RequestError("height: expected a multiple of 8.")

    default_size, rows_multiple = (24, 24), 1

    def generate(self, requests, *, plan):
        if len(self.batches) == self.fails_at:
            raise RuntimeError("the fake failed, as it was asked to")
        self.batches.append((list(requests), plan))
        return [self._image(request, plan) for request in requests]

    def _image(self, request, plan):
        rng = np.random.default_rng([request.seed, *request.prompt.encode()])
        pixels = rng.integers(0, 255, (request.height or 24, request.width or 24, 3), np.uint8)
        if request.image is not None:
            pixels[0] = np.asarray(request.image)[0, 0]
        thought = None if plan is None else f"detailed prompt: {request.prompt} in oil\n\nand more"
        return GeneratedImage(pixels, thought)


def made_up_prompts(count, **fields):
    return [Prompt(index, "set", str(index + 100), f"picture {index}", **fields) for index in range(count)]


def run(out, prompts, settings=SETTINGS, pipeline=None, process=0, processes=1, repair=False, sources="."):
    """What the command does for one process; returns the pipeline and the summary."""
    pipeline = pipeline or FakePipeline()
    plan = plan_work(prompts, settings)
    folder = StageFolder(out, GENERATE, settings.output.num_shards, Processes(process, processes))
    missing = missing_units(folder.processes.share(plan.units), folder, settings, repair=repair)
    for _ in generate_units(missing, pipeline, folder, settings, epath.Path(sources)):
        pass
    return pipeline, finish_shards(plan, [], folder)


def contents(folder):
    """Every file below a folder, with its bytes; without what was set aside."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).parts[0] != "old"}


def records(folder):
    """All generation records by id."""
    lines = [line for path in sorted(folder.rglob("generate/chunks/*/*.jsonl")) for line in path.open()]
    parsed = [json.loads(line) for line in lines]
    assert len({record["record_id"] for record in parsed}) == len(parsed)
    return {record["record_id"]: record for record in parsed}
