"""What Janus-Pro's work amounts to."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import stack_rows
from srum_jax.errors import BadInput
from srum_jax.families.costs import Costs, Drawing, SlotWork
from srum_jax.families.janus_pro import generation_costs
from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.rows import JanusPacker
from srum_jax.families.janus_pro.step_flops import count_slots, step_flops
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.released import RELEASED
from srum_jax.objectives.columns import NO_COLUMNS


class JanusCosts(Costs):
    """The costs of Janus-Pro. In place of a checkpoint, "1B" and "7B" stand for the released models."""

    search_order = ("codes", "pixels", "decode")
    image_programs = ("codes", "pixels")
    text_program = "decode"  # of answers; pictures are drawn without a plan

    architecture = JANUS_PRO
    released: ClassVar = {"": RELEASED["7B"], **RELEASED}
    drawn_by = generation_costs.PROGRAMS
    rewarded_by = generation_costs.REWARD_PROGRAMS
    arguments = staticmethod(generation_costs.program_arguments)
    prompt_slots = staticmethod(generation_costs.prompt_slots)
    drawing_costs = staticmethod(generation_costs.generation_costs)
    reward_costs = staticmethod(generation_costs.reward_costs)

    def step_flops(self, config: JanusConfig, batch: JanusBatch,
                   trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """See `step_flops.step_flops`."""
        return step_flops(config, count_slots(batch, config.vq.num_codes), trained)

    def full_row(self, rows: JanusRows, config: JanusConfig, prompt_tokens: int, *, block: int, seq: int) -> SlotWork:
        """See `Costs.full_row`; slots for reading stay empty, as in training on records."""
        length = prompt_tokens + generation_costs.TEMPLATE_TOKENS
        if length > rows.text_capacity:
            raise CapacityError(f"needs {length} tokens for a prompt of {prompt_tokens}, a slot has "
                                f"{rows.text_capacity}; raise rows.text_capacity")
        batch = stack_rows([JanusPacker(rows, config, None, NO_COLUMNS).empty_row().finish()])
        full = dataclasses.replace(batch, sample=np.zeros_like(batch.sample),
                                   length=np.full_like(batch.length, length))
        slots = batch.ids.size + batch.readings.ids.size + batch.sample.size * (config.vq.num_codes - 1)
        counts = count_slots(full, config.vq.num_codes)
        return SlotWork(config, counts, counts.tokens, slots, step_flops)

    def check(self, config: JanusConfig, drawing: Drawing) -> None:
        """Refuses edits, and sizes other than the model's."""
        if drawing.editing:
            raise BadInput("--editing: Janus-Pro makes no edits; leave it off.")
        for name in ("height", "width"):
            if getattr(drawing, name) != config.vq.image_size:
                raise BadInput(f"{name}: expected {config.vq.image_size} pixels, the only size that the model draws; "
                               f"found {getattr(drawing, name)}.")

    def side(self, config: JanusConfig) -> int:
        """The only one."""
        return config.vq.image_size

    def question_tokens(self, config: JanusConfig, drawing: Drawing) -> int:
        """See `Costs.question_tokens`; the template of a question is longer than that of a prompt."""
        return generation_costs.question_slots(config) - generation_costs.TEMPLATE_TOKENS
