"""Marks of pictures drawn with and without plans, and how good the plans are; everything is kept in files."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_bases import measure
from experiments._tiny_bases.bases import BASES
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.marks import Marks, load_marks, save_marks
from experiments._tiny_study.planned_drawing import PLAN, draw_with_plans, true_plans, write_plans
from experiments._tiny_study.statistics import difference, mean_interval
from experiments._tiny_study.table import markdown, percent, points
from experiments._tiny_think.plans import THINK_TEMPLATES, PlanError, plan_fits
from srum_jax.inference.templates import Templates
from srum_jax.pipeline import Pipeline
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes.prompts import prompt_text
from srum_jax.worlds.shapes.scene import CATEGORIES, Prompt

BASE, CONTROL, THINKER = "base", "control", "thinker"
NO_PLAN, OWN_PLAN, TRUE_PLAN = "none", "its own", "the true one"
# What is examined: model and plan. The control comes right before what is compared with it.
WAYS = ((BASE, NO_PLAN), (CONTROL, NO_PLAN), (THINKER, NO_PLAN), (THINKER, OWN_PLAN), (THINKER, TRUE_PLAN))
_GREEDY, _SAMPLED = "most likely words", "sampled, temperature 1"
LazyPipeline = Callable[[], Pipeline]  # loaded when something has to be drawn


@dataclasses.dataclass(frozen=True)
class Exam:
    """Prompts, noise and a folder for what was found."""

    folder: epath.Path
    prompts: Sequence[Prompt]
    seed: int  # of the noise

    def marks(self, model: str, plan: str, guidance: float, pipeline: LazyPipeline) -> Marks:
        """Of one picture per prompt, drawn now or before."""
        path = self.folder / f"{model}-{plan.replace(' ', '-')}-{guidance:g}.json"
        found = load_marks(path, self.prompts)
        if found is None:
            found = Marks.of(self.prompts, self._draw(plan, guidance, pipeline()))
            save_marks(path, self.prompts, found, guidance=guidance)
        print(f"{model}, plan: {plan}, guidance {guidance:g}: {100 * found.fit.mean():.1f} % fit, "
              f"{100 * found.well_formed.mean():.1f} % well formed", flush=True)
        return found

    def _draw(self, plan: str, guidance: float, pipeline: Pipeline) -> list[np.ndarray]:
        sampler = BASES["bagel"].sampler(guidance)
        if plan == TRUE_PLAN:
            plans = true_plans(self.prompts, self.seed)
            return draw_with_plans(pipeline, self.prompts, plans, sampler, self.seed)
        return measure.draw(pipeline, self.prompts, sampler, self.seed, PLAN if plan == OWN_PLAN else None)

    def plans(self, pipeline: LazyPipeline) -> dict[str, list[str]]:
        """The thinker's plans by the way in which they were written, in the order of the prompts."""
        path, prompts = self.folder / "plans.json", [prompt_text(prompt) for prompt in self.prompts]
        if not path.exists():
            sampled = dataclasses.replace(PLAN, temperature=1.0)
            written = {name: write_plans(pipeline(), self.prompts, how, self.seed)
                       for name, how in ((_GREEDY, PLAN), (_SAMPLED, sampled))}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"prompts": prompts, "plans": written})
        found = json.loads(path.read_text())
        if found["prompts"] != prompts:
            raise SettingsError(f"{path}: holds plans for other prompts; choose another --out.")
        return found["plans"]


def lazy_pipeline(checkpoint: epath.PathLike) -> LazyPipeline:
    """Loads a checkpoint when it is called for the first time, with the templates of this world."""
    return functools.cache(lambda: measure.load_tiny(checkpoint, templates=Templates.read(THINK_TEMPLATES)))


def pictures_table(found: Mapping[tuple[str, str], Mapping[float, Marks]]) -> str:
    """A row per model and plan: shares that fit and are well formed, by guidance; differences to the control."""
    scales = list(next(iter(found.values())))
    rows = [["model", "plan", *(head for scale in scales for head in
                                (f"guidance {scale:g}: fits, %", "against control", "well formed, %"))]]
    for (model, plan), marks in found.items():
        row = [model, plan]
        for scale in scales:
            fit, control = marks[scale].fit[None], found[CONTROL, NO_PLAN][scale].fit[None]
            row.append(percent(mean_interval(fit)))
            row.append("" if model == CONTROL else points(difference(fit, control)))
            row.append(f"{100 * marks[scale].well_formed.mean():.1f}")
        rows.append(row)
    return markdown(rows)


def category_table(
    found: Mapping[tuple[str, str], Mapping[float, Marks]], prompts: Sequence[Prompt], guidance: float
) -> str:
    """Share that fits by category, one guidance scale."""
    rows = [["model", "plan", *CATEGORIES]]
    for (model, plan), marks in found.items():
        rows.append([model, plan, *_by_category(marks[guidance].fit, prompts)])
    return markdown(rows)


def plans_table(plans: Mapping[str, Sequence[str]], prompts: Sequence[Prompt]) -> str:
    """A row per way of writing: plans that can be read, and plans that agree with their prompt, also by category."""
    rows = [["words", "well formed, %", "right, %", *(f"right, {category}, %" for category in CATEGORIES)]]
    for name, texts in plans.items():
        verdicts = [verdict(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        right = np.array([v is True for v in verdicts], float)
        rows.append([name, f"{100 * np.mean([v is not None for v in verdicts]):.1f}",
                     percent(mean_interval(right[None])), *_by_category(right, prompts)])
    return markdown(rows)


def verdict(prompt: Prompt, plan: str) -> bool | None:
    """Whether a plan fits its prompt; None if it is none."""
    try:
        return plan_fits(prompt, plan)
    except PlanError:
        return None


def picture_given_plan(plans: Sequence[str], prompts: Sequence[Prompt], marks: Marks) -> str:
    """How often a picture fits where its plan does, and where not."""
    right = np.array([verdict(prompt, plan) is True for prompt, plan in zip(prompts, plans, strict=True)])
    shares = [f"{100 * marks.fit[chosen].mean():.1f} % of {chosen.sum()}" if chosen.any() else "none of 0"
              for chosen in (right, ~right)]
    return f"Pictures that fit: {shares[0]} with a right plan, {shares[1]} with another."


def _by_category(values: np.ndarray, prompts: Sequence[Prompt]) -> list[str]:
    columns = ([prompt.category == category for prompt in prompts] for category in CATEGORIES)
    return [f"{100 * values[chosen].mean():.0f}" for chosen in columns]
