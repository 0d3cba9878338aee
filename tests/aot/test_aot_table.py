"""The documentation's tables of train steps: from reports to Markdown."""

import json
import subprocess

import pytest
from etils import epath

from benchmarks import aot_table
from benchmarks.doc_section import command_line
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.topology import GIB, parse_topology
from srum_jax.aot.training import plan
from srum_jax.aot.training_report import training_entry
from tests.aot.made_up_step import BETWEEN, GATHER, request, result


def report(**changes):
    return training_entry(plan(request()), parse_topology("v5p:4x4x4"), result(**changes))


def tables(**reports):
    return aot_table.tables(reports, "command")


def line(text, begin):
    (found,) = (row for row in text.splitlines() if row.startswith(f"| {begin} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_every_run_has_a_line_and_those_without_a_report_say_so():
    text = aot_table.tables({"v5p-128": report()}, "command")
    for run in aot_table.RUNS.values():
        name = run.name.removeprefix("remat ")
        topology = f"{'16 x ' if run.slices > 1 else ''}{run.topology}"
        absent = f"| {name} | {topology} | not compiled yet" in text
        assert f"| {name} | {topology} |" in text and absent is (run.name != "v5p-128")


def test_names_of_runs_can_be_given_in_a_list():
    assert not [name for name in aot_table.RUNS if "," in name] and len(aot_table.RUNS) >= 20


def test_what_does_not_fit_is_said_and_has_no_figures():
    refused = report(memory=CompileResult(state_bytes=5 * GIB, compile_seconds=60, refusal="Ran out of memory in hbm"))
    assert refused["gib_per_chip"]["needed"] is None and refused["gib_per_chip"]["limit"] > 90
    text = aot_table.tables({"v5p-128": refused}, "command")
    cells = line(text.split("###")[1], "v5p-128")
    assert "more than there is" in cells and "**no**" in cells


def test_targets_are_told_run_by_run():
    slow = GATHER | {"received_bytes": 600e9 * 10.0}
    found = {"v5p-128": report(), "v5p-64": report(collectives=[slow, BETWEEN], model_flops=1e14)}
    text = aot_table.tables(found, "command")
    assert line(text, "compiled / model FLOPs at most 1.40, full remat")[1:] == ["v5p-128 1.33", "v5p-64 256"]
    met, not_met = line(text, "compute longer than each kind of exchange (longest exchange / compute below 1)")[1:]
    assert met.startswith("v5p-128 ") and not_met.startswith("v5p-64 ")
    assert line(text, "padding at most 3 %")[1:] == ["v5p-128 1, v5p-64 1", "-"]


def test_the_largest_exchanges_are_shown_by_kind_and_place():
    sums = GATHER | {"kind": "all-reduce", "bytes": 5 * 2**20}
    once = GATHER | {"in_loop": False, "bytes": 7 * 2**20}
    text = aot_table.tables({"v5p-128": report(collectives=[GATHER, sums, once])}, "command")
    found = line(text.split("### The largest")[1].split("###")[0], "v5p-128")
    assert found[1:] == ["1.0", "5.0", "0.0", "7.0", "0.0", "0.0"]


def test_what_could_not_be_read_is_named():
    assert "**v5p-128: not counted in full: while.3.**" in aot_table.tables(
        {"v5p-128": report(unknown_loops=["while.3"])}, "command")


@pytest.mark.parametrize("changes", [{}, {"made_with": {"reading": 1}}, None])
def test_reports_of_another_compiler_or_reader_are_not_shown(tmp_path, changes):
    kept = report()
    if changes is None:
        kept.pop("made_with")
    (tmp_path / "v5p-128.json").write_text(json.dumps(kept | (changes or {})))
    found = aot_table._reports(epath.Path(tmp_path))
    assert list(found) == (["v5p-128"] if changes == {} else [])


def test_a_run_that_the_compiler_failed_at_loses_its_old_report(tmp_path, monkeypatch, capsys):
    (tmp_path / "v5p-128.json").write_text(json.dumps(report()))
    monkeypatch.setattr(subprocess, "run", lambda command, stdout: subprocess.CompletedProcess(command, 1))
    assert aot_table.main(["--reports", str(tmp_path), "--runs", "v5p-128"]) == 1
    assert "the compiler failed for v5p-128" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_page_shows_the_command_without_what_is_only_of_this_machine():
    given = ["--docs=page.md", "--json", "out.json", "--cache", "c", "--runs", "a", "--nice=3"]
    assert command_line("benchmarks.aot_table", given) == "python -m benchmarks.aot_table --runs a"
