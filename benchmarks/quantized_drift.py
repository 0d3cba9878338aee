"""How far models with integer weights are from themselves in float32: predictions, verdicts, pictures, and what fits.

  python -m benchmarks.quantized_drift
  python -m benchmarks.quantized_drift --per-category 4 --layers 0 --json drift.json

The tiny BAGEL and the tiny Janus-Pro of the world of shapes, which are trained, do the same in each precision:

  predictions   velocities, or scores of codes, of rendered pictures under the same noise
  verdicts      scores of rendered pictures, half of which have a mistake; the oracle knows which
  pictures      of held-out sentences, drawn with equal seeds, marked by the oracle

Activations are float32 beside integers, so that what is seen is what integers do; bfloat16, of everything, is there to
compare with. At the released widths (BAGEL, Janus-Pro 7B) weights are random and normal, in few layers: matrices that
were trained have outliers, and may lose more. Takes some minutes on two cores, and several GB for the widths.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.doc_section import command_line, replace_section
from srum_jax.command_line import in_range, user_path
from srum_jax.storage.atomic_file import write_json


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    # Import JAX, which takes seconds.
    from benchmarks._quantized_tiny import tiny_drift
    from benchmarks._quantized_wide import wide_drift
    from experiments._tiny_bases.bases import BASES

    tables = {"tiny": [entry for base in BASES.values() for entry in tiny_drift(base, args.per_category)],
              "wide": wide_drift(args.layers) if args.layers else []}
    text = _as_text(tables, args)
    print(text)
    if args.json:
        write_json(args.json, tables)
    if args.docs:
        line = command_line("benchmarks.quantized_drift", sys.argv[1:] if argv is None else argv)
        replace_section(args.docs, "quantized_drift", f"`{line}`\n\n{text}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantized_drift", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-category", type=in_range(int, 1), default=24, metavar="N",
                        help="held-out sentences of each of the eight categories (default: %(default)s)")
    parser.add_argument("--layers", type=in_range(int, 0), default=2, metavar="N",
                        help="at the released widths; 0: leave these out (default: %(default)s)")
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--docs", type=user_path, metavar="FILE", help="also put the tables into this page")
    return parser


def _as_text(tables: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> str:
    lines = [f"Tiny models, trained; {8 * args.per_category} pictures of each kind; changes are from float32:", "",
             "| model | precision | matrices | predictions | codes alike | pixels, RMS of 255 | bytes that change "
             "| verdicts alike | score, mean change | AUC | fits | change [95 %] |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for entry in tables["tiny"]:
        change = " to ".join(f"{100 * value:+.1f}" for value in entry["fits_change"][1:])
        lines.append(
            f"| {entry['model']} | {entry['matrices']} | {_of_predictions(entry)} | {entry['pixels_rms']:.2f} "
            f"| {entry['bytes_changed']:.1%} | {entry['same_verdict']:.1%} | {entry['score']:.3f} | {entry['auc']:.3f} "
            f"| {entry['fits']:.1%} | {100 * entry['fits_change'][0]:+.1f} [{change}] |")
    if tables["wide"]:
        lines += ["", f"Released widths, {args.layers} layers, random weights:", "",
                  "| model | precision | matrices | predictions | codes alike |", "|---|---|---|---|---|"]
        lines += [f"| {entry['model']} | {entry['matrices']} | {_of_predictions(entry)} |" for entry in tables["wide"]]
    return "\n".join(lines)


def _of_predictions(entry: dict[str, Any]) -> str:
    matrices, codes = entry["matrix_error"], entry["same_code"]
    return " | ".join(["-" if matrices is None else f"{matrices:.2%}", f"{entry['prediction']:.2%}",
                       "-" if codes is None else f"{codes:.1%}"])


if __name__ == "__main__":
    sys.exit(main())
