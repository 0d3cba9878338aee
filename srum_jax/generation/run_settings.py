"""The settings of a run: everything besides prompts and weights that decides what images come out."""

import dataclasses
from typing import Any

from srum_jax.generation.image_store import FORMATS
from srum_jax.generation.prompts import MAX_BASE_SEED
from srum_jax.inference.settings import EDITING, TEXT_TO_IMAGE, FlowSampler, TextSampler

_MAX_CANDIDATES = 1000


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """Equal settings, prompts and weights on equal devices give equal bytes."""

    num_candidates: int = 1  # images per prompt
    base_seed: int = 42
    height: int | None = None  # pixels; None: the model's own size, 1024 for BAGEL
    width: int | None = None
    batch_size: int = 8  # records of a unit of work
    num_shards: int = 16  # folders that the images are spread over
    text_to_image: FlowSampler = TEXT_TO_IMAGE
    editing: FlowSampler = EDITING
    plan: TextSampler | None = None  # given: think mode
    image_format: str = "png"
    crop_black_border: bool = False
    dtype: str = "bfloat16"
    attention: str = "auto"

    def __post_init__(self):
        for name, most in (("num_candidates", _MAX_CANDIDATES), ("batch_size", 2**20), ("num_shards", 10**5)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name}: expected a whole number from 1 to {most}, found {value!r}.")
        if not 0 <= self.base_seed <= MAX_BASE_SEED:
            raise ValueError(f"base_seed: expected a whole number from 0 to {MAX_BASE_SEED}, found {self.base_seed}.")
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height, width: expected both or neither, found {self.height} and {self.width}.")
        if self.image_format not in FORMATS:
            raise ValueError(f"image_format: expected one of {', '.join(FORMATS)}; found {self.image_format!r}.")

    @property
    def think(self) -> bool:
        """Whether a plan is written first."""
        return self.plan is not None

    def sampler(self, edit: bool) -> FlowSampler:
        """That of edits, or of new images."""
        return self.editing if edit else self.text_to_image

    def to_json(self) -> dict[str, Any]:
        """For `run.json`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "text_to_image": sampler_json(self.text_to_image),
            "editing": sampler_json(self.editing),
            "plan": None if self.plan is None else dataclasses.asdict(self.plan),
        }


def sampler_json(sampler: FlowSampler) -> dict[str, Any]:
    """Under the names of the command's flags."""
    guidance = sampler.guidance
    return {
        "guidance_scale": guidance.text_scale,
        "guidance_scale_image": guidance.image_scale,
        "guidance_interval": list(guidance.interval),
        "timestep_shift": sampler.shift,
        "num_timesteps": sampler.num_timesteps,
        "renorm": guidance.renorm,
        "renorm_min": guidance.renorm_min,
    }
