"""What generators and answerers of all families have in common: a loaded model, and a reader of its requests."""

import abc
import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax
import numpy as np
from flax import nnx

from srum_jax.inference.batch_shapes import filled
from srum_jax.inference.opened import Opened, SmallFiles
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.request_checks import ModelReader
from srum_jax.inference.requests import Answer, ImageRequest, Question, each_read
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import split_thought
from srum_jax.inference.text_decoding import DecodedText


class LoadedModel:
    """A `Checker` that has its weights; without its vision tower it sees no pictures.

    Attributes:
      opened: the checkpoint.
      programs: of the model.
      reader: checks requests, and reads them as the model is given them.
    """

    reads: ClassVar[Callable[[SmallFiles], ModelReader]]  # of the family

    def __init__(self, opened: Opened):
        """Puts a loaded model to work."""
        self.opened, self.programs, self.reader = opened, opened.programs, type(self).reads(opened)

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return self.reader.default_size

    def check(self, request: ImageRequest | Question) -> None:
        """See `Checker`."""
        self.reader.check(request)


class LoadedAnswerer(LoadedModel, abc.ABC):
    """An `Answerer` but for how answers are written. Rows of a batch do not influence each other."""

    def answer(
        self,
        questions: Sequence[Question],
        *,
        sampler: TextSampler | None = None,
        think: bool = False,
        allow_non_finite: bool = False,
    ) -> list[Answer]:
        """See `Answerer`."""
        if not questions:
            return []
        read, active = filled(each_read(self.reader.question, questions), self.programs.rows_multiple)
        keys = random_keys([item.seed for item in read], Use.TEXT)
        decoded = self.programs.fetch(self._write(read, keys, active, sampler or TextSampler(), think))
        if not allow_non_finite:
            decoded.check_finite()
        answers = []
        for row in range(len(questions)):
            raw = self.opened.tokenizer.decode(decoded.ids_of(row))
            thought, text = split_thought(raw) if think else (None, raw.strip())
            answers.append(Answer(text, thought, not decoded.finished[row], len(decoded.ids_of(row)), raw,
                                  bool(decoded.healthy[row])))
        return answers

    @abc.abstractmethod
    def _write(self, read: list[Any], keys: jax.Array, active: np.ndarray, sampler: TextSampler, think: bool
               ) -> DecodedText:
        """Continues every question with a text.

        Args:
          read: questions as the reader returns them, a multiple of `programs.rows_multiple`.
          keys: one for each.
          active: bool [B], which of them were asked for.
          sampler: of the texts.
          think: whether the instruction to think goes before.
        """



class LoadedGenerator(LoadedModel):
    """A `Generator` but for `generate`.

    Attributes:
      sampler: of images, of the family's kind.
    """

    def __init__(self, opened: Opened, sampler: Any):
        """Puts a loaded model to work, with the part that makes pictures."""
        super().__init__(opened)
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
