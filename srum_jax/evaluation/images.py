"""The generate stage: a benchmark's prompts as a run of `generation`, in the layout of the official scorer."""

from collections.abc import Sequence

import numpy as np

from srum_jax.evaluation.benchmark import Benchmark, EvalItem
from srum_jax.evaluation.folder import EvaluationFolder
from srum_jax.evaluation.step_images import StepRecorder
from srum_jax.generation.image_store import encode_image
from srum_jax.generation.prompts import Prompt, record_id
from srum_jax.generation.resume import read_chunk
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import WorkPlan, plan_work
from srum_jax.inference.protocols import Generator
from srum_jax.storage.atomic_file import write_bytes

_SUFFIX = ".png"


def prompts_of(benchmark: Benchmark, items: Sequence[EvalItem]) -> list[Prompt]:
    """The items as prompts; an item's seed follows from its id, so every model that is compared has the same.

    Raises:
      IdError: an id that cannot be part of a file's name.
    """
    for item in items:
        record_id(benchmark.name, item.id, benchmark.images_per_item - 1)
    # Keywords and directives are for the reward stage's judge.
    return [Prompt(index, benchmark.name, item.id, item.prompt, item.category, keywords=(), has_directive=False)
            for index, item in enumerate(items)]


def plan_images(benchmark: Benchmark, items: Sequence[EvalItem], settings: GenerationSettings) -> WorkPlan:
    """What is to be drawn; the images of an item keep their numbers."""
    by_id = {item.id: item for item in items}

    def layout(prompt: Prompt, number: int) -> str:
        last = benchmark.images_per_item - benchmark.drawing.images_per_prompt  # before it: steps on the way
        return benchmark.image(by_id[prompt.source_id], last + number).removesuffix(_SUFFIX)

    return plan_work(prompts_of(benchmark, items), settings, layout)


def write_beside_images(
    benchmark: Benchmark, items: Sequence[EvalItem], plan: WorkPlan, folder: EvaluationFolder
) -> None:
    """What the official layout has besides images. Called when every image is there."""
    records = {}
    for unit in plan.units:
        for job, record in zip(unit.jobs, read_chunk(folder.generate, unit), strict=True):
            records[job.prompt.source_id, job.candidate] = record
    for name, data in benchmark.beside_images(items, records).items():
        path = folder.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def keeping_steps(
    generator: Generator, benchmark: Benchmark, items: Sequence[EvalItem], plan: WorkPlan, folder: EvaluationFolder
) -> Generator:
    """The generator, if a benchmark's images are finished ones; else one that also writes those of its steps."""
    steps = getattr(benchmark, "steps", None)
    if steps is None:
        return generator
    by_id = {item.id: item for item in items}
    by_seed = {job.seed: by_id[job.prompt.source_id] for unit in plan.units for job in unit.jobs}

    def write(seed: int, step: int, pixels: np.ndarray) -> None:
        path = folder.images / benchmark.image(by_seed[seed], steps.index(step))
        folder.generate.write(path, encode_image(pixels, "png", {}))

    return StepRecorder(generator, steps[:-1], write)
