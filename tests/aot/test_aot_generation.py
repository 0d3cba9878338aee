"""The tables of generation, of made-up results of the compiler."""

import pytest

from benchmarks.aot_generation import _decoding_text, _slice_text
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.drawing_program import DrawingRequest, DrawingResult
from srum_jax.aot.generation_report import program_entry, whole_entry
from srum_jax.aot.topology import GIB, parse_topology
from srum_jax.compile import main
from srum_jax.families.costs import Drawing
from srum_jax.mesh_config import MeshConfig

AXES = {"data": 1, "fsdp": 8, "seq": 1, "tensor": 1}
FITS = CompileResult(state_bytes=GIB, compile_seconds=1, peak_bytes=3 * GIB)
REFUSED = CompileResult(state_bytes=GIB, compile_seconds=1, refusal="RESOURCE_EXHAUSTED")


def report(memory, *programs):
    topology = parse_topology("v5e:2x4")
    drawing = Drawing(rows=8, prompt_tokens=254, height=1024, width=1024, num_timesteps=50, max_tokens=512)
    requests = [DrawingRequest(topology.name, MeshConfig(fsdp=8), "bagel", program, drawing) for program in programs]
    entries = [program_entry(request, topology, AXES, DrawingResult(memory)) for request in requests]
    return whole_entry(requests[0], topology, AXES, entries) | {"largest_limited_by": "denoise"}


def test_what_fits_is_told_with_its_memory():
    text = _slice_text(report(FITS, "denoise"))
    assert "fits is **8 images**" in text and "| denoise | 0.00 | 0.00 | 0.00 | 3.00 | 0.00 | 3.00 | " in text


def test_a_slice_on_which_nothing_fits_has_no_figures_of_memory():
    text = _slice_text(report(REFUSED, "denoise"))
    assert "Nothing fits, not even **8 images**" in text and "| denoise | - | - | - | - | - | - | " in text
    assert "fsdp=8 | 8 | - | 0 | " in _decoding_text([report(REFUSED, "decode")])


def test_a_released_size_stands_for_a_checkpoint_of_its_family(capsys):
    slice_of = ["--generation", "--topology", "v5e:2x4", "--family", "blip3o"]
    assert main([*slice_of, "--checkpoint", "4B", "--programs", "pixels,rest"]) == 2
    assert "--programs: expected some of" in capsys.readouterr().err
    assert main([*slice_of, "--checkpoint", "9B"]) == 2
    assert "9B" in capsys.readouterr().err


@pytest.mark.slow
def test_sides_are_those_that_the_model_draws_where_none_are_asked_for(monkeypatch):
    asked = []

    def compile_apart(compile_, request, cache, *, nice):
        asked.append(request.drawing)
        return DrawingResult(FITS)

    monkeypatch.setattr("srum_jax.aot.compiling.compile_apart", compile_apart)
    slice_of = ["--generation", "--topology", "v5e:2x2", "--mesh", "data=4", "--programs", "pixels"]
    assert main([*slice_of, "--family", "janus_pro", "--checkpoint", "1B"]) == 0
    assert main([*slice_of, "--width", "512"]) == 0
    assert [(drawing.height, drawing.width) for drawing in asked] == [(384, 384), (1024, 512)]
