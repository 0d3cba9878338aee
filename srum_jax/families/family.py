"""What a family of models provides, so that loop, generation and stages need not know which one they serve."""

import dataclasses

from srum_jax.models.architecture import Architecture


@dataclasses.dataclass(frozen=True)
class Family:
    """One family, as general code gets to see it.

    Attributes:
      architecture: how its models are stored, built and laid out.
    """

    architecture: Architecture
