"""How images and texts are sampled. All settings are hashable: they are constants of the compiled programs."""

import dataclasses
import math

RENORM_NAMES = ("global", "channel", "text_channel")


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance with two scales (spec: BAGEL's image generation).

    A branch whose scale is at most 1 is not evaluated; image guidance is never applied alone.
    """

    text_scale: float = 4.0  # of the prediction over that without the last text
    image_scale: float = 1.0  # of that over the prediction without images
    interval: tuple[float, float] = (0.4, 1.0)  # guided where low < t <= high, t after the shift
    renorm: str = "global"  # what the guided velocity's norm is held to: the image's, each token's, or see below
    renorm_min: float = 0.0  # the norm is never scaled below this share

    def __post_init__(self):
        for name in ("text_scale", "image_scale"):
            if not math.isfinite(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"guidance.{name}: expected a number of at least 0, found {getattr(self, name)!r}.")
        object.__setattr__(self, "interval", tuple(self.interval))
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1]:
            raise ValueError(f"guidance.interval: expected two times 0 <= low <= high, found {self.interval!r}.")
        if self.renorm not in RENORM_NAMES:
            raise ValueError(f"guidance.renorm: expected one of {', '.join(RENORM_NAMES)}; found {self.renorm!r}.")
        if not 0 <= self.renorm_min <= 1:
            raise ValueError(f"guidance.renorm_min: expected a number in [0, 1], found {self.renorm_min!r}.")

    @property
    def branches(self) -> int:
        """Predictions that a guided step takes."""
        return 1 if self.text_scale <= 1 else 2 if self.image_scale <= 1 else 3


@dataclasses.dataclass(frozen=True)
class FlowSampler:
    """Euler steps along the learned flow, from noise (t = 1) to data (t = 0)."""

    num_timesteps: int = 50  # points in time, both ends included; one step less
    shift: float = 3.0  # above 1, more of the steps lie near noise
    guidance: Guidance = Guidance()

    def __post_init__(self):
        if isinstance(self.num_timesteps, bool) or not isinstance(self.num_timesteps, int) or self.num_timesteps < 2:
            raise ValueError(f"num_timesteps: expected an integer of at least 2, found {self.num_timesteps!r}.")
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"shift: expected a positive number, found {self.shift!r}.")


TEXT_TO_IMAGE = FlowSampler()
EDITING = FlowSampler(guidance=Guidance(4.0, 2.0, (0.0, 1.0), "text_channel"))


@dataclasses.dataclass(frozen=True)
class TextSampler:
    """Decoding token by token."""

    max_tokens: int = 1000  # tokens fed at most, the starting marker included
    temperature: float | None = None  # None: greedy

    def __post_init__(self):
        if isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or self.max_tokens < 2:
            raise ValueError(f"max_tokens: expected an integer of at least 2, found {self.max_tokens!r}.")
        if self.temperature is not None and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature: expected a positive number, or None for greedy decoding, found "
                             f"{self.temperature!r}.")
