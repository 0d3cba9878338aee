"""Slices and meshes by name, and the search for the largest batch."""

import json
import math

import pytest

from srum_jax import compile as compile_command
from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiling import CompileResult, compile_apart
from srum_jax.aot.drawing_program import DrawingRequest, DrawingResult
from srum_jax.aot.generation_report import as_text, program_entry, whole_entry
from srum_jax.aot.hlo_program import Program, host_calls
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.topology import CHIPS, GIB, parse_topology
from srum_jax.errors import BadInput, Failure
from srum_jax.families.costs import Drawing
from srum_jax.mesh_config import MeshConfig
from tests.aot import other_process


@pytest.mark.parametrize("text, chips", [("v5e:4x4", 16), ("v6e:2x2", 4), ("v5p:2x2x1", 4), ("v5e:1x1", 1)])
def test_a_slice_is_read_by_name(text, chips):
    topology = parse_topology(text)
    assert topology.name == text and topology.num_chips == chips
    assert topology.chip.name == text.partition(":")[0]


@pytest.mark.parametrize("text, named", [
    ("v5x:2x2", "v5e, v6e, v5p"), ("v5e", "CHIP:GRID"), ("v5e:", "2 sizes"), ("v5p:2x2", "3 sizes"),
    ("v5e:2x2x1", "2 sizes"), ("v5e:0x2", "0x2"), ("v5e:2xx2", "2xx2"), ("v5litepod-16", "CHIP:GRID"),
])
def test_an_unknown_slice_is_an_error_that_says_what_is_known(text, named):
    with pytest.raises(BadInput, match=named):
        parse_topology(text)


def test_the_table_of_chips_is_plausible():
    for chip in CHIPS.values():
        assert 8 * GIB < chip.hbm_bytes < 200 * GIB
        # Bytes are scarcer than FLOPs, and links than memory.
        assert chip.peak_flops > 100 * chip.hbm_bandwidth > 100 * chip.ici_bandwidth


