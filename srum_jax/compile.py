"""Compiles programs for TPUs that are not at hand: does it fit, and what does it amount to."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence

from etils import epath

from srum_jax import command_line
from srum_jax.command_line import user_path
from srum_jax.errors import ANTICIPATED, BadInput, tell
from srum_jax.experiment import experiment_names, load_recipe
from srum_jax.families.registry import NAMES
from srum_jax.models.compute import MESH_AXES, QUANTIZED_DTYPES
from srum_jax.overrides import apply_overrides
from srum_jax.storage.atomic_file import write_text

_POSITIVE = command_line.in_range(int, 1)
DEFAULT_CACHE = "~/.cache/srum_jax/compile"

# What only one of the two kinds of program takes.
_GENERATION_ONLY = ("family", "height", "width", "num_timesteps", "max_tokens", "editing", "dtype", "quantize")
_TRAINING_ONLY = ("set", "slices", "compiler_option", "hlo", "round")

_EPILOG = """
examples:
  python -m srum_jax.compile --experiment=bagel_cot --topology v5p:4x4x4 --mesh data=2,fsdp=32
  python -m srum_jax.compile --experiment=bagel_cot --topology v6e:8x8 --mesh data=2,fsdp=32 --largest --json fit.json
  python -m srum_jax.compile --experiment=bagel_lora --topology v5e:2x4 --mesh fsdp=8 --set compute.remat=attention
  python -m srum_jax.compile --experiment=bagel_cot --topology v6e:16x16 --slices 16 --mesh data=128,fsdp=32
  python -m srum_jax.compile --experiment=suder_janus --round --largest --topology v5p:2x4x4
  python -m srum_jax.compile --generation --topology v5e:2x4
  python -m srum_jax.compile --generation --topology v6e:2x2 --mesh fsdp=4 --batch 32 --json report.json
  python -m srum_jax.compile --generation --topology v5p:2x2x1 --mesh data=4 --largest
  python -m srum_jax.compile --generation --family blip3o --checkpoint 4B --topology v6e:2x2 --mesh data=4

Nothing runs: XLA's TPU compiler, from the package libtpu, is asked what programs of the released model's size, or of
that of --checkpoint, would need. Each is compiled in a process of its own, in seconds to minutes; results are kept
(--cache), and the same program is not compiled twice. Seconds are estimates from published peak rates, never measured.

A train step has the mesh of its experiment unless --mesh says otherwise, and the rows of its experiment, rounded up to
what the mesh can split. Its FLOPs and exchanges are read from the compiled program, loops as often as they turn. Slices
are named by chips in a grid: v5p-N counts TensorCores, two a chip, so v5p:4x4x4 is a v5p-128.

