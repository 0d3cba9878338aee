"""The table of SRUM's Figure 6 from evaluation results: trained on one group of WISE, measured on the two others.

    python -m experiments.wise_table base=eval/base culture=eval/culture spatio_temporal=... natural_science=...

Each NAME=DIR is the folder of `python -m srum_jax.evaluate --benchmark wise` of one model: the base, and one that was
trained on the prompts of the group that names it. With and without plan are two tables. The paper prints no values.
"""

import sys
from collections.abc import Sequence

from experiments._evaluations import print_table, read_evaluations
from srum_jax.errors import BadInput
from srum_jax.evaluation.wise import CATEGORIES, GROUPS

BASE = "base"
TRAINED_ON = (CATEGORIES[0], *GROUPS)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return print_table(table, argv, prog="python -m experiments.wise_table", description=__doc__,
                       names=f"names: {BASE}, {', '.join(TRAINED_ON)}")


def table(results: Sequence[str]) -> str:
    """The table in Markdown: two rows for each model that was trained, WiScores and their paired difference.

    Args:
      results: NAME=DIR of each model.

    Raises:
      BadInput: a result is absent, incomplete, or not of WISE; or two cannot be compared.
    """
    found = read_evaluations(results)
    if BASE not in found or len(found) == 1 or not set(found) <= {BASE, *TRAINED_ON}:
        raise BadInput(f"expected {BASE}=DIR and some of {', '.join(TRAINED_ON)}, found {', '.join(found)}.")
    for evaluation in found.values():
        if evaluation.benchmark.name != "wise":
            raise BadInput(f"{evaluation.folder.root}: expected an evaluation on wise, found one on "
                           f"{evaluation.benchmark.name}.")
    base = found.pop(BASE)
    lines = ["| trained on | measured on | base | trained | difference | 95 % interval |", "|---|---|---|---|---|---|"]
    for trained in (name for name in TRAINED_ON if name in found):
        differences = found[trained].against(base)
        for group in (name for name in TRAINED_ON if name != trained):
            means = [evaluation.results["scores"][group]["mean"] for evaluation in (base, found[trained])]
            of_group = differences[group]
            lines.append(f"| {trained} | {group} | {means[0]:.4f} | {means[1]:.4f} | {of_group['difference']:+.4f} | "
                         f"[{of_group['low']:+.4f}, {of_group['high']:+.4f}] |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
