"""How codes are sampled. All settings are hashable: they are constants of the compiled programs."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class CodeSampler:
    """Codes one after the other, each from the softmax of guided scores. Defaults are the published settings."""

    guidance: float = 5.0  # of the scores over those without the text; 1 leaves the second prediction out
    temperature: float | None = 1.0  # none: the likeliest code

    def __post_init__(self):
        if not math.isfinite(self.guidance) or self.guidance < 0:
            raise ValueError(f"guidance: expected a number of at least 0, found {self.guidance!r}.")
        if self.temperature is not None and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature: expected a positive number or none, found {self.temperature!r}.")

    @property
    def branches(self) -> int:
        """Predictions that a step takes."""
        return 1 if self.guidance == 1 else 2
