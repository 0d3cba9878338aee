"""Settings of BLIP3o's rows. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.errors import check
from srum_jax.families.slot_config import SlotRows


@dataclasses.dataclass(frozen=True)
class Blip3oRows(SlotRows):
    """Slots of a row, and how much each holds."""

    reading_fields: ClassVar[tuple[str, ...]] = ("reading_capacity", "reading_windows", "answer_capacity")
    code_field: ClassVar[str] = "features"

    text_capacity: int = 256  # tokens of each: its prompt, [IMG] and the queries; longer prompts are refused
    assistant_turn: str = "closed"  # before [IMG], as in the authors' training; "open" as when they draw
    features: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
    reading_windows: int = 0  # of a picture that is read, 112 pixels along each side

    def __post_init__(self):
        super().__post_init__()
        check("rows.assistant_turn", self.assistant_turn in ("closed", "open"), "closed or open", self.assistant_turn)
