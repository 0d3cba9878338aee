"""Settings of Janus-Pro's rows. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.families.slot_config import SlotRows


@dataclasses.dataclass(frozen=True)
class JanusRows(SlotRows):
    """Slots of a row, and how much each holds."""

    code_field: ClassVar[str] = "codes"

    text_capacity: int = 128  # tokens of each prompt, with what is put around it; longer ones are refused
    codes: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
