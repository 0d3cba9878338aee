"""A train step on slices that are only described: what is asked, what a row holds, the report, the command."""

import dataclasses
import json

import pytest

from experiments.bagel_cot import experiment as bagel_cot
from experiments.suder_bagel import experiment as suder_bagel
from srum_jax import compile as compile_command
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.roofline import step_roofline
from srum_jax.aot.topology import CHIPS, GIB, parse_topology
from srum_jax.aot.training import complete, mesh_sizes, plan
from srum_jax.aot.training_report import as_text, training_entry
from srum_jax.data.errors import CapacityError
from srum_jax.errors import BadInput, Failure
from srum_jax.families.bagel.step_costs import full_row, row_statistics
from srum_jax.families.costs import scaled
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import RELEASED
from tests.aot.made_up_step import BETWEEN, GATHER, MESH, request, result

# -- what is asked ---------------------------------------------------------------------------------------------------

def test_a_request_names_what_is_compiled():
    found = plan(request(experiment="bagel_lora", settings=("compute.remat=dots",), layers=3))
    assert found.experiment.name == "bagel_lora" and found.experiment.compute.remat == "dots"
    assert found.mesh == MESH and found.rows == found.request.rows == 64 and found.step == 64
    assert found.config.llm.num_layers == 3 and found.config.llm.hidden_size == RELEASED.llm.hidden_size
    assert plan(found.request) == found, "the other process finds the same"
    assert found.with_rows(128).rows == found.with_rows(128).request.rows == 128


def test_a_batch_is_that_of_the_experiment_or_the_next_that_the_mesh_can_split():
    rows = lambda mesh, batch=None: complete(bagel_cot(), MESH | mesh, batch).data.rows_per_batch  # noqa: E731
    assert rows({"data": 1, "fsdp": 8}) == 8 and rows({"data": 1, "fsdp": 4}) == 8
    assert rows({}) == 64 and rows({}, 128) == 128
    with pytest.raises(BadInput, match=r"multiple of 64.*found 8"):
        rows({}, 8)
    with pytest.raises(BadInput, match=r"text_capacity.*multiple of seq = 3"):
        rows({"seq": 3})


def test_accumulated_batches_are_multiples_of_their_micro_batches():
    base = bagel_cot()
    accumulating = dataclasses.replace(base, training=dataclasses.replace(base.training, accumulation_steps=2))
    assert complete(accumulating, MESH, None).data.rows_per_batch == 128


def test_a_row_of_stored_latents_is_counted_as_one_of_images():
    stored = dataclasses.replace(bagel_cot().rows, latents="stored")
    counted = (row_statistics(RELEASED, full_row(rows, RELEASED, 18), 512) for rows in (bagel_cot().rows, stored))
    assert len(set(counted)) == 1


def test_a_mesh_covers_all_slices_and_data_is_split_among_them():
    topology = parse_topology("v6e:16x16")
    meant = lambda **sizes: dataclasses.replace(bagel_cot(), mesh=MeshConfig(**sizes))  # noqa: E731
    assert mesh_sizes(meant(data=-1, fsdp=32), topology, 16)["data"] == 128
    with pytest.raises(BadInput, match="4096 devices"):
        mesh_sizes(meant(data=3, fsdp=32), topology, 16)
    with pytest.raises(BadInput, match="multiple of the 16 slices, found 8"):
        mesh_sizes(meant(data=8, fsdp=512), topology, 16)


# -- what a row holds ------------------------------------------------------------------------------------------------

def test_a_full_row_of_the_recipe_is_hardly_padded():
    row = full_row(bagel_cot().rows, RELEASED, 26)
    found = row_statistics(RELEASED, row, 512)
    assert found.counts.gen_tokens == 8192 and found.counts.und_tokens == 2 * (26 + 4)
    assert found.padding < 0.03, "the target of docs/what_fits_where.md"
    with pytest.raises(CapacityError, match="text_capacity"):
        full_row(bagel_cot().rows, RELEASED, 100)


def test_a_full_row_of_rounds_has_its_pictures_and_keeps_the_slots_for_captions_empty():
    row = full_row(suder_bagel().rows, RELEASED, 18)
    counts = row_statistics(RELEASED, row, 512).counts
    assert counts.gen_tokens == 16 * 32 * 32 and counts.und_tokens == 16 * (18 + 4)


