"""The study's tables, in Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from experiments._tiny_study.marks import Marks
from experiments._tiny_study.statistics import Interval, difference, mean_interval
from srum_jax.storage.atomic_file import write_text
from srum_jax.worlds.shapes.scene import CATEGORIES, Prompt

BASE, SFT = "base", "sft"

# Marks of a model, one entry per training run; those of the base under the same noise.
MarksOfModels = Mapping[str, Sequence[Marks]]


def stacked(runs: Sequence[Marks], name: str) -> np.ndarray:
    """Float64 [S, P]: one kind of mark, of all runs."""
    return np.stack([getattr(run, name) for run in runs])


def overall_table(models: MarksOfModels, guidance: Mapping[str, float]) -> str:
    """A row per model: share of pictures that fit, the oracle's mean score, differences to base and SFT.

    Intervals are over prompts; how much training runs differ is in the last columns, run by run.
    """
    rows = [["model", "guidance", "fits, %", "against base", "against SFT", "score", "against base", "well formed, %",
             "runs, fits %", "runs, against SFT"]]
    for name, runs in models.items():
        fit, score = stacked(runs, "fit"), stacked(runs, "score")
        row = [name, f"{guidance[name]:g}", percent(mean_interval(fit))]
        for other in (BASE, SFT):
            row.append("" if name == other or other not in models else
                       points(difference(fit, stacked(models[other], "fit"))))
        row.append(_plain(mean_interval(score)))
        row.append("" if name == BASE else _plain(difference(score, stacked(models[BASE], "score")), signed=True))
        row.append(percent(mean_interval(stacked(runs, "well_formed"))))
        row.append(" ".join(f"{100 * value:.1f}" for value in fit.mean(axis=1)))
        row.append("" if name == SFT or SFT not in models else " ".join(
            f"{100 * value:+.1f}" for value in (fit - stacked(models[SFT], "fit")).mean(axis=1)))
        rows.append(row)
    return markdown(rows)


def category_table(models: MarksOfModels, prompts: Sequence[Prompt], mark: str = "fit") -> str:
    """A row per model, a column per category: the mean of one mark with its interval."""
    rows = [["model", *CATEGORIES]]
    columns = {category: [p.category == category for p in prompts] for category in CATEGORIES}
    show = percent if mark == "fit" else _plain
    for name, runs in models.items():
        marks = stacked(runs, mark)
        rows.append([name, *(show(mean_interval(marks[:, chosen])) for chosen in columns.values())])
    return markdown(rows)


def write_tables(out: epath.Path, tables: Mapping[str, str], over: str) -> None:
    """Writes tables, by title, to `OUT/table.md`, and prints them; `over`: what their intervals are over."""
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in tables.items())
    write_text(out / "table.md", text + "\n")
    print(f"\n{text}\n\nBrackets: 95 % intervals over {over}. An asterisk: zero lies outside.\n{out}: table.md")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: Interval) -> str:
    """A share with its interval, in %."""
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def points(value: Interval) -> str:
    """A difference of shares in percentage points; an asterisk if zero lies outside."""
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]{'*' if value.clear else ''}"


def _plain(value: Interval, signed: bool = False) -> str:
    sign, star = "+" if signed else "", "*" if signed and value.clear else ""
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]{star}"
