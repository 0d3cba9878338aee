"""What a benchmark is: pure functions from its files to items, to questions, to scores. None of them reads or writes.

    items   the benchmark's own files            -> what is drawn or asked
    calls   an item and one of its images        -> questions to a judge; a later one may depend on a reply
    read    an item and the judge's replies      -> its score, or why it has none
    totals  all items                            -> which means of scores are reported, and with what weights
"""

import abc
import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar

from srum_jax.generation.records import GenerationRecord
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplate

OVERALL = "overall"


@dataclasses.dataclass(frozen=True)
class EvalItem:
    """One prompt, or one question.

    Attributes:
      id: unique in the benchmark; letters, digits, dot, underscore and hyphen.
      category: whose mean it enters.
      prompt: as drawn, or as asked.
      extra: what only this benchmark has; plain JSON values.
    """

    id: str
    category: str
    prompt: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class JudgeReply:
    """What a judge said, as it is stored.

    Attributes:
      kind: of the call.
      attempt: from 1.
      text: the whole reply.
      finish_reason: "stop", "length" (the token limit was reached) or "non_finite" (the model's numbers were none).
    """

    kind: str
    attempt: int
    text: str
    finish_reason: str


@dataclasses.dataclass(frozen=True)
class ItemScore:
    """What an item is worth.

    Attributes:
      item_id: of the item.
      category: likewise.
      values: by name; every item of a category has the same names. Empty where it failed.
      failed: whether the replies could not be read.
      why: of a failure.
    """

    item_id: str
    category: str
    values: Mapping[str, float]
    failed: bool = False
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Term:
    """The mean over a category's items of one value, and its weight in a total."""

    category: str
    value: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Total:
    """A number that is reported: a weighted sum of means."""

    name: str
    terms: tuple[Term, ...]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How a benchmark's images are drawn (spec: evaluation, section 1), where the command line says nothing else.

    Attributes:
      images_per_prompt: of each item.
      batch_size: images made together.
      think: whether a plan is written first.
      settings: of the sampler, by dotted name as for `--set`; those that a family's sampler does not have are left out.
    """

    images_per_prompt: int = 1
    batch_size: int = 8
    think: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


Conversation = Generator[Call, Reply, Any]


@dataclasses.dataclass(frozen=True)
class Benchmark(abc.ABC):
    """One benchmark under one protocol; see `registry`.

    Attributes:
      name: as on the command line.
      protocols: that it has, the first being the default, and our file with the question; None: its own words.
      placeholders: that the question must hold.
      max_new_tokens: of a reply; 0: the question is not asked in words.
      drawing: None where the images are given.
      images_per_item: expected of each item.
      failures: what a failed item counts as, by the name of the rule, the first being the default; None: it is left
        out. Empty: a failure makes the run incomplete.
      official_counts: items of each category in the benchmark's own files; a run of other files says so.
      judge: who is asked if the command line says nothing.
      checkpoint: what draws if the command line says nothing.
      protocol: what must agree for two results to share a table.
      template: the question to the judge.
      drawn_as: steps and "think" or "no_think", for layouts that say them in names of folders.
    """

    name: ClassVar[str]
    protocols: ClassVar[Mapping[str, str | None]]
    placeholders: ClassVar[tuple[str, ...]] = ()
    max_new_tokens: ClassVar[int] = 0
    drawing: ClassVar[Drawing | None] = None
    images_per_item: ClassVar[int] = 1
    failures: ClassVar[Mapping[str, float | None]] = {}
    official_counts: ClassVar[Mapping[str, int]] = {}
    judge: ClassVar[str | None] = None
    checkpoint: ClassVar[str | None] = None

    protocol: str
    template: JudgeTemplate
    drawn_as: str = ""

    @abc.abstractmethod
    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """The items of the benchmark's files, in their order.

        Args:
          files: contents by name; empty for the benchmark's own.

        Raises:
          BadInput: naming the file, the entry, the field, what was expected and what was found.
        """

    @abc.abstractmethod
    def image(self, item: EvalItem, number: int) -> str:
        """Where an image lies below the folder of images, in the layout that the official scorer expects."""

    def beside_images(
        self, items: Sequence[EvalItem], records: Mapping[tuple[str, int], GenerationRecord]
    ) -> Mapping[str, bytes]:
        """Files that the official layout has besides images, by path below their folder.

        Args:
          items: all.
          records: of the images that were drawn, by item and number.
        """
        return {}

    @abc.abstractmethod
    def calls(self, item: EvalItem, number: int) -> Conversation:
        """Asks about one image of an item."""

    @abc.abstractmethod
    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """The score of an item from the replies about each of its images. What cannot be read is a failure."""

    @abc.abstractmethod
    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """What is reported; the one named "overall" is the benchmark's number."""

    def tables(
        self, items: Sequence[EvalItem], scores: Mapping[str, ItemScore],
        replies: Mapping[str, Sequence[Sequence[JudgeReply]]], results: Mapping[str, Any],
    ) -> Mapping[str, bytes]:
        """Files in the form of the official scorer, by name.

        Args:
          items: all.
          scores: of the items that have been judged.
          replies: that they were read from.
          results: the contents of `results.json`.
        """
        return {}

    def ask(
        self,
        kind: str,
        text: str,
        item: EvalItem,
        number: int,
        readable: Callable[[str], object] = lambda reply: True,
        *,
        attempts: int = 1,
        reminder: str = "",
        history: tuple[tuple[str, str], ...] = (),
        template: JudgeTemplate | None = None,
    ) -> Generator[Call, Reply, Reply]:
        """Yields greedy calls, takes replies; returns the first that can be read, or the last.

        Args:
          kind: of the call.
          text: the question.
          item: that is shown.
          number: of its image.
          readable: whether a reply can be read.
          attempts: at most.
          reminder: of the form of a reply, put behind the question from the second attempt on.
          history: questions before, and what the judge answered.
          template: that the question was made from, and whose token limit holds; None: the benchmark's.
        """
        made_from = self.template if template is None else template
        for attempt in range(1, attempts + 1):
            asked = text if attempt == 1 else f"{text}\n\n{reminder}"
            reply = yield Call(kind, attempt, asked, made_from.max_new_tokens, False, None, 0, made_from.sha256,
                               subject_id(item, number), history)
            if readable(reply.text):
                break
        return reply


def subject_id(item: EvalItem, number: int) -> str:
    """Names an image of an item to a judge, as in `Call.subject_id`."""
    return f"{item.id}/{number}"


def last_reply(replies: Sequence[JudgeReply], kind: str) -> str:
    """The text of the last attempt of a call; empty if it was never made."""
    texts = [reply.text for reply in replies if reply.kind == kind]
    return texts[-1] if texts else ""


def category_totals(items: Sequence[EvalItem], value: str = "score") -> tuple[Total, ...]:
    """The mean of each category, in the order of the items."""
    return tuple(Total(category, (Term(category, value),)) for category in dict.fromkeys(i.category for i in items))


def equal_weights(categories: Sequence[str], value: str = "score") -> tuple[Term, ...]:
    """The plain mean of categories' means."""
    return tuple(Term(category, value, 1 / len(categories)) for category in categories)
