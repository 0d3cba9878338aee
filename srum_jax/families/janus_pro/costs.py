"""What Janus-Pro's work amounts to; see `srum_jax.families.costs.Costs`."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath
from jax.sharding import Mesh

from srum_jax.data.errors import CapacityError
from srum_jax.data.example import stack_rows
from srum_jax.errors import BadInput
from srum_jax.families.costs import Cost, Drawing, DrawingProgram
from srum_jax.families.janus_pro import generation_costs
from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.rows import JanusPacker
from srum_jax.families.janus_pro.step_flops import SlotCounts, count_slots, scaled, step_flops
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.released import RELEASED
from srum_jax.objectives.columns import NO_COLUMNS


@dataclasses.dataclass(frozen=True)
class _Row:
    """A `RowWork`."""

    config: JanusConfig
    counts: SlotCounts
    slots: int  # of tokens

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.slots

    @property
    def tokens(self) -> int:
        return self.counts.tokens

    def step_flops(self, trained: Mapping[str, tuple[int, ...]], rows: int) -> float:
        return step_flops(self.config, scaled(self.counts, rows), trained)

    def kernel_flops(self, name: str, operands: tuple[tuple[int, ...], ...]) -> float | None:
        return None  # sequences are short: the recipes attend without a kernel


class JanusCosts:
    """The costs of Janus-Pro. In place of a checkpoint, "1B" and "7B" stand for the released models."""

    programs = generation_costs.PROGRAM_NAMES
    search_order = ("codes", "pixels", "decode")
    image_programs = ("codes", "pixels")
    text_program = "decode"  # of answers; pictures are drawn without a plan

    def config(self, checkpoint: epath.PathLike, layers: int | None = None) -> JanusConfig:
        """That of a directory or of a released model; of the larger one for ""."""
        config = RELEASED.get(str(checkpoint) or "7B") or JanusConfig.from_directory(checkpoint)
        if layers is not None:
            config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=layers))
        return config

    def num_layers(self, config: JanusConfig) -> int:
        """Of the language model."""
        return config.llm.num_layers

    def step_flops(self, config: JanusConfig, batch: JanusBatch,
                   trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """See `step_flops.step_flops`."""
        return step_flops(config, count_slots(batch, config.vq.num_codes), trained)

    def full_row(self, rows: JanusRows, config: JanusConfig, prompt_tokens: int, *, block: int, seq: int) -> _Row:
        """See `Costs.full_row`; slots for reading stay empty, as in training on records."""
        length = prompt_tokens + generation_costs.TEMPLATE_TOKENS
        if length > rows.text_capacity:
            raise CapacityError(f"needs {length} tokens for a prompt of {prompt_tokens}, a slot has "
                                f"{rows.text_capacity}; raise rows.text_capacity")
        batch = stack_rows([JanusPacker(rows, config, None, NO_COLUMNS).empty_row().finish()])
        full = dataclasses.replace(batch, sample=np.zeros_like(batch.sample),
                                   length=np.full_like(batch.length, length))
        slots = batch.ids.size + batch.readings.ids.size + batch.sample.size * (config.vq.num_codes - 1)
        return _Row(config, count_slots(full, config.vq.num_codes), slots)

    def check(self, config: JanusConfig, drawing: Drawing) -> None:
        """Refuses edits, and sizes other than the model's."""
        if drawing.editing:
            raise BadInput("--editing: Janus-Pro makes no edits; leave it off.")
        for name in ("height", "width"):
            if getattr(drawing, name) != config.vq.image_size:
                raise BadInput(f"{name}: expected {config.vq.image_size} pixels, the only size that the model draws; "
                               f"found {getattr(drawing, name)}.")

    def prompt_slots(self, drawing: Drawing) -> int:
        """Of a prompt with its template."""
        return generation_costs.prompt_slots(drawing)

    def drawing_costs(self, config: JanusConfig, drawing: Drawing) -> dict[str, Cost]:
        """See `generation_costs.generation_costs`."""
        return generation_costs.generation_costs(config, drawing)

    def lower(self, config: JanusConfig, mesh: Mesh, drawing: Drawing, program: str, *, dtype: str, attention: str,
              understanding: bool) -> DrawingProgram:
        """See `generation_costs`."""
        programs, state = generation_costs.abstract_programs(config, mesh, dtype=dtype, attention=attention,
                                                             understanding=understanding)
        if drawing.rows % programs.rows_multiple:
            raise BadInput(f"--batch: expected a multiple of {programs.rows_multiple} (data x fsdp of the mesh), "
                           f"found {drawing.rows}.")
        lowered, arguments = generation_costs.lower_program(programs, program, drawing)
        return DrawingProgram(lowered, state, arguments)
