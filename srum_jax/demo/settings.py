"""How the models of a page draw, judge, and would be trained. Imports no array library."""

import dataclasses
from typing import TYPE_CHECKING, Any

from srum_jax.inference.settings import TextSampler
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import JudgeSettings

if TYPE_CHECKING:
    from srum_jax.data.config import Rows
    from srum_jax.regions.components import ComponentsConfig
    from srum_jax.regions.grounding import GroundingConfig
    from srum_jax.regions.sam import SamConfig


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """Everything but the checkpoints themselves.

    Attributes:
      sampler: of pictures, of the family's kind.
      plan: how plans are written.
      answer: how answers are written.
      provider: of regions, the first choice of the page; None: the best that there is.
      sam_model: directory of a Segment Anything, or None.
      sam, grounding, components: of the providers.
      max_candidates, min_area, max_share: what is kept of proposals, see `clean_proposals`.
      judge: how pictures are judged.
      judge_templates: what is asked.
      judge_batch_size: calls that are answered together.
      objective: whose weights are shown.
      rows: how training lays pictures out; None: with the family's defaults.
      examples: prompts to choose from.
      think: whether plans are written unless the visitor says otherwise.
    """

    sampler: Any
    plan: TextSampler
    answer: TextSampler
    provider: str | None
    sam_model: str | None
    sam: "SamConfig"
    grounding: "GroundingConfig"
    components: "ComponentsConfig"
    max_candidates: int
    min_area: int
    max_share: float
    judge: JudgeSettings
    judge_templates: JudgeTemplates
    judge_batch_size: int
    objective: RewardWeighted
    rows: "Rows | None" = None
    examples: tuple[str, ...] = ()
    think: bool = False
