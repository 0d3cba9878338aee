"""What a train step needs on slices of every kind of TPU, compiled without having one: the tables of the documentation.

  python -m benchmarks.aot_table --docs docs/what_fits_where.md
  python -m benchmarks.aot_table --docs docs/what_fits_where.md --runs v5p-64,v6e-256
  python -m benchmarks.aot_table --docs docs/what_fits_where.md --runs none

Runs `srum_jax.compile` for each slice, and writes the tables anew after each. A report of every run is kept
(--reports), and so is every compiled program (srum_jax.compile --cache): the command goes on where it was interrupted,
compiles again only what has changed, and shows runs that --runs leaves out as they were found before, if the compiler
and the way in which its programs are read are the same. From nothing, all runs take hours on two CPU cores.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from benchmarks.doc_section import command_line, replace_section
from srum_jax.aot.roofline import STEP_ASSUMPTIONS
from srum_jax.aot.training_report import made_with, mesh_text
from srum_jax.command_line import user_path

DEFAULT_REPORTS = "~/.cache/srum_jax/aot_table"
_NOT_YET = "not compiled yet"


@dataclasses.dataclass(frozen=True)
class Run:
    """One line of a table."""

    name: str  # for --runs; v5p is counted in TensorCores, as its accelerator types are
    topology: str
    mesh: str
    experiment: str = "bagel_cot"
    slices: int = 1
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of the compiler

    @property
    def arguments(self) -> list[str]:
        """Of `srum_jax.compile`."""
        sets = [argument for setting in self.settings for argument in ("--set", setting)]
        sets += [argument for option in self.options for argument in ("--compiler-option", option)]
        return ["--experiment", self.experiment, "--topology", self.topology, "--mesh", self.mesh, "--slices",
                str(self.slices), *sets]


FULL = (
    Run("v5p-64", "v5p:2x4x4", "data=2,fsdp=16"),
    Run("v6e-256", "v6e:16x16", "data=8,fsdp=32"),
    Run("v5p-128", "v5p:4x4x4", "data=2,fsdp=32"),
    Run("v5p-16", "v5p:2x2x2", "fsdp=8"),
    Run("v5p-256", "v5p:4x4x8", "data=4,fsdp=32"),
    Run("v6e-64", "v6e:8x8", "data=2,fsdp=32"),
    Run("v5e-256", "v5e:16x16", "data=8,fsdp=32"),
    Run("16 x v6e-256", "v6e:16x16", "data=128,fsdp=32", slices=16),
)
# The recipe has eight rows a step. More chips than rows share a row's tokens.
EIGHT_ROWS = (
    Run("v5p-16 with 8 rows", "v5p:2x2x2", "data=2,fsdp=4"),
    Run("v5p-64 with 8 rows", "v5p:2x4x4", "data=2,fsdp=4,seq=4"),
    Run("v6e-64 with 8 rows", "v6e:8x8", "data=2,fsdp=4,seq=8"),
)
# Flags with which the compiler computes while it gathers weights; docs/run_on_a_pod.md gives them to a run.
_OVERLAP = (
    "xla_tpu_enable_async_collective_fusion=true", "xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "xla_tpu_enable_async_collective_fusion_multiple_steps=true", "xla_tpu_overlap_compute_collective_tc=true",
    "xla_enable_async_all_gather=true",
)
OVERLAP = (
    Run("v5p-64 overlapping", "v5p:2x4x4", "data=2,fsdp=16", options=_OVERLAP),
    Run("v6e-256 overlapping", "v6e:16x16", "data=8,fsdp=32", options=_OVERLAP),
)
SMALLEST = (
    Run("v5p-8", "v5p:2x2x1", "fsdp=4"),
    Run("v6e-16", "v6e:4x4", "fsdp=16"),
    Run("v6e-8", "v6e:2x4", "fsdp=8"),
    Run("v5e-32", "v5e:4x8", "fsdp=32"),
)
LORA = (
    Run("LoRA v5e-8", "v5e:2x4", "fsdp=8", "bagel_lora"),
    Run("LoRA v6e-4", "v6e:2x2", "fsdp=4", "bagel_lora"),
    Run("LoRA v5p-8", "v5p:2x2x1", "fsdp=4", "bagel_lora"),
)
REMAT = tuple(
    Run(f"remat {policy}", "v5p:4x4x4", "data=2,fsdp=32", settings=(f"compute.remat={policy}",))
    for policy in ("full", "attention", "dots", "none")
)
_LORA_NAMES = {run.name for run in LORA}
RUNS = {run.name: run for run in (*FULL, *OVERLAP, *EIGHT_ROWS, *SMALLEST, *LORA, *REMAT)}

Reports = dict[str, dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aot_table", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=user_path, metavar="FILE", help="page whose section aot_table is replaced")
    parser.add_argument("--runs", default=",".join(RUNS), metavar="NAME,...",
                        help="which are compiled, in this order; 'none' only writes the tables (default: %(default)s)")
    parser.add_argument("--reports", type=user_path, default=DEFAULT_REPORTS, metavar="DIR",
                        help="one JSON file for each run (default: %(default)s)")
    parser.add_argument("--cache", type=user_path, help="see srum_jax.compile")
    parser.add_argument("--nice", default="10", help="by how much compilation gives way to others (default: 10)")
    args = parser.parse_args(argv)
    names = [] if args.runs == "none" else args.runs.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        parser.error(f"--runs: expected some of {', '.join(RUNS)}, or none; found {unknown[0]!r}.")
    folder = epath.Path(os.path.expanduser(args.reports))
    folder.mkdir(parents=True, exist_ok=True)
    shared = ["--nice", args.nice, *(["--cache", args.cache] if args.cache else [])]
    failed = []
    for name in names:
        if not _compile(RUNS[name], _report_file(folder, name), shared):
            failed.append(name)
        _write(args.docs, tables(_reports(folder), command_line("benchmarks.aot_table", _without_runs(argv))))
    text = tables(_reports(folder), command_line("benchmarks.aot_table", _without_runs(argv)))
    _write(args.docs, text)
    print(text)
    if failed:
        print(f"the compiler failed for {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def tables(reports: Reports, command: str) -> str:
    """The section of the documentation.

    Args:
      reports: of `srum_jax.compile --json`, by name of the run; runs without one are said not to be compiled.
      command: that makes it.
    """
    return "\n\n".join([
        f"`{command}`",
        "### All weights trained",
        _table(FULL, reports),
        "### With flags that overlap exchanges and products",
        _table(OVERLAP, reports),
        f"`{' '.join(f'--{option}' for option in _OVERLAP)}`",
        "### The recipe's eight rows",
        _table(EIGHT_ROWS, reports),
        "### Does the time go into compute? Estimated seconds of a step",
        _times((*FULL, *OVERLAP, *EIGHT_ROWS, *LORA), reports),
        "### The largest exchanges, MiB each",
        _largest((*FULL, *EIGHT_ROWS, *SMALLEST, *LORA), reports),
        "### The smallest slices",
        _table(SMALLEST, reports),
        "### LoRA on the generation expert",
        _table(LORA, reports),
        "### What the backward pass keeps",
        _table(REMAT, reports, remat=True),
        *_unknown(reports),
        STEP_ASSUMPTIONS,
        "### Targets",
        _targets(reports),
    ])


def _compile(run: Run, report: epath.Path, shared: list[str]) -> bool:
    """Whether the compiler could say something."""
    partial = report.with_name(f"{report.name}.partial")
    partial.unlink(missing_ok=True)
    command = [sys.executable, "-m", "srum_jax.compile", *run.arguments, *shared, "--json", str(partial)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode > 1:
        raise SystemExit(done.returncode)
    if not partial.exists():
        report.unlink(missing_ok=True)  # what was found before is no answer for this code and this compiler
        return False
    partial.replace(report)
    return True


def _report_file(folder: epath.Path, name: str) -> epath.Path:
    return folder / f"{name.replace(' ', '_')}.json"


def _reports(folder: epath.Path) -> Reports:
    files = {name: _report_file(folder, name) for name in RUNS}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    return {name: report for name, report in found.items() if report.get("made_with") == made_with()}


def _write(page: str | None, text: str) -> None:
    if page:
        replace_section(page, "aot_table", text)


def _without_runs(argv: Sequence[str]) -> list[str]:
    """The command that makes the whole section: without the choice of runs, and where reports lie."""
    kept, skip = [], False
    for argument in argv:
        named = argument in ("--runs", "--reports")
        if not skip and not named and not argument.startswith(("--runs=", "--reports=")):
            kept.append(argument)
        skip = named
    return kept


def _table(runs: Sequence[Run], reports: Reports, *, remat: bool = False) -> str:
    lines = [
        f"| {'remat' if remat else 'slice'} | topology | chips | mesh | rows | arguments | temporaries | needed GiB | "
        "of | fits | compiled TFLOP a chip | of model FLOPs | padding |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        slices = "" if run.slices == 1 else f"{run.slices} x "
        place = f"| {run.name.removeprefix('remat ')} | {slices}{run.topology} |"
        report = reports.get(run.name)
        if report is None:
            lines.append(f"{place} {_NOT_YET} |" + " |" * 10)
            continue
        memory = report["gib_per_chip"]
        cells = [str(report["chips"]), mesh_text(report), str(report["rows"])]
        if report["refusal"]:
            cells += ["-", "-", "more than there is", f"{memory['limit']:.2f}", "**no**", "-", "-"]
        else:
            cells += [f"{memory[name]:.2f}" for name in ("arguments", "temporaries", "needed", "limit")]
            cells += ["yes" if report["fits"] else "**no**",
                      f"{report['compiled_flops'] / report['chips'] / 1e12:,.0f}", f"{report['flops_ratio']:.3f}"]
        lines.append(f"{place} {' | '.join([*cells, format(report['padding'], '.1%')])} |")
    return "\n".join(lines)


def _largest(runs: Sequence[Run], reports: Reports) -> str:
    """What is brought together whole, in the layers' loop and once a step; full-size sums of weight gradients show."""
    kinds = ("all-gather", "all-reduce", "reduce-scatter")
    lines = [f"| slice | {' | '.join(f'{kind}, in a loop' for kind in kinds)} | "
             f"{' | '.join(f'{kind}, once' for kind in kinds)} |", "|---" * (2 * len(kinds) + 1) + "|"]
    for run in runs:
        report = reports.get(run.name)
        if report is not None and not report["refusal"]:
            largest = {}
            for row in report["collectives"]:
                key = row["kind"], row["in_loop"]
                largest[key] = max(largest.get(key, 0), row["bytes"])
            sizes = [largest.get((kind, loop), 0) for loop in (True, False) for kind in kinds]
            lines.append(f"| {run.name} | {' | '.join(f'{size / 2**20:,.1f}' for size in sizes)} |")
    return "\n".join(lines)


