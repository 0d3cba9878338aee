"""Which images are made together, and by which process: a function of prompts and settings, never of what exists."""

import dataclasses
from collections.abc import Callable, Sequence

from srum_jax.errors import BadInput
from srum_jax.generation.image_store import FORMATS
from srum_jax.generation.prompts import Prompt, record_seed
from srum_jax.generation.run_settings import GenerationSettings

MAX_FILES = 1_000_000
# Where the image of a prompt and candidate lies below `generate/images/`, without the ending of its name.
ImageLayout = Callable[[Prompt, int], str]


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to be made."""

    prompt: Prompt
    candidate: int
    record_id: str
    seed: int
    shard: int
    image: str  # its file, relative to `generate/`

    @property
    def edit(self) -> bool:
        """Whether it starts from an image."""
        return self.prompt.image is not None


@dataclasses.dataclass(frozen=True)
class Unit:
    """Images that are made in one batch and committed together."""

    number: int  # among all units of the run
    shard: int
    jobs: tuple[Job, ...]
    rows: int  # of the batch; above the number of jobs where that saves compiling another program

    @property
    def name(self) -> str:
        """Unique in the shard; sorts by the first record."""
        return f"{self.jobs[0].prompt.index:09d}-c{self.jobs[0].candidate:02d}"


@dataclasses.dataclass(frozen=True)
class WorkPlan:
    """All units of a run, shard by shard."""

    units: tuple[Unit, ...]
    num_shards: int

    @property
    def num_images(self) -> int:
        """Of all units."""
        return sum(len(unit.jobs) for unit in self.units)


def plan_work(
    prompts: Sequence[Prompt], settings: GenerationSettings, layout: ImageLayout | None = None
) -> WorkPlan:
    """Assigns every record to a shard (by the index of its prompt) and a unit.

    A unit holds up to `settings.batch_size` records of one shard, all of one size, and either all edits or none. The
    units of a shard are ordered by their first record. Where there are full batches, smaller ones are filled up with
    rows that are thrown away: that costs less than compiling another program.

    Args:
      prompts: of the run.
      settings: of the run.
      layout: of the image files; None: a folder for each shard, and the record's id.

    Raises:
      BadInput: above a million images.
    """
    count = len(prompts) * settings.num_candidates
    if count > MAX_FILES:
        raise BadInput(f"{len(prompts)} prompts x {settings.num_candidates} candidates are {count} images: expected at "
                       f"most {MAX_FILES} for a folder of image files; split the prompt file and give every part its "
                       "own --out.")
    suffix = FORMATS[settings.output.image_format].suffix
    groups: dict[tuple, list[Job]] = {}
    for prompt in sorted(prompts, key=lambda prompt: prompt.index):
        shard = prompt.index % settings.output.num_shards
        size = (prompt.height, prompt.width)
        for candidate in range(settings.num_candidates):
            name = prompt.record_id(candidate)
            path = f"{shard:05d}/{name}" if layout is None else layout(prompt, candidate)
            job = Job(prompt, candidate, name, record_seed(settings.base_seed, name), shard, f"images/{path}{suffix}")
            groups.setdefault((shard, job.edit, size), []).append(job)
    full = {key[1:] for key, jobs in groups.items() if len(jobs) >= settings.batch_size}
    batches = []
    for key, jobs in groups.items():
        for first in range(0, len(jobs), settings.batch_size):
            batch = tuple(jobs[first : first + settings.batch_size])
            batches.append((batch, settings.batch_size if key[1:] in full else len(batch)))
    batches.sort(key=lambda item: (item[0][0].shard, item[0][0].prompt.index, item[0][0].candidate))
    return WorkPlan(tuple(Unit(number, batch[0].shard, batch, rows) for number, (batch, rows) in enumerate(batches)),
                    settings.output.num_shards)