def test_visited_blocks_are_those_that_the_mask_does_not_empty():
    found = row_statistics(RELEASED, full_row(bagel_cot().rows, RELEASED, 26), 512)
    # Block 0 holds the text, markers of both images among them: it sees and is seen by all. Each image has 8 blocks.
    assert found.visited_blocks == 17 + 16 + 2 * 8 * 8
    assert row_statistics(RELEASED, full_row(bagel_cot().rows, RELEASED, 26), 0).visited_blocks == 0


def test_with_split_queries_the_fullest_part_counts():
    row = full_row(bagel_cot().rows, RELEASED, 26)
    whole, halves = (row_statistics(RELEASED, row, 512, seq).visited_blocks for seq in (1, 2))
    assert whole / 2 <= halves < whole


def test_kernels_are_counted_by_their_products_and_are_told_from_unknown_ones():
    found = row_statistics(RELEASED, full_row(bagel_cot().rows, RELEASED, 26), 512)
    row = dataclasses.replace(found, visited_blocks=10)
    query = (28, 8704, 128)
    found = [row.kernel_flops(f"splash_mha_{name}.3", ((1, 17, 17), query, (4, 8704, 128)))
             for name in ("fwd_residuals", "dq_no_residuals", "dkv_no_residuals")]
    assert found == [products * 2 * 28 * 10 * 512**2 * 128 for products in (2, 3, 4)]
    assert row.kernel_flops("other", (query,)) is row.kernel_flops("splash_mha_fwd", ()) is None


def test_a_batch_counts_as_its_rows_do():
    counts = row_statistics(RELEASED, full_row(bagel_cot().rows, RELEASED, 26), 512).counts
    assert scaled(counts, 64).pairs == 64 * counts.pairs


# -- the estimate and the report -------------------------------------------------------------------------------------

def test_the_estimate_is_the_longest_term_and_waits_for_what_is_not_hidden():
    chip = dataclasses.replace(CHIPS["v5p"], peak_flops=100.0, hbm_bandwidth=10.0, ici_bandwidth=30e9,
                               dcn_bandwidth=1e9)
    time = step_roofline(300.0, [GATHER, BETWEEN], chip)
    assert time["seconds"] == {"compute": 3.0, "all-gather": 2.0, "between slices": 1.0}
    assert time["at_least_seconds"] == 3.0 and time["bound"] == "compute"
    assert time["exposed_seconds"] == 5.0, "what is exchanged between slices is hidden, what is gathered is not"
    assert step_roofline(100.0, [GATHER], chip)["bound"] == "all-gather"


def test_the_report_has_every_figure():
    topology = parse_topology("v5p:4x4x4")
    entry = training_entry(plan(request()), topology, result())
    assert entry["fits"] and entry["flops_ratio"] == pytest.approx(4 / 3)
    estimate = entry["estimate"]
    assert estimate["seconds"]["compute"] == pytest.approx(400e12 / 459e12)
    assert estimate["mfu_at_most"] == pytest.approx(0.75) and estimate["mfu_exposed"] < 0.75
    text = as_text(entry)
    for expected in ("64 chips", "data=2 fsdp=32", "11.00 GiB of 95.74", "1.333 x", "1.0% of token slots", "all-gather",
                     "in a loop", "data (slices)", "by compute", "fits"):
        assert expected in text, expected
    json.dumps(entry)


def test_the_report_says_what_does_not_fit():
    refused = result(memory=CompileResult(state_bytes=1, compile_seconds=1, refusal="Ran out of memory"))
    entry = training_entry(plan(request()), parse_topology("v5p:4x4x4"), refused)
    text = as_text(entry | {"largest": {"rows": 0, "step": 64, "limited_by_memory": True}})
    assert not entry["fits"] and "does not fit" in text and "Ran out of memory" in text
    assert "not even the smallest batch fits, of 64 rows" in text


def test_loops_and_kernels_that_could_not_be_read_are_named():
    entry = training_entry(plan(request()), parse_topology("v5p:4x4x4"),
                           result(unknown_loops=["while.7"], unknown_kernels=["mystery"]))
    assert "while.7" in as_text(entry) and "mystery" in as_text(entry)


