"""Steps of released models, lowered and compiled ahead of time for a TPU slice that is not at hand.

BAGEL's takes the compiler minutes, with two layers too: by day its layout is held against the page, and
`test_training_narrow.py` looks at its exchanges.
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

PAGE = commands.ROOT / "docs" / "what_fits_where.md"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform")
def test_the_state_of_the_released_model_on_64_chips_is_what_the_compiled_step_was_recorded_to_take():
    """Its layout says so, without compiling."""
    request = TrainRequest("v5p:4x4x4", "bagel_cot", mesh=MeshConfig(data=2, fsdp=32))
    found, parameters = compile_apart(bytes_and_parameters, request, None)
    recorded = next(line for line in PAGE.read_text().splitlines() if line.startswith("| v5p-128 | v5p:4x4x4 | 64 |"))
    arguments, needed = (float(recorded.split("|")[column]) for column in (6, 8))
    assert parameters > 14.1e9 and found / GIB == pytest.approx(arguments, rel=0.01)
    assert needed < 16, "two 1024-pixel samples a chip ought to leave most of 95 GiB free"


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform")
def test_the_command_compiles_the_step_of_the_released_size_for_64_v5p_chips_and_it_fits(tmp_path):
    code, _, err = commands.run_afresh(
        "srum_jax.compile", "--experiment=bagel_cot", "--topology", "v5p:4x4x4", "--mesh", "data=2,fsdp=32",
        "--cache", tmp_path / "cache", "--json", tmp_path / "report.json")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["trained_parameters"] > 14.1e9 and report["layers"] == 28 and report["chips"] == 64
    assert report["gib_per_chip"]["peak"] < 16, "two 1024-pixel samples a chip ought to leave most of 95 GiB free"
    # Weight gradients of matrices split over their input must not leave as full-size all-reduces.
    kinds = [row["kind"] for row in report["collectives"] if row["in_loop"]]
    assert kinds.count("reduce-scatter") >= 3 and kinds.count("all-gather") >= 3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed on this platform")
@pytest.mark.parametrize("topology, records", [
    ("v5p:4x4x4", "images"), pytest.param("v6e:8x8", "stored", marks=pytest.mark.nightly)])
def test_the_step_of_blip3o_8b_compiles_for_64_chips_and_leaves_most_of_their_memory_free(tmp_path, topology, records):
    """By day on one topology, from pictures, which is the larger step."""
    code, _, err = commands.run_afresh(
        "srum_jax.compile", "--experiment=blip3o", "--topology", topology, "--mesh", "data=4,fsdp=16",
        "--set", f"rows.features={records}", "--cache", tmp_path / "cache", "--json", tmp_path / "report.json")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["trained_parameters"] == 1_365_010_336 + 229_376 and report["chips"] == 64
    assert report["gib_per_chip"]["peak"] < 5
    kinds = [row["kind"] for row in report["collectives"] if row["in_loop"]]
    assert kinds.count("reduce-scatter") >= 3
