"""The settings of a run: everything besides prompts and weights that decides what images come out."""

import dataclasses
from typing import Any

from srum_jax.errors import BadInput
from srum_jax.generation.image_store import FORMATS
from srum_jax.generation.prompts import MAX_BASE_SEED
from srum_jax.inference.settings import TextSampler

_MAX_CANDIDATES = 1000


def _check_count(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadInput(f"{name}: expected a whole number from 1 to {most}, found {value!r}.")


@dataclasses.dataclass(frozen=True)
class OutputSettings:
    """How images are stored."""

    num_shards: int = 16  # folders that they are spread over; prompt i belongs to shard i mod num_shards
    image_format: str = "png"  # png, webp or jpeg: the first two keep every pixel
    crop_black_border: bool = False  # before an image is stored, as the authors' code does

    def __post_init__(self):
        _check_count("num_shards", self.num_shards, 10**5)
        if self.image_format not in FORMATS:
            raise BadInput(f"image_format: expected one of {', '.join(FORMATS)}; found {self.image_format!r}.")


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """Equal settings, prompts and weights on equal devices give equal bytes."""

    num_candidates: int = 1  # images per prompt
    base_seed: int = 42
    height: int | None = None  # pixels; None: the model's own size
    width: int | None = None
    batch_size: int = 8  # records of a unit of work
    sampler: Any = None  # of images, of the family's kind; None where no model makes them
    plan: TextSampler | None = None  # given: think mode
    output: OutputSettings = OutputSettings()
    dtype: str = "bfloat16"
    attention: str = "auto"
    control_tokens: bool = False  # whether those inside a prompt act as such
    quantize: str | None = None  # integers that matrices of layers are kept in

    def __post_init__(self):
        for name, most in (("num_candidates", _MAX_CANDIDATES), ("batch_size", 2**20)):
            _check_count(name, getattr(self, name), most)
        if not 0 <= self.base_seed <= MAX_BASE_SEED:
            raise BadInput(f"base_seed: expected a whole number from 0 to {MAX_BASE_SEED}, found {self.base_seed}.")
        if (self.height is None) != (self.width is None):
            raise BadInput(f"height, width: expected both or neither, found {self.height} and {self.width}.")

    @property
    def think(self) -> bool:
        """Whether a plan is written first."""
        return self.plan is not None
