"""How pictures are drawn. All settings are hashable: they are constants of the compiled programs."""

import dataclasses
import math

TURNS = ("open", "closed")


def _check(name: str, sampler: "FeatureSampler | PixelSampler") -> None:
    steps, guidance = sampler.num_steps, sampler.guidance
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 1000:  # times of the training
        raise ValueError(f"{name}.num_steps: expected an integer from 1 to 1000, found {steps!r}.")
    if not (guidance >= 0 and math.isfinite(guidance)):
        raise ValueError(f"{name}.guidance: expected a number of at least 0, found {guidance!r}.")


@dataclasses.dataclass(frozen=True)
class FeatureSampler:
    """Euler steps along the learned flow, from noise to picture features."""

    num_steps: int = 30
    guidance: float = 3.0  # of the velocity over that without a condition; 1 is the condition's own
    shift: float = 1.0  # above 1, more of the steps lie near noise

    def __post_init__(self):
        _check("features", self)
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"features.shift: expected a positive number, found {self.shift!r}.")


@dataclasses.dataclass(frozen=True)
class PixelSampler:
    """Euler steps of the U-Net, from noise to latents."""

    num_steps: int = 50
    guidance: float = 3.0  # of the prediction over that for the negative features; at most 1: these are not needed

    def __post_init__(self):
        _check("pixels", self)


@dataclasses.dataclass(frozen=True)
class PictureSampler:
    """From a prompt to pixels. Defaults are the published settings."""

    features: FeatureSampler = FeatureSampler()
    pixels: PixelSampler = PixelSampler()
    # What the pixel decoder is guided away from are features drawn once, for a blank text, with this seed.
    negative_seed: int = 0
    assistant_turn: str = "open"  # open or closed: the turn before the picture; trained closed, drawn open

    def __post_init__(self):
        if isinstance(self.negative_seed, bool) or not isinstance(self.negative_seed, int) or not (
            0 <= self.negative_seed < 2**63
        ):
            raise ValueError(f"negative_seed: expected an integer from 0 to 2^63 - 1, found {self.negative_seed!r}.")
        if self.assistant_turn not in TURNS:
            raise ValueError(f"assistant_turn: expected one of {', '.join(TURNS)}; found {self.assistant_turn!r}.")