def _unknown(reports: Reports) -> list[str]:
    """Runs of which something could not be read: their figures are too low."""
    return [f"**{name}: not counted in full: {', '.join(found)}.**" for name, report in reports.items()
            if (found := [*report.get("unknown_loops", ()), *report.get("unknown_kernels", ())])]


def _targets(reports: Reports) -> str:
    """Whether the aims of the step are met, run by run."""
    compiled = {name: report for name, report in reports.items() if not report["refusal"]}
    full = {name: report for name, report in compiled.items() if report["remat"] == "full" and name not in _LORA_NAMES}
    lines = ["| target | met | not met |", "|---|---|---|"]
    for target, runs, value, met in (
        ("compiled / model FLOPs at most 1.40, full remat", full, lambda r: r["flops_ratio"], lambda x: x <= 1.40),
        ("padding at most 3 %", compiled, lambda r: 100 * r["padding"], lambda x: x <= 3.0),
        ("compute longer than each kind of exchange (longest exchange / compute below 1)", compiled, _exchange_share,
         lambda x: x < 1),
        ("exchanges hidden (waiting / compute, aim 0)", compiled,
         lambda r: r["estimate"]["waiting_seconds"] / r["estimate"]["seconds"]["compute"], lambda x: x < 0.01),
    ):
        cells: dict[bool, list[str]] = {True: [], False: []}
        for name, report in runs.items():
            found = value(report)
            cells[met(found)].append(f"{name} {found:.3g}")
        lines.append(f"| {target} | {' | '.join(', '.join(cells[good]) or '-' for good in (True, False))} |")
    return "\n".join(lines)


