"""The benchmark of the training step at the real model's shape, on what there is."""

import json

import pytest

from srum_jax.aot.training import PROMPT_TOKENS
from tests import commands


def benchmark(*arguments, run=commands.run):
    return run("benchmarks.train_step", "--device", "gpu", *arguments)


@pytest.mark.slow
def test_without_a_gpu_it_says_what_to_do_and_ends_with_2():
    code, _, err = benchmark(run=commands.run_afresh)
    assert code == 2 and "Traceback" not in err
    assert err.startswith("error: --device gpu: JAX finds no GPU, only cpu.") and "cuda12" in err


def test_generation_is_measured_on_a_gpu_only_if_asked_so():
    code, _, err = commands.run("benchmarks.generate", "--device", "gpu")
    assert code == 2 and err.startswith("error: --device gpu: JAX finds no GPU, only cpu.") and err.count("\n") == 1


@pytest.mark.slow
def test_numbers_that_make_no_sense_are_refused():
    code, _, err = benchmark("--layers", "0")
    assert code == 2 and "--layers: expected a positive number, found 0." in err


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--without-autoencoder", "--attention", "dense", "--rows", "2")])
def test_the_same_code_runs_at_narrow_widths_without_a_gpu(tmp_path, options):
    code, _, err = benchmark("--width-divisor", "32", "--layers", "2", "--steps", "1", "--peak", "0.1",
                             "--profile", tmp_path / "trace", "--json", tmp_path / "step.json", *options)
    assert code == 0, err
    row = json.loads((tmp_path / "step.json").read_text())[0]
    assert row["layers"] == 2 and row["device"] == "cpu" and row["peak GiB"] > 0
    # A row: two samples of a prompt, four markers, and 2 x 2 latents.
    assert row["tokens/s"] * row["s/step"] == pytest.approx(row["rows"] * 2 * (PROMPT_TOKENS + 4 + 4))
    assert row["images/s"] * row["s/step"] == pytest.approx(row["rows"] * 2)
    assert row["attention"] == ("dense" if options else "chunked")
    assert row["MFU"] == pytest.approx(row["model TFLOP/s"] / 0.1)
    assert 0 < row["loss"] < 100
    assert list((tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb"))
