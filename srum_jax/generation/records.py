"""What is written down of every image, and finding the rewritten prompt in a plan."""

import re
from typing import Any

from srum_jax.generation.image_store import FORMATS
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import Job
from srum_jax.inference.requests import GeneratedImage
from srum_jax.overrides import to_json
from srum_jax.stages import STAGE_VERSION

_DETAILED = re.compile(r"detailed prompt:(.*?)(?:\n\n|\Z)", re.DOTALL)


def detailed_prompt(plan: str) -> str | None:
    """What follows the first `detailed prompt:` up to the next empty line or the end, trimmed; None without one."""
    found = _DETAILED.search(plan)
    return found[1].strip() if found else None


def image_path(job: Job, settings: GenerationSettings) -> str:
    """Where the image of a job lies below `generate/`."""
    return f"images/{job.shard:05d}/{job.record_id}{FORMATS[settings.output.image_format].suffix}"


def generation_record(
    job: Job, image: GeneratedImage, stored_size: tuple[int, int], settings: GenerationSettings
) -> dict[str, Any]:
    """One line of a chunk (spec: reward stage, section 4), but for the checksum of the image.

    Args:
      job: what was asked for.
      image: what came out.
      stored_size: height and width of the stored image, pixels; after cropping.
      settings: of the run.
    """
    prompt, noted = job.prompt, to_json(settings)
    record = {
        "record_id": job.record_id,
        "index": prompt.index,
        "candidate": job.candidate,
        "prompt": prompt.prompt,
        "category": prompt.category,
        "think": settings.think,
        "think_text": image.plan,
        "think_truncated": image.plan_truncated,
        "detailed_prompt": None if image.plan is None else detailed_prompt(image.plan),
        "image": image_path(job, settings),
        "width": stored_size[1],
        "height": stored_size[0],
        "seed": job.seed,
        "sampler": {**(noted["sampler"] or {}), "plan": noted["plan"]},
        "stage_version": STAGE_VERSION,
    }
    if prompt.image is not None:
        record["source_image"], record["source_image_sha256"] = prompt.image, prompt.image_sha256
    return record