def _exchange_share(report: dict[str, Any]) -> float:
    seconds = report["estimate"]["seconds"]
    return max((value for name, value in seconds.items() if name != "compute"), default=0.0) / max(
        seconds["compute"], 1e-9)


def _times(runs: Sequence[Run], reports: Reports) -> str:
    kinds = ("all-gather", "reduce-scatter", "all-reduce", "between slices")
    lines = [
        f"| slice | compute | {' | '.join(kinds)} | other | longest | not hidden | at least s | MFU at most | "
        "exposed s | MFU |",
        "|---" * (len(kinds) + 9) + "|",
    ]
    for run in runs:
        report = reports.get(run.name)
        if report is None or report["refusal"]:
            continue
        time, seconds = report["estimate"], report["estimate"]["seconds"]
        other = sum(value for name, value in seconds.items() if name not in ("compute", *kinds))
        values = [seconds["compute"], *(seconds.get(kind, 0.0) for kind in kinds), other]
        cells = [run.name, *(f"{value:.3f}" for value in values), time["bound"], f"{time['waiting_seconds']:.3f}",
                 f"{time['at_least_seconds']:.3f}", f"{time['mfu_at_most']:.0%}", f"{time['exposed_seconds']:.3f}",
                 f"{time['mfu_exposed']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
