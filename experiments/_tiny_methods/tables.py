"""The tables that the study of methods has and the tiny study has not."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_bases.measure import area_under_curve
from experiments._tiny_methods.scores import read_scores
from experiments._tiny_study.confirmation import Confirmation
from experiments._tiny_study.own_judgement import read_records
from experiments._tiny_study.statistics import difference
from experiments._tiny_study.table import BASE, SFT, MarksOfModels, markdown, percent, points, stacked
from srum_jax.worlds.shapes.scene import CATEGORIES

WORDS = "judge's word"


def choice_table(folder: epath.Path, files: Mapping[str, epath.Path], truth: epath.Path) -> str:
    """What each kind of score is worth for a choice among candidates, a row per kind.

    Args:
      folder: of the run of `make_rewards`.
      files: of scores, by kind.
      truth: those of the oracle, 1 for what fits.
    """
    records = list(read_records(folder))
    fits = np.array([read_scores(truth)[record.record_id] >= 1 for record in records])
    kinds = {WORDS: {record.record_id: record.global_score for record in records}}
    kinds |= {kind: read_scores(path) for kind, path in files.items()}
    groups: Mapping[int, list[int]] = collections.defaultdict(list)
    for number, record in enumerate(records):
        groups[record.index].append(number)
    categories = np.array([records[members[0]].category for members in groups.values()])
    rows = [["chosen by", "AUC, %", "AUC within a prompt, %", "best of K right, %",
             *(category for category in CATEGORIES if category in categories)]]
    share = np.array([fits[members].mean() for members in groups.values()])
    one = np.array([fits[members].any() for members in groups.values()])
    rows.append(["nothing: all candidates", "", "", *_shares(share, categories)])
    for kind, found in kinds.items():
        scores = np.array([found[record.record_id] for record in records])
        best = np.array([fits[members[int(np.argmax(scores[members]))]] for members in groups.values()])
        within = [area_under_curve(scores[members], fits[members]) for members in groups.values()
                  if 0 < fits[members].sum() < len(members)]
        rows.append([kind, f"{100 * area_under_curve(scores, fits):.1f}",
                     f"{100 * np.mean(within):.1f}" if within else "", *_shares(best, categories)])
    rows.append(["at least one of K is right", "", "", *_shares(one, categories)])
    return markdown(rows)


def runs_table(models: MarksOfModels, other: str = BASE) -> str:
    """A row per model, a column per run: the difference of its share that fits to another model's, with its interval.

    Intervals are over sentences within one run.
    """
    count = len(next(iter(models.values())))
    rows = [[f"against {other}", *(f"run {number}" for number in range(count)), "all runs"]]
    for name, runs in models.items():
        if name != other:
            fit, base = stacked(runs, "fit"), stacked(models[other], "fit")
            rows.append([name, *(points(difference(fit[[run]], base[[run]])) for run in range(count)),
                         points(difference(fit, base))])
    return markdown(rows)


def confirmation_tables(confirmation: Confirmation, names: Sequence[str]) -> dict[str, str]:
    """Of the second examination, by title; `names`: of models, the base among them."""
    fits = {name: confirmation.fits(name) for name in names}
    categories = {name: confirmation.categories == name for name in CATEGORIES if name in confirmation.categories}
    rows = [["model", "guidance", "fits, %", *categories]]
    for name, found in fits.items():
        means = (confirmation.interval(found, among).mean for among in categories.values())
        rows.append([name, f"{confirmation.guidance(name):g}", percent(confirmation.interval(found)),
                     *(f"{100 * mean:.1f}" for mean in means)])
    tables = {"Second examination, guidance chosen in the first": markdown(rows)}
    for ending, among in (("", slice(None)), (", sentences that are new to all examinations", confirmation.fresh)):
        for other in (BASE, SFT):
            if other in names:
                rows = [[f"against {other}", *(f"run {run}" for run in range(len(fits[other]))), "all runs"]]
                for name in names:
                    if name != other:
                        gain = fits[name] - fits[other]
                        rows.append([name, *(points(confirmation.interval(run, among)) for run in gain[:, None]),
                                     points(confirmation.interval(gain, among))])
                tables[f"Second examination, against {other}{ending}"] = markdown(rows)
    rows = [[f"against {BASE}", *categories]]
    for name in names:
        if name != BASE:
            gain = fits[name] - fits[BASE]
            rows.append([name, *(points(confirmation.interval(gain, among)) for among in categories.values())])
    tables[f"Second examination, against {BASE} by category"] = markdown(rows)
    return tables


def guidance_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The oracle's mean score on validation sentences under each guidance, a row per model; the best is bold."""
    scales = sorted({scale for found in scores.values() for scale in found}, key=float)
    rows = [["validation score", *(f"guidance {scale}" for scale in scales)]]
    for name, found in scores.items():
        best = max(found.values())
        rows.append([name, *(f"**{found[scale]:.3f}**" if found[scale] == best else f"{found[scale]:.3f}"
                             for scale in scales)])
    return markdown(rows)


def _shares(values: np.ndarray, categories: np.ndarray) -> list[str]:
    present = (category for category in CATEGORIES if category in categories)
    shares = [values.mean(), *(values[categories == category].mean() for category in present)]
    return [f"{100 * share:.1f}" for share in shares]
