"""Layout and detail at each step of sampling, as Figure 4 of SRUM shows them (spec: evaluation, section 10).

Step k of a picture is what the model has in view at its network evaluation k, x0_hat = x_t - t v decoded; the last step
is the finished picture. An item's images are its steps.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
    Term,
    Total,
    last_reply,
)
from srum_jax.evaluation.line_chart import line_chart
from srum_jax.evaluation.reply_objects import hundred_point_score
from srum_jax.evaluation.t2i_compbench import PARTS_OF_COMPLEX, REMINDER, csv_bytes, items_of_entries
from srum_jax.storage.atomic_file import as_json_lines

ASPECTS = ("layout", "detail")
PER_CATEGORY = 10  # the first of each
_MARK, _PARTS = "_steps_", "\n---\n"
_SHARE = 0.9  # of the final mean: the first step that reaches it is reported
_EARLY = 15  # the last step of the early area


def drawn_at(drawn_as: str, steps: Sequence[int] | None) -> str:
    """How images were drawn, with the chosen steps; `drawn_as` begins with the number of time points."""
    return drawn_as if steps is None else f"{drawn_as}{_MARK}{'.'.join(map(str, steps))}"


class PerStep(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "per_step"
    protocols: ClassVar[Mapping[str, str | None]] = {"srum_jax-1": "per_step.txt"}
    placeholders: ClassVar[tuple[str, ...]] = ("---", "$prompt")
    max_new_tokens: ClassVar[int] = 512
    drawing: ClassVar[Drawing] = Drawing(settings={"sampler.guidance.interval": "0.4,1.0"})

    @property
    def num_timesteps(self) -> int:
        """Points of time: one more than network evaluations."""
        text = self.drawn_as.partition("_")[0]
        if not text.isdigit() or int(text) < 2:
            raise BadInput("--benchmark per_step: expected a sampler with num_timesteps, found none.")
        return int(text)

    @property
    def steps(self) -> tuple[int, ...]:
        """Those that are judged; the last one is always the finished picture."""
        last = self.num_timesteps - 1
        _, chosen, text = self.drawn_as.partition(_MARK)
        steps = tuple(map(int, text.split("."))) if chosen else tuple(range(last + 1))
        if sorted(set(steps)) != list(steps) or steps[-1] != last or steps[0] < 0:
            raise BadInput(f"--steps: expected growing numbers that end with {last}, the finished picture; found "
                           f"{','.join(map(str, steps))}.")
        return steps

    @property
    def images_per_item(self) -> int:
        """One for each step."""
        return len(self.steps)

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """The first ten prompts of each category of a T2I-CompBench file."""
        if not files:
            raise BadInput("--prompts: expected val_comp.json, or a file of its form; found nothing.")
        taken: dict[str, list[EvalItem]] = {}
        for item in sorted(items_of_entries(files), key=lambda item: int(item.id)):
            members = taken.setdefault(item.category, [])
            if item.category not in PARTS_OF_COMPLEX and len(members) < PER_CATEGORY:
                members.append(item)
        return tuple(item for members in taken.values() for item in members)

    def image(self, item: EvalItem, number: int) -> str:
        """`<Question_id>/<step>.png`, three digits."""
        return f"{item.id}/{self.steps[number]:03d}.png"

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """Two questions, each by itself: for the layout, and for the details."""
        layout, _, detail = self.template.text.partition(_PARTS)
        for aspect, text in zip(ASPECTS, (layout, detail), strict=True):
            filled = dataclasses.replace(self.template, text=text).fill(prompt=item.prompt)
            yield from self.ask(aspect, filled, item, number,
                                lambda reply: hundred_point_score(reply, decimals=True) is not None, attempts=3,
                                reminder=REMINDER)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """Layout and detail of each step, in [0, 1]."""
        values = {}
        for step, found in zip(self.steps, replies, strict=True):
            for aspect in ASPECTS:
                text = last_reply(found, aspect)
                score = hundred_point_score(text, decimals=True)
                if score is None:
                    why = f"step {step}, {aspect}: expected a score from 0 to 100, found {text[:60]!r}"
                    return ItemScore(item.id, item.category, {}, True, why)
                values[f"{aspect}_{step}"] = score / 100
        return ItemScore(item.id, item.category, values)

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """The mean over items of each step; the overall number is that of layout and detail of finished pictures."""
        categories = list(dict.fromkeys(item.category for item in items))
        share = {name: sum(item.category == name for item in items) / len(items) for name in categories}

        def terms(value: str, weight: float = 1.0) -> tuple[Term, ...]:
            return tuple(Term(name, value, weight * share[name]) for name in categories)

        last = self.steps[-1]
        return (*(Total(f"{aspect}_{step}", terms(f"{aspect}_{step}")) for aspect in ASPECTS for step in self.steps),
                Total(OVERALL, (*terms(f"layout_{last}", 0.5), *terms(f"detail_{last}", 0.5))))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """Every score, means with standard errors, what follows from the curves, and a plot of them."""
        times = self.times((results["sampler"] or {}).get("shift"))
        lines = [{"model": results["model"]["id"], "item": item.id, "step": step, "t": times[step],
                  **{aspect: scores[item.id].values[f"{aspect}_{step}"] for aspect in ASPECTS}}
                 for item in items if item.id in scores and not scores[item.id].failed for step in self.steps]
        tables = {"per_step.jsonl": as_json_lines(lines)}
        if not results["complete"]:
            return tables
        means = {aspect: [results["scores"][f"{aspect}_{step}"] for step in self.steps] for aspect in ASPECTS}
        rows = [{"step": step, "t": times[step], **{
            f"{aspect}{ending}": means[aspect][place][field] for aspect in ASPECTS
            for ending, field in (("", "mean"), ("_stderr", "stderr"))}} for place, step in enumerate(self.steps)]
        curves = {aspect: [found["mean"] for found in means[aspect]] for aspect in ASPECTS}
        derived = {aspect: derived_numbers(self.steps, curve) for aspect, curve in curves.items()}
        return tables | {
            "per_step.csv": csv_bytes(tuple(rows[0]), rows),
            "derived.json": json.dumps(derived, indent=2).encode() + b"\n",
            "per_step.svg": line_chart({aspect: list(zip(self.steps, curve, strict=True))
                                        for aspect, curve in curves.items()}, "step", "score").encode(),
        }

    def times(self, shift: float | None) -> list[float | None]:
        """Time at each step, from 1 (noise) to 0, rounded to four places; None where the sampler's shift is unknown."""
        if shift is None:
            return [None] * self.num_timesteps
        even = [1 - step / (self.num_timesteps - 1) for step in range(self.num_timesteps)]
        return [round(shift * time / (1 + (shift - 1) * time), 4) for time in even]


def derived_numbers(steps: Sequence[int], curve: Sequence[float]) -> dict[str, Any]:
    """The first step that reaches 90 percent of the final mean, and the mean height before and after step 15.

    Args:
      steps: growing.
      curve: the mean at each.

    Returns:
      `first_step`, and `early` and `late`: area under the curve over the width, None where fewer than two steps lie.
    """
    def height(low: int, high: int) -> float | None:
        part = [(step, value) for step, value in zip(steps, curve, strict=True) if low <= step <= high]
        if len(part) < 2:
            return None
        x, y = np.array(part, float).T
        return float(np.trapezoid(y, x) / (x[-1] - x[0]))

    first = next(step for step, value in zip(steps, curve, strict=True) if value >= _SHARE * curve[-1])
    return {"first_step": first, "early": height(0, _EARLY), "late": height(_EARLY + 1, steps[-1])}
