"""Who can propose regions on the page, and what is kept of what they propose."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from srum_jax.demo.settings import DemoSettings
from srum_jax.generation.prompts import Prompt
from srum_jax.judges.own_model import ModelJudge
from srum_jax.regions.components import Components
from srum_jax.regions.grounding import BoxFrame, Grounding, Pictured
from srum_jax.regions.sam import Sam
from srum_jax.rewards.proposals import Proposal, clean_proposals


class Proposing:
    """The providers of a page, each opened when it is first asked.

    Attributes:
      absent: providers that cannot be asked, and why.
    """

    def __init__(self, settings: DemoSettings, judge: ModelJudge, frame: BoxFrame | None):
        """Remembers how regions are proposed.

        Args:
          settings: of the page.
          judge: the model, for grounding.
          frame: in which pixels it names boxes; None: it does not.
        """
        self._settings = settings
        self._open: dict[str, Callable[[], Any]] = {"components": lambda: Components(settings.components)}
        self.absent: dict[str, str] = {}
        if settings.sam_model is not None:
            self._open["sam"] = lambda: Sam(settings.sam_model, settings.sam)
        else:
            self.absent["sam"] = "no Segment Anything was given: start with --sam-model DIR."
        if frame is not None:
            self._open["grounding"] = lambda: Grounding(judge, frame, settings.grounding, settings.judge_templates)
        else:
            self.absent["grounding"] = "this model was not trained to name boxes."
        self._opened: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Providers that can be asked, the best first."""
        first = [name for name in (self._settings.provider, "sam", "grounding", "components") if name in self._open]
        return list(dict.fromkeys(first))

    def propose(self, name: str, pictures: Sequence[np.ndarray], prompt: Prompt) -> list[list[Proposal]]:
        """Regions of each picture uint8 [H, W, 3], largest first.

        Raises:
          BadInput: what the provider needs is not installed. WeightsError: its checkpoint cannot be used.
        """
        if name not in self._opened:
            self._opened[name] = self._open[name]()
        provider = self._opened[name]
        if name == "grounding":
            pictured = [Pictured(prompt.record_id(number), pixels, prompt.prompt, prompt.keywords)
                        for number, pixels in enumerate(pictures)]
            found = [line["proposals"] for line in provider.propose(pictured)]
        else:
            found = [provider.propose(pixels) for pixels in pictures]
        settings = self._settings
        return [clean_proposals(raw, pixels.shape[1], pixels.shape[0], max_candidates=settings.max_candidates,
                                min_area=settings.min_area, max_share=settings.max_share)[0]
                for raw, pixels in zip(found, pictures, strict=True)]
