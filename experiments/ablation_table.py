"""The table of SRUM's Figure 3 from evaluation results: each ablation against the full method, with intervals.

    python -m experiments.ablation_table full=runs/eval/full base=runs/eval/base sft=runs/eval/sft no_global=...

Each NAME=DIR is the folder of `python -m srum_jax.evaluate --benchmark t2i_compbench` of one model. The published
column is in points of the overall number against SRUM without plan, read off the project page's figure.
"""

import sys
from collections.abc import Sequence

from experiments._evaluations import print_table, read_evaluations
from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import OVERALL

FULL = "full"
# Points against the full method; the one of the sparse reward does not fit its own bar in the figure.
PUBLISHED = {"no_global": "-1.34", "no_reference": "-0.94", "sparse": "-1.69 (unconfirmed)", "sft": "-1.84",
             "base": "-4.37"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return print_table(table, argv, prog="python -m experiments.ablation_table", description=__doc__,
                       names=f"one is named {FULL}; known names: {', '.join(PUBLISHED)}")


def table(results: Sequence[str]) -> str:
    """The table in Markdown.

    Args:
      results: NAME=DIR of each model.

    Raises:
      BadInput: a result is absent or incomplete, or two cannot be compared.
    """
    found = read_evaluations(results)
    if FULL not in found:
        raise BadInput(f"expected {FULL}=DIR, the full method that the others are compared with, found "
                       f"{', '.join(found)}.")
    lines = ["| method | overall | against full | 95 % interval | published |", "|---|---|---|---|---|"]
    for name, evaluation in found.items():
        row = [name, f"{evaluation.results['scores'][OVERALL]:.2f}", "", "", PUBLISHED.get(name, "")]
        if name != FULL:
            difference = evaluation.against(found[FULL])[OVERALL]
            row[2:4] = f"{difference['difference']:+.2f}", f"[{difference['low']:+.2f}, {difference['high']:+.2f}]"
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
