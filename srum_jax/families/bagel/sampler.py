"""How images are sampled. All settings are hashable: they are constants of the compiled programs."""

import dataclasses
import math

from srum_jax.errors import BadInput

RENORM_NAMES = ("global", "channel", "text_channel")


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance with two scales (spec: BAGEL's image generation).

    A branch whose scale is at most 1 is not evaluated; image guidance is never applied alone.
    """

    text_scale: float = 4.0  # of the prediction over that without the last text
    image_scale: float = 1.0  # of that over the prediction without images
    interval: tuple[float, float] = (0.4, 1.0)  # guided where low < t <= high, t after the shift
    # global, channel or text_channel: what the guided velocity's norm is held to, the image's or each token's; the
    # last one before image guidance is applied
    renorm: str = "global"
    renorm_min: float = 0.0  # the norm is never scaled below this share

    def __post_init__(self):
        for name in ("text_scale", "image_scale"):
            if not math.isfinite(getattr(self, name)) or getattr(self, name) < 0:
                raise BadInput(f"guidance.{name}: expected a number of at least 0, found {getattr(self, name)!r}.")
        object.__setattr__(self, "interval", tuple(self.interval))
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1]:
            raise BadInput(f"guidance.interval: expected two times 0 <= low <= high, found {self.interval!r}.")
        if self.renorm not in RENORM_NAMES:
            raise BadInput(f"guidance.renorm: expected one of {', '.join(RENORM_NAMES)}; found {self.renorm!r}.")
        if not 0 <= self.renorm_min <= 1:
            raise BadInput(f"guidance.renorm_min: expected a number in [0, 1], found {self.renorm_min!r}.")

    @property
    def branches(self) -> int:
        """Predictions that a guided step takes."""
        return 1 if self.text_scale <= 1 else 2 if self.image_scale <= 1 else 3


@dataclasses.dataclass(frozen=True)
class FlowSampler:
    """Euler steps along the learned flow, from noise (t = 1) to data (t = 0). Defaults are the published settings."""

    num_timesteps: int = 50  # points in time, both ends included; one step less
    shift: float = 3.0  # above 1, more of the steps lie near noise
    guidance: Guidance = Guidance()  # of images that are made from a text
    edit_guidance: Guidance | None = Guidance(4.0, 2.0, (0.0, 1.0), "text_channel")  # of edits; none: as the others

    def __post_init__(self):
        if isinstance(self.num_timesteps, bool) or not isinstance(self.num_timesteps, int) or self.num_timesteps < 2:
            raise BadInput(f"num_timesteps: expected an integer of at least 2, found {self.num_timesteps!r}.")
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise BadInput(f"shift: expected a positive number, found {self.shift!r}.")

    def of_edits(self) -> "FlowSampler":
        """What edits are sampled with."""
        return self.without_edits() if self.edit_guidance is None else FlowSampler(
            self.num_timesteps, self.shift, self.edit_guidance, None)

    def without_edits(self) -> "FlowSampler":
        """The settings of a batch, in which all rows are guided alike."""
        return dataclasses.replace(self, edit_guidance=None)
