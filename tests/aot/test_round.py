"""A round of SUDER on a described slice, by a made-up compiler."""

import json

import jax
import pytest

from srum_jax.aot import train_step
from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiled import bytes_per_device
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.drawing_program import DrawingRequest, DrawingResult
from srum_jax.aot.topology import GIB
from srum_jax.aot.training import TrainRequest
from srum_jax.compile import main
from srum_jax.families.registry import family
from srum_jax.rollouts.config import RolloutConfig
from tests.aot.made_up_step import result

SUDER = ["--experiment=suder_janus", "--checkpoint", "1B", "--topology", "v5e:2x4", "--mesh", "fsdp=8", "--round"]
RESIDENT = 4 * GIB


@pytest.fixture
def compiler(monkeypatch):
    """Programs take 1 GiB for 8 outputs at once, beside 4 GiB of state; what was asked is listed."""
    asked = []

    def compile_apart(compile_, request, cache, *, nice):
        asked.append(request)
        if isinstance(request, DrawingRequest):
            return DrawingResult(CompileResult(state_bytes=1, compile_seconds=1,
                                               peak_bytes=request.drawing.rows // 8 * GIB))
        return result(memory=CompileResult(state_bytes=1, compile_seconds=1, peak_bytes=9 * GIB),
                      resident_bytes=RESIDENT)

    monkeypatch.setattr("srum_jax.aot.compiling.compile_apart", compile_apart)
    return asked


@pytest.mark.slow
def test_what_draws_is_compiled_for_the_outputs_of_the_experiment_and_has_to_fit_beside_the_state(
    compiler, tmp_path, capsys
):
    assert main([*SUDER, "--json", str(tmp_path / "report.json")]) == 0
    found = json.loads((tmp_path / "report.json").read_text())["round"]
    costs = family("janus_pro").costs
    assert [program["program"] for program in found["programs"]] == [*costs.drawn_by, *costs.rewarded_by]
    assert {program["needed_gib"] for program in found["programs"]} == {8 + 4}  # 64 at once
    assert found["outputs"] == {"generation": 64 * 8, "understanding": 32 * 8} and found["resident_gib"] == 4
    drawn = [request for request in compiler if isinstance(request, DrawingRequest)]
    assert {(request.drawing.height, request.drawing.max_tokens, request.attention) for request in drawn} == {
        (384, RolloutConfig().caption.max_tokens, "dense")}
    slots = {request.program: costs.prompt_slots(request.drawing) for request in drawn}
    assert slots.pop("decode") > 576 > max(slots.values()), "captions follow a picture, prompts nothing"
    assert "needed 12.00 GiB of 15.75, fits" in capsys.readouterr().out
    assert main([*SUDER, "--set", "rollouts.batch_size=96"]) == 1, "12 and 4 GiB are more than a v5e has"
    assert "16.00 GiB of 15.75, does not fit" in capsys.readouterr().out


@pytest.mark.parametrize("audit_every", [0, 8])
def test_initial_weights_that_rounds_need_lie_beside_the_step_too(monkeypatch, audit_every):
    """The compiler does not know of them."""
    asked = {}

    def compile_lowered(lowered, arguments, cache, topology, options):
        asked["bytes"] = [bytes_per_device(argument) for argument in arguments]
        return CompileResult(state_bytes=1, compile_seconds=1, refusal="RESOURCE_EXHAUSTED"), ""

    monkeypatch.setattr(train_step, "described_devices", lambda *_: jax.devices()[:1])
    monkeypatch.setattr(train_step, "compile_lowered", compile_lowered)
    settings = ("compute.attention=dense", "compute.dtype=bfloat16", f"rollouts.audit_every={audit_every}")
    found = train_step.compile_step(TrainRequest("v5e:1x1", "suder_tiny", settings), CompileCache(None))
    state, _, _, initial = asked["bytes"]
    assert found.resident_bytes == state + initial
    assert initial == (2 * found.parameters if audit_every else 0)


def test_the_seconds_of_a_round_are_those_of_its_parts(compiler, tmp_path):
    def estimate(*changes):
        assert main([*SUDER, *changes, "--json", str(tmp_path / "report.json")]) == 0
        return json.loads((tmp_path / "report.json").read_text())["round"]["estimate"]

    both = estimate()
    assert both["seconds_per_round"] == pytest.approx(sum(both["seconds"].values()))
    assert all(seconds > 0 for seconds in both["seconds"].values()) and "updates" in both["seconds"]
    twice = estimate("--set", "rollouts.directions=generation", "--set", "rollouts.prompts_per_round=128")
    assert twice["seconds"]["captions"] == twice["seconds"]["rewards of captions"] == 0
    assert twice["seconds"]["pictures"] == pytest.approx(2 * both["seconds"]["pictures"])


@pytest.mark.slow
def test_the_most_outputs_at_once_are_found(compiler, capsys):
    assert main([*SUDER, "--largest"]) == 0
    assert "88 are the most that fit at once" in capsys.readouterr().out  # 11 and 4 GiB of 15.75


def test_some_programs_of_a_round_may_be_compiled_alone(compiler):
    assert main([*SUDER, "--programs", "score_texts,codes"]) == 0
    assert [request.program for request in compiler[1:]] == ["score_texts", "codes"]


@pytest.mark.parametrize("arguments, named", [
    ([*SUDER, "--programs", "denoise"], "--programs: expected some of codes, pixels"),
    (["--experiment=bagel_cot", "--topology", "v5p:4x4x4", "--round"], "--round: expected an experiment with rollouts"),
    (["--experiment=suder_janus", "--topology", "v5e:2x4", "--mesh", "fsdp=4,seq=2", "--round"], "seq=2"),
    (["--experiment=suder_janus", "--topology", "v5e:2x4", "--slices", "2", "--mesh", "data=2,fsdp=8", "--round"],
     "one slice"),
])
def test_what_has_no_rounds_is_refused(compiler, capsys, arguments, named):
    assert main(arguments) == 2
    assert named in capsys.readouterr().err and not compiler
