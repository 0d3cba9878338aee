"""What BAGEL's work amounts to; see `srum_jax.families.costs.Costs`."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.generation_costs import generation_costs, reward_costs
from srum_jax.families.bagel.generation_programs import (
    PROGRAMS,
    REWARD_PROGRAMS,
    GenerationShape,
    program_arguments,
    question_tokens,
    reward_arguments,
)
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.bagel.step_costs import RowStatistics, full_row, row_statistics
from srum_jax.families.bagel.step_flops import count_pack, step_flops
from srum_jax.families.costs import Cost, Drawing
from srum_jax.families.model_costs import ModelCosts
from srum_jax.inference.programs import Programs
from srum_jax.inference.settings import TextSampler
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import RELEASED, BagelConfig


class BagelCosts(ModelCosts):
    """The costs of BAGEL."""

    search_order = ("denoise", "decode", "prefill", "pixels")
    image_programs = ("prefill", "denoise", "pixels")
    text_program = "decode"

    architecture = BAGEL
    float32 = ("vae.",)
    released: ClassVar = {"": RELEASED}
    drawn_by = PROGRAMS
    rewarded_by = REWARD_PROGRAMS

    def step_flops(self, config: BagelConfig, batch: PackedBatch,
                   trained: Mapping[str, tuple[int, ...]] | None = None) -> float:
        """See `step_flops.step_flops`."""
        return step_flops(config, count_pack(batch), trained)

    def full_row(self, rows: BagelRows, config: BagelConfig, prompt_tokens: int, *, block: int,
                 seq: int) -> RowStatistics:
        """See `step_costs.full_row`."""
        return row_statistics(config, full_row(rows, config, prompt_tokens), block, seq)

    def check(self, config: BagelConfig, drawing: Drawing) -> None:
        """Refuses sides that the autoencoder cannot make."""
        _shape(drawing).check(config)

    def side(self, config: BagelConfig) -> int:
        """The largest that the table of latent positions has room for."""
        return config.max_latent_size * config.latent_stride

    def prompt_slots(self, drawing: Drawing) -> int:
        """Of the context."""
        return _shape(drawing).prompt_slots

    def drawing_costs(self, config: BagelConfig, drawing: Drawing) -> dict[str, Cost]:
        """See `generation_costs.generation_costs`."""
        return generation_costs(config, _shape(drawing))

    @staticmethod
    def arguments(programs: Programs, program: str, drawing: Drawing) -> tuple:
        """See `ModelCosts`."""
        if program in REWARD_PROGRAMS:
            return reward_arguments(programs, program, _shape(drawing), drawing.draws)
        return program_arguments(programs, program, _shape(drawing))

    def question_tokens(self, config: BagelConfig, drawing: Drawing) -> int:
        """See `generation_programs.question_tokens`."""
        return question_tokens(config, _shape(drawing))

    def reward_costs(self, config: BagelConfig, drawing: Drawing) -> dict[str, Cost]:
        """See `generation_costs.reward_costs`."""
        return reward_costs(config, _shape(drawing), drawing.draws)


def _shape(drawing: Drawing) -> GenerationShape:
    sampler = drawing.sampler
    if sampler is None:
        published = FlowSampler().of_edits() if drawing.editing else FlowSampler()
        sampler = dataclasses.replace(published, num_timesteps=drawing.num_timesteps)
    return GenerationShape(drawing.rows, drawing.prompt_tokens, drawing.height, drawing.width, sampler,
                           TextSampler(drawing.max_tokens))
