"""Images and tokens per second on the devices at hand, compilation apart; what is computed how often; bfloat16's drift.

  python -m benchmarks.generate
  python -m benchmarks.generate --quick
  python -m benchmarks.generate --checkpoint BAGEL-7B-MoT --dtype bfloat16 --json generate.json
  python -m benchmarks.generate --device gpu --widths real --layers 4 --batches 1,4 --sizes 1024
  python -m benchmarks.generate --widths real --layers 2 --batches 1 --sizes 256 --num-timesteps 11

Without --checkpoint the model is the tiny random start of the shapes world. `--widths real` makes one with the
released model's widths, fewer layers and a small vocabulary, and random weights; with it comes the drift: the same
bfloat16 weights, computed in bfloat16 and in float32 from the same noise. Everything is measured in one run, so ratios
carry over between machines better than the figures do. `benchmarks.aot_generation` says what the released model would
need on TPUs. Where the devices' peak is known there is the MFU: products and attention of the images by formula, in
their share of it.

exit codes: 0 done, 1 a check does not hold, 2 the arguments cannot be used, or there is no GPU
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from etils import epath

from benchmarks.doc_section import command_line, replace_section
from srum_jax.command_line import user_path
from srum_jax.errors import BadInput
from srum_jax.models.compute import ATTENTION_NAMES


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    if args.quick:
        args.batches, args.num_timesteps, args.tokens, args.repeats = (1, 4), 6, 16, 1
        args.sizes = args.sizes or (32,)
    # Imports JAX, which takes seconds.
    from benchmarks._generate import measure
    from benchmarks.gpu import first_gpu

    try:
        if args.device == "gpu":
            first_gpu()
        report, text = measure(args)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if args.docs:
        command = command_line("benchmarks.generate", sys.argv[1:] if argv is None else argv)
        replace_section(args.docs, "generate_real" if args.widths == "real" else "generate", f"`{command}`\n\n{text}")
    if args.json:
        epath.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(report["checks"].values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--checkpoint", type=user_path, metavar="DIR",
                       help="a BAGEL checkpoint (default: a tiny random one)")
    model.add_argument("--widths", choices=("tiny", "real"), default="tiny", help="of made-up weights (default: tiny)")
    parser.add_argument("--device", choices=("any", "gpu"), default="any",
                        help="gpu: refuse to measure anything else (default: any)")
    parser.add_argument("--layers", type=int, default=2, help="with --widths real (default: 2)")
    parser.add_argument("--batches", type=_integers, default=(1, 4, 16), help="default: 1,4,16")
    parser.add_argument("--sizes", type=_integers, help="sides in pixels (default: half the largest, largest)")
    parser.add_argument("--num-timesteps", type=int, default=50, help="default: 50")
    parser.add_argument("--tokens", type=int, default=128, help="of texts, at most (default: 128)")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first, of which the fastest counts")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32, on TPUs and GPUs bfloat16")
    parser.add_argument("--attention", choices=ATTENTION_NAMES, default="auto")
    parser.add_argument("--quick", action="store_true", help="batches 1 and 4, one small size, few steps, one repeat")
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--docs", type=user_path, metavar="FILE",
                        help="page whose section generate, or generate_real, is replaced")
    return parser


def _integers(text: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        values = tuple(int(part) for part in text.split(","))
        if min(values) > 0:
            return values
    raise argparse.ArgumentTypeError(f"expected positive integers, found {text!r}")


if __name__ == "__main__":
    sys.exit(main())
