"""The world of shapes as a benchmark: held-out sentences, marked by the oracle or by any other judge.

    python -m srum_jax.evaluate --benchmark shapes --stage all --dtype float32 --out runs/shapes

It downloads nothing and takes the same path as the others. `fits` is the share of pictures that show all that was asked
for and nothing else; `score` the mean of the levels that a judge gives, in [-1, 1].
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import (
    OVERALL,
    Benchmark,
    Conversation,
    Drawing,
    EvalItem,
    ItemScore,
    JudgeReply,
    Total,
    category_totals,
    equal_weights,
    last_reply,
)
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_templates import JudgeTemplate
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.oracle import judge_image
from srum_jax.worlds.shapes.prompt_set import balanced_prompts
from srum_jax.worlds.shapes.prompts import parse_prompt, prompt_text
from srum_jax.worlds.shapes.questions import SCORE_LEVELS, read_score, whole_answer, whole_question
from srum_jax.worlds.shapes.scene import CATEGORIES

_PER_CATEGORY, _SEED = 8, 1001
_CALL = "score"


class Shapes(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "shapes"
    protocols: ClassVar[Mapping[str, str | None]] = {"shapes-1": None}
    drawing: ClassVar[Drawing] = Drawing(batch_size=64, settings={
        "sampler.num_timesteps": "25", "sampler.shift": "3.0", "sampler.guidance.text_scale": "2.0",
        "sampler.guidance.interval": "0.0,1.0",  # of the tiny BAGEL; then those of the tiny Janus-Pro
        "sampler.guidance": "1.5", "sampler.temperature": "0.8"})
    official_counts: ClassVar[Mapping[str, int]] = dict.fromkeys(CATEGORIES, _PER_CATEGORY)
    judge: ClassVar[str] = "oracle"

    @functools.cached_property
    def checkpoint(self) -> str:
        """What draws if the command line says nothing: the base that ships with the package."""
        return str(trained_base())

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Eight held-out sentences of each category; or those of a file, a JSON array as `prompt_set` writes it."""
        if not files:
            prompts = balanced_prompts(_PER_CATEGORY, _SEED, held_out=True)
            return tuple(EvalItem(f"{number:03d}", prompt.category, prompt_text(prompt))
                         for number, prompt in enumerate(prompts))
        items = []
        for name, data in files.items():
            for number, row in enumerate(json.loads(data)):
                for field in ("Question", "Category", "Question_id"):
                    if not isinstance(row, dict) or field not in row:
                        raise BadInput(f"{name}: entry {number}: field '{field}': expected it, found none.")
                parse_prompt(row["Question"])
                items.append(EvalItem(str(row["Question_id"]), row["Category"], row["Question"]))
        return tuple(items)

    def image(self, item: EvalItem, number: int) -> str:
        """A folder for each category."""
        return f"{item.category}/{item.id}.png"

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """One question, in the world's own words."""
        template = JudgeTemplate(whole_question("$prompt"), 16)
        yield from self.ask(_CALL, whole_question(item.prompt), item, number, template=template)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """The level that was said; the best one means that the picture fits."""
        text = last_reply(replies[0], _CALL)
        level = read_score(text)
        if level is None or not SCORE_LEVELS[0] <= level <= SCORE_LEVELS[-1]:
            return ItemScore(item.id, item.category, {}, True, f"expected a score in [-1, 1], found {text[:60]!r}")
        return ItemScore(item.id, item.category, {"fits": float(level == SCORE_LEVELS[-1]), "score": level})

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Share of fitting pictures by category and in all, and the mean level."""
        categories = list(dict.fromkeys(item.category for item in items))
        return (*category_totals(items, "fits"), Total("mean_score", equal_weights(categories)),
                Total(OVERALL, equal_weights(categories, "fits")))


class OracleJudge:
    """Answers the world's questions from the pixels, without a model."""

    id: ClassVar[str] = "oracle"
    revision: ClassVar[str] = "shapes-1"

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `judges.protocol.Judge`."""
        return [Reply(self._answer(pixels, call.text), 1, True) for pixels, call in calls]

    def _answer(self, pixels: np.ndarray, text: str) -> str:
        start = whole_question("")
        if not text.startswith(start):
            raise BadInput(f"--judge oracle: expected a question such as {whole_question('a red circle')!r}, found "
                           f"{text[:80]!r}.")
        return whole_answer(judge_image(text.removeprefix(start), pixels))
