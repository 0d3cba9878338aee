"""The study's plot: a row per model, its share of pictures that fit with and without guidance."""

from collections.abc import Mapping, Sequence

import matplotlib
from etils import epath
from matplotlib.figure import Figure

from experiments._tiny_study.marks import Marks
from experiments._tiny_study.statistics import mean_interval
from experiments._tiny_study.table import BASE, stacked
from srum_jax.storage.atomic_file import atomic_write

_ROW = 0.32  # inches


def write_plot(path: epath.Path, curves: Mapping[str, Mapping[str, Sequence[Marks]]]) -> None:
    """Writes a PNG: means with 95 % intervals; small dots are single runs, dashed lines the base.

    Args:
      path: of the file.
      curves: by the name of a way of drawing, the marks of all models; equal models in each.
    """
    names = list(next(iter(curves.values())))
    figure = Figure(figsize=(7, 1.6 + _ROW * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for number, (label, models) in enumerate(curves.items()):
        color, shift = matplotlib.color_sequences["tab10"][number], 0.12 * (2 * number - len(curves) + 1)
        places = [row + shift for row in range(len(names))]
        found = [mean_interval(stacked(models[name], "fit")) for name in names]
        errors = [[100 * (f.mean - f.low) for f in found], [100 * (f.high - f.mean) for f in found]]
        means = [100 * f.mean for f in found]
        axes.errorbar(means, places, xerr=errors, fmt="o", color=color, label=label, markersize=5)
        for place, name in zip(places, names, strict=True):
            runs = 100 * stacked(models[name], "fit").mean(axis=1)
            axes.plot(runs, [place] * len(runs), ".", color=color, alpha=0.5, markersize=4)
        if BASE in names:
            axes.axvline(means[names.index(BASE)], color=color, linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("held-out sentences whose picture shows all that was asked for, %")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
