"""Compiles programs for TPUs that are not at hand: does it fit, and what does it amount to."""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from srum_jax.aot.compiling import CompileRequest, CompileResult, compile_program
from srum_jax.aot.generation_report import as_text, program_entry, whole_entry
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.roofline import ASSUMPTIONS
from srum_jax.aot.step_roofline import ASSUMPTIONS as STEP_ASSUMPTIONS
from srum_jax.aot.topology import GIB, Topology, TopologyError, parse_mesh, parse_topology
from srum_jax.aot.training_command import add_arguments, run_training
from srum_jax.aot.training_report import as_text as training_text
from srum_jax.errors import ANTICIPATED, tell
from srum_jax.experiment import experiment_names
from srum_jax.families.bagel.generation_programs import PROGRAM_NAMES, GenerationShape
from srum_jax.inference.settings import EDITING, TEXT_TO_IMAGE, FlowSampler, TextSampler
from srum_jax.mesh_config import MeshError
from srum_jax.models.bagel.config import RELEASED, BagelConfig
from srum_jax.models.compute import MESH_AXES
from srum_jax.storage.atomic_file import write_text

DEFAULT_CACHE = "~/.cache/srum_jax/compile"

# Those that need most memory first.
_SEARCH_ORDER = ("denoise", "decode", "prefill", "pixels")
# What only one of the two kinds of program takes.
_GENERATION_ONLY = ("height", "width", "num_timesteps", "max_tokens", "editing", "dtype", "without_understanding",
                    "programs")
_TRAINING_ONLY = ("set", "slices", "compiler_option", "hlo")
_PROMPT_TOKENS = 254
_MOST_IMAGES = 1024

_EPILOG = """
examples:
  python -m srum_jax.compile --experiment=bagel_cot --topology v5p:4x4x4 --mesh data=2,fsdp=32
  python -m srum_jax.compile --experiment=bagel_cot --topology v6e:8x8 --mesh data=2,fsdp=32 --largest --json fit.json
  python -m srum_jax.compile --experiment=bagel_lora --topology v5e:2x4 --mesh fsdp=8 --set compute.remat=attention
  python -m srum_jax.compile --experiment=bagel_cot --topology v6e:16x16 --slices 16 --mesh data=128,fsdp=32
  python -m srum_jax.compile --generation --topology v5e:2x4
  python -m srum_jax.compile --generation --topology v6e:2x2 --mesh fsdp=4 --batch 32 --json report.json
  python -m srum_jax.compile --generation --topology v5p:2x2x1 --mesh data=4 --largest

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
    if importlib.util.find_spec("libtpu") is None:
        print("error: TPUs' compiler is absent; pip install libtpu, or the extra 'tpu' or 'dev'", file=sys.stderr)
        return 2
    try:
        reports = run_generation(args) if args.generation else run_training(args)
    except (*ANTICIPATED, ValueError) as error:  # also settings that their dataclass refuses
        return tell(error, 2 if isinstance(error, ValueError) else None)
    except KeyboardInterrupt:
        print("interrupted; what was compiled so far is kept", file=sys.stderr)
        return 130
    print(as_text(reports) if args.generation else training_text(reports))
    if reports.get("largest_limited_by"):
        print(f"The largest batch; {reports['largest_limited_by']} sets the limit.")
    print(ASSUMPTIONS if args.generation else f"\n{STEP_ASSUMPTIONS}")
    if args.json:
        write_text(args.json, json.dumps(reports, indent=1) + "\n")
    return 0 if reports["fits"] else 1


def run_generation(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles the programs of generation; see `--help` for the arguments."""
    topology, mesh = parse_topology(args.topology), parse_mesh(args.mesh or "fsdp=-1")
    if mesh.seq != 1:
        raise TopologyError(f"--mesh: generation does not split the tokens of a row: expected seq=1, found {mesh.seq}.")
    config = _config(args)
    axes = dict(zip(MESH_AXES, mesh.shape(topology.num_chips), strict=True))
    step = axes["data"] * axes["fsdp"]
    shape = GenerationShape(
        rows=args.batch or step, prompt_tokens=args.prompt_tokens or _PROMPT_TOKENS, height=args.height,
        width=args.width, sampler=_sampler(args), text=TextSampler(args.max_tokens),
    )
    shape.check(config)
    if shape.rows % step:
        raise MeshError(f"--batch: expected a multiple of {step} (data x fsdp of the mesh), found {shape.rows}.")
    asking = _Compiler(topology, CompileRequest(topology.name, mesh, config, "", shape, args.dtype,
                                                understanding=not args.without_understanding), args)
    limited_by = None
    if args.largest:
        rows, limited_by = largest_batch(
            [name for name in _SEARCH_ORDER if name in args.programs], asking.needed_bytes,
            topology.chip.hbm_bytes, step, args.most or _MOST_IMAGES, args.start,
        )
        shape = dataclasses.replace(shape, rows=rows or step)  # if nothing fits, the report says by how much
    entries = []
    for name in args.programs:
        request, result = asking(name, shape.rows)
        entries.append(program_entry(request, topology, axes, result))
    report = whole_entry(dataclasses.replace(asking.request, shape=shape), topology, axes, entries)
    return report | {"largest_limited_by": limited_by}


