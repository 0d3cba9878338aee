"""Steps of released models, lowered and compiled ahead of time for a TPU slice that is not at hand.

They take the compiler a minute and more, with two layers too: by day their layouts are held against the page, and the
exchanges are those of narrow models, here and in `test_training_narrow.py`.
"""

import importlib.util
import json

import pytest

from srum_jax.aot.compiling import compile_apart
from srum_jax.aot.topology import GIB
from srum_jax.aot.training import TrainRequest
from srum_jax.mesh_config import MeshConfig
from tests import commands
from tests.aot.layout import bytes_and_parameters
from tests.families.blip3o import tiny_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform"),
]

PAGE = commands.ROOT / "docs" / "what_fits_where.md"
BAGEL_TRAINED = 14_155_484_736
BLIP3O_TRAINED = 1_365_010_336 + 229_376


def cells(line):
    """Of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("experiment", "mesh", "trained", "row", "most"), [
    ("bagel_cot", MeshConfig(data=2, fsdp=32), BAGEL_TRAINED, "| v5p-128 | v5p:4x4x4 | 64 |", 16),
    ("blip3o", MeshConfig(data=4, fsdp=16), BLIP3O_TRAINED, "| 8B, v5p-128 | pictures |", 5),
])
def test_the_state_of_a_released_model_on_64_chips_is_what_the_compiled_step_was_recorded_to_take(
        experiment, mesh, trained, row, most):
    """Its layout says so, without compiling."""
    found, parameters = compile_apart(bytes_and_parameters, TrainRequest("v5p:4x4x4", experiment, mesh=mesh), None)
    lines = PAGE.read_text().splitlines()
    number, recorded = next((number, cells(line)) for number, line in enumerate(lines) if line.startswith(row))
    columns = cells(next(line for line in reversed(lines[:number]) if "arguments" in line))
    arguments, needed = (float(recorded[columns.index(name)]) for name in ("arguments", "needed GiB"))
    assert parameters == trained and found / GIB == pytest.approx(arguments, rel=0.01)
    assert needed < most, "two samples a chip ought to leave most of 95 GiB free"


@pytest.mark.nightly
def test_the_command_compiles_the_step_of_the_released_size_for_64_v5p_chips_and_it_fits(tmp_path):
    report = compiled_step(tmp_path, "--experiment=bagel_cot", "--topology", "v5p:4x4x4", "--mesh", "data=2,fsdp=32")
    assert report["trained_parameters"] == BAGEL_TRAINED and report["layers"] == 28 and report["chips"] == 64
    assert report["gib_per_chip"]["peak"] < 16, "two 1024-pixel samples a chip ought to leave most of 95 GiB free"


@pytest.mark.nightly
@pytest.mark.parametrize("topology, records", [("v5p:4x4x4", "images"), ("v6e:8x8", "stored")])
def test_the_step_of_blip3o_8b_compiles_for_64_chips_and_leaves_most_of_their_memory_free(tmp_path, topology, records):
    report = compiled_step(tmp_path, "--experiment=blip3o", "--topology", topology, "--mesh", "data=4,fsdp=16", "--set",
                           f"rows.features={records}")
    assert report["trained_parameters"] == BLIP3O_TRAINED and report["chips"] == 64
    assert report["gib_per_chip"]["peak"] < 5


def test_the_command_compiles_the_step_of_a_narrow_blip3o_for_chips_that_are_not_at_hand(tmp_path):
    report = compiled_step(tmp_path, "--experiment=blip3o", "--checkpoint", tiny_checkpoint.shared(),
                           "--topology", "v5p:2x2x1", "--mesh", "data=2,fsdp=2")
    assert report["chips"] == 4 and 0 < report["gib_per_chip"]["peak"] < 0.1


def compiled_step(folder, *words):
    """The report of the command. Gradients of matrices that are split over their input must not leave as full-size
    all-reduces.
    """
    code, _, err = commands.run_afresh("srum_jax.compile", *words, "--cache", folder / "cache",
                                       "--json", folder / "report.json")
    assert code == 0, err
    report = json.loads((folder / "report.json").read_text())
    kinds = [row["kind"] for row in report["collectives"] if row["in_loop"]]
    assert kinds.count("reduce-scatter") >= 3 and kinds.count("all-gather") >= 3
    return report
