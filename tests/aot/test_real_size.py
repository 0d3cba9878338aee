"""The released model's train step, lowered and compiled ahead of time for a TPU slice that is not at hand."""

import importlib.util
import json

import pytest

from tests import commands


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
