"""What generators and answerers of all families have in common: a loaded model, and a reader of its requests."""

import copy
import dataclasses
from typing import Any, Self

from flax import nnx

from srum_jax.inference.opened import Opened
from srum_jax.inference.protocols import Checker
from srum_jax.inference.requests import Answer, ImageRequest, Question
from srum_jax.inference.templates import split_thought
from srum_jax.inference.text_decoding import DecodedText


class LoadedModel:
    """A `Checker` that has its weights.

    Attributes:
      opened: the checkpoint.
      programs: of the model.
      reader: checks requests, and reads them as the model is given them.
    """

    def __init__(self, opened: Opened, reader: Checker):
        self.opened, self.programs, self.reader = opened, opened.programs, reader

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return self.reader.default_size

    def check(self, request: ImageRequest | Question) -> None:
        """See `Checker`."""
        self.reader.check(request)

    def answers(self, decoded: DecodedText, count: int, *, think: bool, allow_non_finite: bool) -> list[Answer]:
        """The first texts of a batch as answers; arguments and exceptions as of `Answerer.answer`."""
        if not allow_non_finite:
            decoded.check_finite()
        answers = []
        for row in range(count):
            raw = self.opened.tokenizer.decode(decoded.ids_of(row))
            thought, text = split_thought(raw) if think else (None, raw.strip())
            answers.append(Answer(text, thought, not decoded.finished[row], len(decoded.ids_of(row)), raw,
                                  bool(decoded.healthy[row])))
        return answers


class LoadedGenerator(LoadedModel):
    """A `Generator` but for `generate`.

    Attributes:
      sampler: of images, of the family's kind.
    """

    def __init__(self, opened: Opened, reader: Checker, sampler: Any):
        super().__init__(opened, reader)
        self.sampler = sampler

    @property
    def rows_multiple(self) -> int:
        """See `Generator`."""
        return self.programs.rows_multiple

    def with_parameters(self, parameters: nnx.State) -> Self:
        """See `Generator`."""
        other = copy.copy(self)
        other.programs = self.programs.with_parameters(parameters)
        other.opened = dataclasses.replace(self.opened, programs=other.programs)
        return other

    def with_sampler(self, sampler: Any) -> Self:
        """The same model, sampled otherwise."""
        other = copy.copy(self)
        other.sampler = sampler
        return other