exit codes:
  0    everything fits
  1    something does not fit, or the compiler failed
  2    the arguments cannot be used
  130  interrupted from the keyboard
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(argv)
    try:
        if args.experiment:
            apply_overrides(load_recipe(args.experiment).experiment, args.set)  # refuses what it must, at once
        if importlib.util.find_spec("libtpu") is None:
            raise BadInput("TPUs' compiler is absent; pip install libtpu, or the extra 'tpu' or 'dev'")
        # These import JAX, which takes seconds.
        from srum_jax.aot import generation_command, training_command

        command = generation_command if args.generation else training_command
        report = command.run(args)
    except (*ANTICIPATED, ValueError) as error:  # also settings that their dataclass refuses
        return tell(error, 2 if isinstance(error, ValueError) else None)
    except KeyboardInterrupt:
        print("interrupted; what was compiled so far is kept", file=sys.stderr)
        return 130
    print(command.text_of(report))
    if args.json:
        write_text(args.json, json.dumps(report, indent=1) + "\n")
    return 0 if report["fits"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m srum_jax.compile", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", type=user_path, metavar="NAME_OR_PATH",
                      help=f"the train step of one of {', '.join(experiment_names())}; or of a .py file")
    what.add_argument("--generation", action="store_true", help="prefill, text decoding, denoising and the autoencoder")
    parser.add_argument("--topology", required=True, metavar="CHIP:GRID", help="for instance v5e:4x4 or v5p:2x2x1")
    parser.add_argument("--mesh", type=command_line.mesh(), metavar="AXIS=SIZE,...",
                        help=f"of {', '.join(MESH_AXES)}; -1 takes what the others leave (default: that of the "
                             "experiment; for generation fsdp=-1)")
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument("--batch", type=_POSITIVE, help="rows or images at once on all chips (default: rows as in the "
                                                       "experiment, one image per data x fsdp)")
    batch.add_argument("--largest", action="store_true", help="find the largest batch that fits")
    parser.add_argument("--most", type=_POSITIVE,
                        help="with --largest: try no more (default: 1024 images, 64 rows per data x fsdp)")
    parser.add_argument("--start", type=_POSITIVE, default=1, help="with --largest: try this batch first")
    parser.add_argument("--height", type=_POSITIVE, help="pixels (default: what the model draws, for BAGEL 1024)")
    parser.add_argument("--width", type=_POSITIVE, help="pixels (default: as for --height)")
    parser.add_argument("--prompt-tokens", type=_POSITIVE,
                        help="two markers not counted: of the longest prompt to generate from (default: 254), of every "
                             "prompt in a full row to train on (default: 18, about 14 words)")
    parser.add_argument("--max-tokens", type=_POSITIVE, default=1000, help="of a plan (default: 1000)")
    parser.add_argument("--num-timesteps", type=_POSITIVE, default=50, help="of sampling; one step less (default: 50)")
    parser.add_argument("--editing", action="store_true", help="sample with the settings of editing: three branches")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--quantize", choices=QUANTIZED_DTYPES, help="integers that matrices of all layers are kept in")
    parser.add_argument("--checkpoint", type=user_path, metavar="DIR",
                        help="whose JSON files say the sizes (default: that of the experiment, if it names one; else "
                             "BAGEL-7B-MoT)")
    parser.add_argument("--family", choices=NAMES,
                        help=f"whose programs to compile; --checkpoint may then be a released size, as 4B (default: "
                             f"that of --checkpoint; else {NAMES[0]})")
    parser.add_argument("--layers", type=_POSITIVE, help="another number of decoder layers")
    parser.add_argument("--programs", metavar="NAME,...",
                        help="some of those that generation has, for BAGEL prefill, decode, denoise and pixels; a "
                             "round has read, score_texts and score_pictures too (default: all)")
    parser.add_argument("--cache", type=user_path, default=DEFAULT_CACHE, metavar="DIR",
                        help=f"results of earlier compilations; 'none' keeps none (default: {DEFAULT_CACHE})")
    parser.add_argument("--nice", type=int, default=0, help="by how much compilation gives way to other processes")
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write the report to this file")
    group = parser.add_argument_group("with --experiment")
    group.add_argument("--set", action="append", default=[], metavar="a.b=c",
                       help="override one setting of the experiment; repeatable")
    group.add_argument("--slices", type=int, default=1, metavar="N",
                       help="so many slices of this topology, joined by the data center's network (default: 1)")
    group.add_argument("--round", action="store_true",
                       help="also what draws, writes and rewards in a round of SUDER, beside the state; --largest then "
                            "finds how many outputs at once fit")
    group.add_argument("--compiler-option", action="append", default=[], metavar="NAME=VALUE",
                       help="of XLA's TPU compiler, for instance xla_tpu_scoped_vmem_limit_kib=98304; repeatable")
    group.add_argument("--hlo", type=user_path, metavar="FILE",
                       help="also write the compiled program's text to this file")
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    for name in ("json", "hlo"):  # before minutes of work
        path = getattr(args, name)
        if path and (epath.Path(path).is_dir() or not epath.Path(path).absolute().parent.is_dir()):
            parser.error(f"--{name} {path}: expected a file in a folder that exists.")
    if not args.largest and (args.most is not None or args.start != parser.get_default("start")):
        parser.error("--most, --start: only with --largest.")
    if args.programs and not (args.generation or args.round):
        parser.error("--programs: only with --generation or --round.")
    foreign = _TRAINING_ONLY if args.generation else _GENERATION_ONLY
    for name in foreign:
        if getattr(args, name) != parser.get_default(name):
            kind = "--experiment" if args.generation else "--generation"
            parser.error(f"--{name.replace('_', '-')}: only with {kind}.")
    return args


if __name__ == "__main__":
    sys.exit(main())
