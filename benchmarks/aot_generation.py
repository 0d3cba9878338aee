"""What generation with the released model needs on one slice of every kind of TPU, compiled without having one.

  python -m benchmarks.aot_generation
  python -m benchmarks.aot_generation --docs docs/generation_speed.md

Runs `srum_jax.compile` for each slice and writes the tables of the documentation. Compilations are kept in its cache
(`--cache`), so that the command goes on where it was interrupted, and only changed programs are compiled again; from
nothing it takes one to two hours on two CPU cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from etils import epath

from benchmarks.doc_section import command_line, replace_section
from srum_jax.aot.roofline import DRAWING_ASSUMPTIONS
from srum_jax.command_line import user_path

# One host each. --start: a batch that was found before, to be confirmed with few compilations.
LARGEST = (
    ("v5e:2x4", "fsdp=8", 72),
    ("v6e:2x2", "fsdp=4", 80),
    ("v5p:2x2x1", "fsdp=4", 308),
)
# Text decoding alone: splitting heads instead of gathering weights for every token.
DECODING = (("v5e:2x4", "fsdp=8"), ("v5e:2x4", "fsdp=2,tensor=4"))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aot_generation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=user_path, metavar="FILE", help="page whose section aot_generation is replaced")
    parser.add_argument("--slices", default=",".join(topology for topology, _, _ in LARGEST), metavar="NAME,...",
                        help="default: %(default)s")
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write all reports to this file")
    parser.add_argument("--cache", type=user_path, help="see srum_jax.compile")
    parser.add_argument("--nice", default="10", help="by how much compilation gives way to others (default: 10)")
    args = parser.parse_args(argv)
    shared = ["--nice", args.nice, *(["--cache", args.cache] if args.cache else [])]
    largest = [_report(["--topology", topology, "--mesh", mesh, "--largest", "--start", str(start), *shared])
               for topology, mesh, start in LARGEST if topology in args.slices.split(",")]
    decoding = [_report(["--topology", topology, "--mesh", mesh, "--programs", "decode", "--batch", "8", *shared])
                for topology, mesh in DECODING]
    text = "\n\n".join([f"`{command_line('benchmarks.aot_generation', argv)}`", *map(_slice_text, largest),
                        _decoding_text(decoding), DRAWING_ASSUMPTIONS])
    print(text)
    if args.docs:
        replace_section(args.docs, "aot_generation", text)
    if args.json:
        epath.Path(args.json).write_text(json.dumps({"largest": largest, "decoding": decoding}, indent=1) + "\n")
    return 0


def _report(arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        path = epath.Path(directory) / "report.json"
        command = [sys.executable, "-m", "srum_jax.compile", "--generation", *arguments, "--json", str(path)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        if done.returncode > 1 or not path.exists():
            raise SystemExit(done.returncode or 1)
        return json.loads(path.read_text())


def _slice_text(report: dict[str, Any]) -> str:
    estimate, chips = report["estimate"], _chips(report)
    programs = report["programs"]
    found = "The largest batch that fits is" if report["fits"] else "Nothing fits, not even"
    lines = [
        f"### {report['topology']}, {_mesh(report)}",
        "",
        f"{found} **{report['rows']} images** ({report['rows'] / chips:g} a chip) of "
        f"{report['height']} x {report['width']} pixels, {report['steps']} steps, prompts of up to "
        f"{report['prompt_slots']} tokens, plans of up to {report['plan_tokens']}; "
        + (f"`{report['largest_limited_by']}` sets the limit." if report["largest_limited_by"] else
           "larger ones were not tried."),
        "",
        "| GiB per chip | arguments | + outputs | temporaries | peak | + not read | needed | of |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in programs:
        memory = entry["gib_per_chip"]
        names = ("arguments", "outputs", "temporaries", "peak", "not_read", "needed", "limit")
        lines.append(f"| {entry['program']} | " + " | ".join(_gib(memory[name]) for name in names) + " |")
    lines += [
        "",
        "| estimate, s per batch | compute | memory | exchange | at least | model TFLOP per image | GB per image |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in programs:
        time = entry["estimate"]
        lines.append(f"| {entry['program']} | " + " | ".join(
            f"{time[name]:.3g}" for name in ("compute", "memory", "exchange", "seconds"))
            + f" | {entry['model_tflop_per_row']:,.1f} | {entry['gigabytes_per_row']:,.1f} |")
    lines += [
        "",
        f"At least {estimate['seconds_per_image']:.2g} s per image on the slice, "
        f"{estimate['chip_seconds_per_image']:.3g} chip seconds, without a plan; at most "
        f"{estimate['plan_tokens_per_second']:,.0f} tokens of plans per second.",
    ]
    return "\n".join(lines)


def _decoding_text(reports: list[dict[str, Any]]) -> str:
    lines = [
        "### Writing plans: split heads rather than gather weights",
        "",
        "With `fsdp`, every chip receives all weights of the understanding expert for every token. A `tensor` axis "
        "leaves the weights where they are.",
        "",
        "| slice, mesh | rows | needed GiB per chip | largest gather MiB | estimate: tokens/s at most | bound by |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        entry = report["programs"][0]
        lines.append(
            f"| {report['topology']}, {_mesh(report)} | {report['rows']} | {_gib(entry['gib_per_chip']['needed'])} | "
            f"{entry['largest_gather_mib']:,.0f} | {report['estimate']['plan_tokens_per_second']:,.0f} | "
            f"{entry['estimate']['bound']} |")
    return "\n".join(lines)


def _gib(size: float | None) -> str:
    """A size; what a refused program would need is not known."""
    return "-" if size is None else f"{size:.2f}"


def _mesh(report: dict[str, Any]) -> str:
    return " ".join(f"{name}={size}" for name, size in report["mesh"].items() if size > 1)


def _chips(report: dict[str, Any]) -> int:
    chips = 1
    for size in report["mesh"].values():
        chips *= size
    return chips


if __name__ == "__main__":
    sys.exit(main())