class _Compiler:
    """Compiles one program after the other, and says so."""

    def __init__(self, topology: Topology, request: CompileRequest, args: argparse.Namespace):
        self.topology, self.request = topology, request
        self._cache = None if args.cache == "none" else epath.Path(os.path.expanduser(args.cache))
        self._nice = args.nice

    def __call__(self, program: str, rows: int) -> tuple[CompileRequest, CompileResult]:
        request = dataclasses.replace(self.request, program=program,
                                      shape=dataclasses.replace(self.request.shape, rows=rows))
        print(f"{self.topology.name} {program:8} {rows:5} rows ...", end=" ", file=sys.stderr, flush=True)
        result = compile_program(request, self._cache, nice=self._nice)
        needed = "more than there is" if result.refusal else f"{result.needed_bytes / GIB:.2f} GiB per chip"
        origin = "as before" if result.from_cache else f"compiled in {result.compile_seconds:.0f} s"
        verdict = "" if result.fits(self.topology.chip.hbm_bytes) else ", does not fit"
        print(f"{needed}{verdict} ({origin})", file=sys.stderr, flush=True)
        return request, result

    def needed_bytes(self, program: str, rows: int) -> float:
        result = self(program, rows)[1]
        return math.inf if result.refusal else result.needed_bytes


def _config(args: argparse.Namespace) -> BagelConfig:
    config = BagelConfig.from_directory(args.checkpoint) if args.checkpoint else RELEASED
    if args.layers is not None:
        config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=args.layers))
    return config


def _sampler(args: argparse.Namespace) -> FlowSampler:
    published = EDITING if args.editing else TEXT_TO_IMAGE
    return dataclasses.replace(published, num_timesteps=args.num_timesteps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m srum_jax.compile", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", metavar="NAME_OR_PATH",
                      help=f"the train step of one of {', '.join(experiment_names())}; or of a .py file")
    what.add_argument("--generation", action="store_true", help="prefill, text decoding, denoising and the autoencoder")
    parser.add_argument("--topology", required=True, metavar="CHIP:GRID", help="for instance v5e:4x4 or v5p:2x2x1")
    parser.add_argument("--mesh", metavar="AXIS=SIZE,...",
                        help=f"of {', '.join(MESH_AXES)}; -1 takes what the others leave (default: that of the "
                             "experiment; for generation fsdp=-1)")
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument("--batch", type=_positive, help="rows or images at once on all chips (default: rows as in the "
                                                       "experiment, one image per data x fsdp)")
    batch.add_argument("--largest", action="store_true", help="find the largest batch that fits")
    parser.add_argument("--most", type=_positive,
                        help="with --largest: try no more (default: 1024 images, 64 rows per data x fsdp)")
    parser.add_argument("--start", type=_positive, default=1, help="with --largest: try this batch first")
    parser.add_argument("--height", type=_positive, default=1024, help="pixels (default: 1024)")
    parser.add_argument("--width", type=_positive, default=1024, help="pixels (default: 1024)")
    parser.add_argument("--prompt-tokens", type=_positive,
                        help="two markers not counted: of the longest prompt to generate from (default: 254), of every "
                             "prompt in a full row to train on (default: 18, about 14 words)")
    parser.add_argument("--max-tokens", type=_positive, default=1000, help="of a plan (default: 1000)")
    parser.add_argument("--num-timesteps", type=_positive, default=50, help="of sampling; one step less (default: 50)")
    parser.add_argument("--editing", action="store_true", help="sample with the settings of editing: three branches")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--checkpoint", metavar="DIR", help="whose JSON files say the sizes (default: that of the "
                                                            "experiment, if it names one; else BAGEL-7B-MoT)")
    parser.add_argument("--layers", type=_positive, help="another number of decoder layers")
    parser.add_argument("--without-understanding", action="store_true", help="leave the vision tower out")
    parser.add_argument("--programs", type=_programs, default=PROGRAM_NAMES, metavar="NAME,...",
                        help=f"some of {', '.join(PROGRAM_NAMES)} (default: all)")
    parser.add_argument("--cache", default=DEFAULT_CACHE, metavar="DIR",
                        help=f"results of earlier compilations; 'none' keeps none (default: {DEFAULT_CACHE})")
    parser.add_argument("--nice", type=int, default=0, help="by how much compilation gives way to other processes")
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file")
    add_arguments(parser)
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
    foreign = _TRAINING_ONLY if args.generation else _GENERATION_ONLY
    for name in foreign:
        if getattr(args, name) != parser.get_default(name):
            kind = "--experiment" if args.generation else "--generation"
            parser.error(f"--{name.replace('_', '-')}: only with {kind}.")
    return args


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, found {text!r}")
    return int(text)


def _programs(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PROGRAM_NAMES]
    if unknown or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(PROGRAM_NAMES)}, found {text!r}")
    return names


if __name__ == "__main__":
    sys.exit(main())
