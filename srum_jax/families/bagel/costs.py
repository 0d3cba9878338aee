"""What BAGEL's work amounts to."""

from collections.abc import Mapping
from typing import ClassVar

from srum_jax.errors import BadInput
from srum_jax.families.bagel import generation_costs, generation_programs
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.step_costs import RowStatistics, full_row, row_statistics
from srum_jax.families.bagel.step_flops import count_pack, step_flops
from srum_jax.families.costs import Costs, Drawing
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import RELEASED, BagelConfig


class BagelCosts(Costs):
    """The costs of BAGEL."""

    architecture = BAGEL
    released: ClassVar = {"": RELEASED}
    drawn_by = generation_programs.PROGRAMS
    rewarded_by = generation_programs.REWARD_PROGRAMS
    search_order = ("denoise", "decode", "prefill", "pixels")
    image_programs = ("prefill", "denoise", "pixels")
    text_program = "decode"
    arguments = staticmethod(generation_programs.program_arguments)
    prompt_slots = staticmethod(generation_programs.prompt_slots)
    question_tokens = staticmethod(generation_programs.question_tokens)
    drawing_costs = staticmethod(generation_costs.generation_costs)
    reward_costs = staticmethod(generation_costs.reward_costs)

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
        for name in ("height", "width"):
            side = getattr(drawing, name)
            if side % config.latent_stride or not 0 < side <= self.side(config):
                raise BadInput(f"{name}: expected a multiple of {config.latent_stride} pixels, at most "
                               f"{self.side(config)}; found {side}.")

    def side(self, config: BagelConfig) -> int:
        """The largest that the table of latent positions has room for."""
        return config.max_latent_size * config.latent_stride
