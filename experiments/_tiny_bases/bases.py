"""The tiny bases that ship, and what differs between them for whoever draws with one or measures it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.families.registry import recognise
from srum_jax.worlds.shapes.base import trained_base, trained_janus


@dataclasses.dataclass(frozen=True)
class TinyBase:
    """One of them."""

    name: str  # on command lines
    family: str
    checkpoint: Callable[[], epath.Path]
    sampler: Callable[[float], Any]  # of images, by the scale of guidance
    guidance: float  # that candidates are drawn with
    guidance_setting: str  # the same as an argument of `make_rewards generate`
    drawing: Mapping[str, Any]  # all such arguments
    round_trip: Callable[[Any, np.ndarray], np.ndarray]  # (pipeline, pictures uint8 [B, S, S, 3]) -> encoded, decoded
    grid: tuple[int, int]  # image tokens of a picture
    srum: str  # the experiment that trains it on its own rewards
    captions: bool  # whether it has learned to say a sentence about a picture


def base_of(checkpoint: epath.PathLike) -> TinyBase:
    """The base that a checkpoint is a descendant of, by its family.

    Raises:
      BadInput: it is of a family that has none here.
    """
    family = recognise(checkpoint)
    for base in BASES.values():
        if base.family == family:
            return base
    raise BadInput(f"{checkpoint}: expected a model of the shapes world ({', '.join(BASES)}), found {family}.")


def _flow_sampler(guidance: float) -> FlowSampler:
    return FlowSampler(num_timesteps=25, shift=3.0, guidance=Guidance(text_scale=guidance, interval=(0.0, 1.0)))


def _code_sampler(guidance: float) -> CodeSampler:
    # At temperature 1 one code in many is out of place, and guidance makes that worse.
    return CodeSampler(guidance=guidance, temperature=0.8)


# The arrays are imported when pictures are there: settings of these bases are looked at without.
def _through_latents(pipeline: Any, pictures: np.ndarray) -> np.ndarray:
    from srum_jax.data.image_transform import to_unit_range
    from srum_jax.families.bagel.programs import DECODE_IMAGES, ENCODE_IMAGES, finite_pixels
    from srum_jax.inference.random_keys import Use, random_keys

    programs = pipeline.generator.programs
    side = pictures.shape[1] // programs.config.latent_stride
    latent = programs.call(ENCODE_IMAGES, to_unit_range(pictures), random_keys(range(len(pictures)), Use.POSTERIOR))
    pixels, _ = finite_pixels(programs.call(DECODE_IMAGES, latent, side, side))
    return np.asarray(pixels)


def _through_codes(pipeline: Any, pictures: np.ndarray) -> np.ndarray:
    import jax

    from srum_jax.families.janus_pro.programs import DECODE_CODES
    from srum_jax.models.janus_pro.vq import from_bytes

    programs = pipeline.generator.programs
    codes = jax.jit(programs.model.vq.encode)(from_bytes(jax.numpy.asarray(pictures)))
    return np.asarray(programs.call(DECODE_CODES, codes)[0])


BASES = {
    "bagel": TinyBase(
        name="bagel", family="bagel", checkpoint=trained_base, sampler=_flow_sampler, guidance=2.0,
        guidance_setting="sampler.guidance.text_scale",
        drawing={"sampler.num_timesteps": 25, "sampler.shift": 3.0, "sampler.guidance.text_scale": 2.0,
                 "sampler.guidance.interval": (0.0, 1.0)},
        round_trip=_through_latents, grid=(6, 6), srum="tiny_srum", captions=False,
    ),
    "janus": TinyBase(
        name="janus", family="janus_pro", checkpoint=trained_janus, sampler=_code_sampler, guidance=1.5,
        guidance_setting="sampler.guidance",
        drawing={"sampler.guidance": 1.5, "sampler.temperature": 0.8}, round_trip=_through_codes,
        grid=(12, 12), srum="tiny_janus_srum", captions=True,
    ),
}