@pytest.mark.parametrize("fixed, per_step, limit", [(3, 0.7, 16), (3, 5, 16), (20, 1, 16), (3, 0.001, 16), (3, 13, 16)])
def test_the_largest_batch_is_confirmed_from_both_sides(fixed, per_step, limit):
    tried = {}

    def needed(program, batch):
        size = fixed + per_step * (batch // 4) + 0.1 * math.sin(batch)
        tried[batch] = size if size < 2 * limit else math.inf
        return tried[batch]

    largest, limited_by = largest_batch(["denoise"], needed, limit, 4, 400)
    expected = max((4 * i for i in range(1, 101) if fixed + per_step * i + 0.1 * math.sin(4 * i) <= limit), default=0)
    assert largest == expected and (limited_by is None) == (expected == 400)
    assert largest == 0 or tried[largest] <= limit
    assert largest == 400 or tried[largest + 4] > limit
    assert len(tried) <= 8
    tried.clear()
    if largest <= 4:
        return
    # A good first guess has to be confirmed once.
    assert largest_batch(["denoise"], needed, limit, 4, 400, start=largest) == (largest, limited_by)
    assert len(tried) <= 2


def test_a_later_program_can_only_lower_the_limit():
    sizes = {"denoise": 1.0, "decode": 2.0, "pixels": 1.5}
    assert largest_batch(list(sizes), lambda name, batch: sizes[name] * batch, 20, 1, 1000) == (10, "decode")


def request(**changes):
    fields = dict(topology="v5e:2x4", mesh=MeshConfig(data=1, fsdp=8), family="bagel", program="denoise",
                  drawing=Drawing(8, num_timesteps=20, max_tokens=7, editing=True))
    return DrawingRequest(**fields | changes)


def test_another_process_compiles_and_takes_nobody_with_it():
    sent = request(checkpoint="somewhere", layers=2)
    assert compile_apart(other_process.answer, sent, None) == sent
    with pytest.raises(BadInput, match="no such thing"):
        compile_apart(other_process.refuse, sent, None)
    with pytest.raises(Failure, match=r"v5e:2x4: .*ended with code 7.*\na check failed"):
        compile_apart(other_process.die, sent, None)


def test_memory_that_a_program_does_not_read_counts():
    result = CompileResult(state_bytes=10, compile_seconds=1, peak_bytes=5, elsewhere_bytes=4, code_bytes=1)
    assert result.needed_bytes == 10 and result.fits(10) and not result.fits(9)
    assert not CompileResult(state_bytes=1, compile_seconds=1, refusal="too much").fits(10**12)


def test_the_report_says_what_does_not_fit():
    topology = parse_topology("v5e:2x4")
    axes = {"data": 1, "fsdp": 8, "seq": 1, "tensor": 1}
    entries = [
        program_entry(request(program="denoise"), topology, axes,
                      DrawingResult(CompileResult(state_bytes=1, compile_seconds=1, peak_bytes=20 * GIB))),
        program_entry(request(program="pixels"), topology, axes,
                      DrawingResult(CompileResult(state_bytes=1, compile_seconds=1, refusal="Ran out of memory"))),
    ]
    report = whole_entry(request(), topology, axes, entries)
    text = as_text(report)
    assert not report["fits"] and "does not fit" in text
    assert "20.00" in text and "15.75" in text and "more than there is" in text
    json.dumps(report)


def test_results_are_kept_by_program_text_and_target(tmp_path):
    cache = CompileCache(tmp_path / "cache")
    key = cache.key("v5e:2x4", "a program")
    assert len({key, cache.key("v5e:4x4", "a program"), cache.key("v5e:2x4", "another")}) == 3
    assert cache.read(key) is None
    cache.write(key, {"peak_bytes": 3})
    assert cache.read(key) == {"peak_bytes": 3}
    (tmp_path / "cache" / f"{key}.json.gz").write_bytes(b"damaged")
    assert cache.read(key) is None
    assert CompileCache(None).read(key) is None


HLO = """HloModule jit_f

%body.1 (arg: (bf16[2,4])) -> (bf16[2,4]) {
  %gathered = bf16[1,16,4]{2,1,0} all-gather(%arg), dimensions={1}
  %copy.3 = bf16[2,4]{1,0:T(8,128)} copy(%gathered)
  ROOT %call = (f32[2]{0}, u32[]) custom-call(%copy.3), custom_call_target="xla_ffi_python_cpu_callback"
}

ENTRY %main.2 (p: bf16[2,4]) -> bf16[2,4] {
  %started = (bf16[8]{0}, bf16[64]{0}) all-gather-start(%p), dimensions={0}
  %kernel = bf16[8]{0} custom-call(%p), custom_call_target="tpu_custom_call", metadata={op_name="pure_callback"}
  ROOT %copy.5 = bf16[2,4]{1,0} copy(%p)
}
"""


def test_calls_of_the_host_are_found_and_kernels_are_none():
    (call,) = host_calls(Program(HLO))
    assert call.startswith("custom-call call") and "python_cpu_callback" in call


@pytest.mark.parametrize("arguments, named", [
    (["--topology", "v9:2x2"], "v5e, v6e, v5p"),
    (["--topology", "v5e:2x4", "--mesh", "fsdp=3"], "8 devices"),
    (["--topology", "v5e:2x4", "--mesh", "seq=2,fsdp=4"], "seq=1"),
    (["--topology", "v5e:2x4", "--batch", "3"], "multiple of 8"),
    (["--topology", "v5e:2x4", "--height", "1000"], "multiple of 16"),
    (["--topology", "v5e:2x4", "--width", "2048"], "at most 1024"),
    (["--topology", "v5e:2x4", "--checkpoint", "nowhere"], "nowhere: no such directory"),
    (["--topology", "v5e:2x4", "--num-timesteps", "1"], "num_timesteps"),
])
def test_the_command_refuses_what_it_cannot_use(arguments, named, capsys):
    assert compile_command.main(["--generation", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_the_command_reports_what_the_compiler_said(monkeypatch, tmp_path, capsys):
    asked = []

    def compile_apart(compile_, request, cache, *, nice):
        asked.append((request.program, request.drawing.rows))
        peak = (3 + request.drawing.rows // 4) * GIB
        return DrawingResult(CompileResult(state_bytes=1, compile_seconds=1, peak_bytes=peak))

    monkeypatch.setattr("srum_jax.aot.compiling.compile_apart", compile_apart)
    report = tmp_path / "report.json"
    assert compile_command.main(["--generation", "--topology", "v6e:2x2", "--largest", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["rows"] == 4 * 28 and found["fits"] and found["largest_limited_by"] == "denoise"
    assert ("denoise", 4 * 29) in asked and ("pixels", 4 * 28) in asked
    assert "estimate" in capsys.readouterr().out.lower()
    assert compile_command.main(["--generation", "--topology", "v6e:2x2", "--batch", "400"]) == 1
