"""What BLIP3o's work amounts to."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import stack_rows
from srum_jax.errors import BadInput
from srum_jax.families.blip3o import generation_programs
from srum_jax.families.blip3o.batch import Blip3oBatch
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.families.blip3o.generation_costs import generation_costs
from srum_jax.families.blip3o.rows import Blip3oPacker
from srum_jax.families.blip3o.step_flops import count_slots, step_flops
from srum_jax.families.costs import Costs, Drawing, SlotWork
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.blip3o.config import Blip3oConfig
from srum_jax.models.blip3o.released import RELEASED
from srum_jax.objectives.columns import NO_COLUMNS


class Blip3oCosts(Costs):
    """The costs of BLIP3o. In place of a checkpoint, "8B" and "4B" stand for the released models."""

    search_order = ("latents", "pixels", "features", "prefill", "decode")
    image_programs = ("prefill", "features", "latents", "pixels")
    text_program = "decode"  # of answers; pictures are drawn without a plan

    architecture = BLIP3O
    released: ClassVar = {"": RELEASED["8B"], **RELEASED}
    drawn_by = generation_programs.PROGRAMS
    arguments = staticmethod(generation_programs.program_arguments)
    prompt_slots = staticmethod(generation_programs.prompt_slots)
    drawing_costs = staticmethod(generation_costs)

    def step_flops(self, config: Blip3oConfig, batch: Blip3oBatch,
                   trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """See `step_flops.step_flops`."""
        return step_flops(config, count_slots(batch, config.num_queries), trained)

    def full_row(self, rows: Blip3oRows, config: Blip3oConfig, prompt_tokens: int, *, block: int, seq: int) -> SlotWork:
        """See `Costs.full_row`; slots for reading stay empty, as in training on records."""
        first_query = prompt_tokens + generation_programs.TEMPLATE_TOKENS + 1
        if first_query + config.num_queries > rows.text_capacity:
            raise CapacityError(f"needs {first_query + config.num_queries} tokens for a prompt of {prompt_tokens}, a "
                                f"slot has {rows.text_capacity}; raise rows.text_capacity")
        batch = stack_rows([Blip3oPacker(rows, config, None, NO_COLUMNS).empty_row().finish()])
        full = dataclasses.replace(batch, sample=np.zeros_like(batch.sample),
                                   first_query=np.full_like(batch.first_query, first_query))
        slots = batch.ids.size + batch.readings.ids.size + batch.sample.size * config.dit.grid**2
        counts = count_slots(full, config.num_queries)
        return SlotWork(config, counts, counts.text + counts.pictures * config.dit.grid**2, slots, step_flops)

    def check(self, config: Blip3oConfig, drawing: Drawing) -> None:
        """Refuses edits, and sides that the pixel decoder cannot make."""
        if drawing.editing:
            raise BadInput("--editing: BLIP3o makes no edits; leave it off.")
        for name in ("height", "width"):
            side, multiple, most = getattr(drawing, name), config.pixels.size_multiple, config.pixels.side
            if side % multiple or not 0 < side <= most:
                raise BadInput(f"{name}: expected a multiple of {multiple} pixels, at most {most}; found {side}.")

    def side(self, config: Blip3oConfig) -> int:
        """Of the pixel decoder."""
        return config.pixels.side