# -- the command -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, named", [
    (["--experiment=bagel_cott"], "nearest is bagel_cot"),
    (["--experiment=bagel_cot", "--topology", "v5p:4x4"], "3 sizes"),
    (["--experiment=bagel_cot", "--mesh", "data=3"], "64 devices"),
    (["--experiment=bagel_cot", "--mesh", "data=2,fsdp=32", "--batch", "65"], "multiple of 64"),
    (["--experiment=bagel_cot", "--slices", "0"], "--slices"),
    (["--experiment=bagel_cot", "--slices", "3", "--mesh", "data=2,fsdp=96"], "multiple of the 3 slices"),
    (["--experiment=bagel_cot", "--set", "rows.txt_capacity=1"], "nearest is rows.text_capacity"),
    (["--experiment=bagel_cot", "--set", "rows.image_height=1000"], "rows.image_height"),
    (["--experiment=bagel_cot", "--compiler-option", "nonsense"], "NAME=VALUE"),
    (["--experiment=bagel_cot", "--checkpoint", "nowhere"], "llm_config.json"),
])
def test_the_command_refuses_what_it_cannot_use(arguments, named, capsys):
    topology = [] if "--topology" in arguments else ["--topology", "v5p:4x4x4"]
    assert compile_command.main([*arguments, *topology]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("arguments, named", [
    (["--experiment=bagel_cot", "--height", "512"], "--height: only with --generation"),
    (["--experiment=blip3o", "--family", "blip3o"], "--family: only with --generation"),
    (["--generation", "--set", "a=1"], "--set: only with --experiment"),
    (["--generation", "--slices", "2"], "--slices: only with --experiment"),
    (["--generation", "--experiment=bagel_cot"], "not allowed with"), ([], "required"),
])
def test_options_of_one_kind_of_program_are_not_ignored_with_the_other(arguments, named, capsys):
    with pytest.raises(SystemExit) as ended:
        compile_command.main([*arguments, "--topology", "v5e:2x4"])
    assert ended.value.code == 2 and named in capsys.readouterr().err


@pytest.fixture
def compiler(monkeypatch):
    """A compiler by which a row takes 4 GiB of a chip beside 5 GiB; what was asked of it is listed."""
    asked = []

    def compile_apart(compile_, request, cache, *, nice):
        asked.append(request)
        peak = (5 + 4 * request.rows // 64) * GIB
        return result(memory=CompileResult(state_bytes=1, compile_seconds=1, peak_bytes=peak))

    monkeypatch.setattr("srum_jax.aot.compiling.compile_apart", compile_apart)
    return asked


def test_the_command_reports_what_the_compiler_said(compiler, tmp_path, capsys):
    arguments = ["--experiment=bagel_cot", "--topology", "v5p:4x4x4", "--mesh", "data=2,fsdp=32"]
    report = tmp_path / "report.json"
    changes = ["--set", "compute.remat=dots", "--compiler-option", "xla_a=1"]
    assert compile_command.main([*arguments, *changes, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert found["rows"] == 64 and found["remat"] == "dots" and found["compiler_options"] == ["xla_a=1"]
    assert "estimate" in capsys.readouterr().out.lower()
    assert compiler[-1].mesh == MeshConfig(data=2, fsdp=32)
    assert compile_command.main([*arguments, "--batch", "2048"]) == 1


def test_the_command_finds_the_largest_batch(compiler, capsys):
    assert compile_command.main(["--experiment=bagel_cot", "--topology", "v5p:4x4x4", "--mesh", "data=2,fsdp=32",
                                 "--largest"]) == 0
    assert "the largest batch that fits has 1408 rows" in capsys.readouterr().out  # 22 a chip: 5 + 4 x 22 = 93 GiB
    tried = [request.rows for request in compiler]
    assert {1408, 1472} <= set(tried) and len(tried) == len(set(tried))


@pytest.mark.parametrize("error, code", [(Failure("it failed"), 1), (BadInput("silently slow"), 2)])
def test_failures_of_the_compiler_and_bad_requests_are_told_apart(monkeypatch, capsys, error, code):
    def compile_apart(*_, **__):
        raise error

    monkeypatch.setattr("srum_jax.aot.compiling.compile_apart", compile_apart)
    assert compile_command.main(["--experiment=bagel_cot", "--topology", "v5p:4x4x4"]) == code
    assert str(error) in capsys.readouterr().err
