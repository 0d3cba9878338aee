"""A checkpoint that is to be asked: its small files alone, or with its weights."""

import dataclasses
from typing import Any

from srum_jax.inference.programs import Programs
from srum_jax.inference.templates import Templates
from srum_jax.weights.tokenizer import Tokenizer

DEFAULT_MAX_PROMPT_TOKENS = 2048


@dataclasses.dataclass(frozen=True)
class SmallFiles:
    """What is known of a checkpoint before its weights are read, and how it is to be asked.

    Attributes:
      config: of the architecture.
      tokenizer: of the checkpoint.
      templates: instructions of think mode.
      max_prompt_tokens: longer prompts are refused.
      control_tokens: whether names of control tokens inside a prompt act as such, as in the families' own code; else
        they are text like any other.
      directory: of the checkpoint, for messages.
    """

    config: Any
    tokenizer: Tokenizer
    templates: Templates
    max_prompt_tokens: int = DEFAULT_MAX_PROMPT_TOKENS
    control_tokens: bool = False
    directory: str = ""

    def has(self, part: str) -> bool:
        """Whether the model has an optional part."""
        return getattr(self.config, part) is not None


@dataclasses.dataclass(frozen=True)
class Opened(SmallFiles):
    """A checkpoint whose weights lie on the devices.

    Attributes:
      programs: of the model on its mesh.
    """

    programs: Programs = dataclasses.field(kw_only=True)

    def has(self, part: str) -> bool:
        """Whether it was loaded, too."""
        return getattr(self.programs.model, part) is not None
