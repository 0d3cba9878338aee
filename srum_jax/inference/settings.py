"""How texts are sampled. The settings are hashable: they are constants of the compiled programs."""

import dataclasses
import math

from srum_jax.errors import BadInput


@dataclasses.dataclass(frozen=True)
class TextSampler:
    """Decoding token by token."""

    max_tokens: int = 1000  # tokens fed at most, the starting marker included
    temperature: float | None = None  # None: greedy

    def __post_init__(self):
        if isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or self.max_tokens < 2:
            raise BadInput(f"max_tokens: expected an integer of at least 2, found {self.max_tokens!r}.")
        if self.temperature is not None and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise BadInput(f"temperature: expected a positive number, or None for greedy decoding, found "
                           f"{self.temperature!r}.")
