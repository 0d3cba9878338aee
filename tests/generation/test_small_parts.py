"""Seeds, units of work, image files, records, the checkpoint's fingerprint, and the arguments."""

import argparse
import hashlib
import io
import json
import shutil
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.generation.arguments import add_generation_arguments, parse_size, settings_of
from srum_jax.generation.image_store import FORMATS, crop_black_border, encode_image
from srum_jax.generation.prompts import Prompt, record_seed
from srum_jax.generation.records import detailed_prompt
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.generation.work_units import plan_work
from srum_jax.inference.settings import TextSampler
from srum_jax.model_arguments import add_model_arguments
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.overrides import to_json
from srum_jax.stages.ahead import is_computing, one_ahead
from srum_jax.stages.processes import Processes, find_processes
from srum_jax.weights.fingerprint import checkpoint_fingerprint
from tests.generation.fakes import made_up_prompts
from tests.golden import golden_json
from tests.weights.tiny_checkpoint import tensors, write


def test_seeds_follow_the_written_rule():
    digest = hashlib.sha256(b"srum-seed-v1|42|set-1-c00").digest()
    assert record_seed(42, "set-1-c00") == int.from_bytes(digest[:8], "big") % 2**63
    assert record_seed(42, "set-1-c00") != record_seed(42, "set-1-c01") != record_seed(43, "set-1-c01")
    assert all(0 <= record_seed(0, str(number)) < 2**63 for number in range(100))


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 3), st.integers(1, 6))
def test_every_image_is_in_exactly_one_unit_of_exactly_one_process(count, batch, shards, candidates, processes):
    settings = GenerationSettings(num_candidates=candidates, batch_size=batch, output=OutputSettings(shards))
    prompts = [Prompt(i, "s", str(i), "p", height=[None, 16, 32][i % 3], width=[None, 16, 32][i % 3],
                      image="x.png" if i % 5 == 0 else None) for i in range(count)]
    plan = plan_work(prompts, settings)
    shares = [Processes(process, processes).share(plan.units) for process in range(processes)]
    jobs = [job for share in shares for unit in share for job in unit.jobs]
    assert sorted((job.prompt.index, job.candidate) for job in jobs) == [
        (i, c) for i in range(count) for c in range(candidates)]
    assert [unit.number for unit in plan.units] == list(range(len(plan.units)))
    names = {(unit.shard, unit.name) for unit in plan.units}
    assert len(names) == len(plan.units)
    for unit in plan.units:
        assert 1 <= len(unit.jobs) <= unit.rows <= batch
        assert len({(job.shard, job.edit, job.prompt.height) for job in unit.jobs}) == 1
        assert all(job.prompt.index % shards == unit.shard for job in unit.jobs)
        order = [(job.prompt.index, job.candidate) for job in unit.jobs]
        assert order == sorted(order)


def test_a_small_batch_is_filled_up_where_a_full_one_is_made_too():
    plan = plan_work(made_up_prompts(5), GenerationSettings(batch_size=4, output=OutputSettings(1)))
    assert [(len(unit.jobs), unit.rows) for unit in plan.units] == [(4, 4), (1, 4)]
    plan = plan_work(made_up_prompts(3), GenerationSettings(batch_size=4, output=OutputSettings(1)))
    assert [(len(unit.jobs), unit.rows) for unit in plan.units] == [(3, 3)]


def test_more_than_a_million_images_are_refused():
    with pytest.raises(BadInput, match=r"1001 prompts x 1000 candidates are 1001000 images: expected"):
        plan_work(made_up_prompts(1001), GenerationSettings(num_candidates=1000))


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_equal_images_give_equal_bytes_that_read_back(name):
    encoded = encode_image(PIXELS, name, {"prompt": "café"})
    assert encoded == encode_image(PIXELS, name, {"prompt": "café"})
    decoded = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    assert decoded.shape == PIXELS.shape
    assert np.array_equal(decoded, PIXELS) == (name != "jpeg")


def test_png_files_carry_their_record():
    encoded = encode_image(PIXELS, "png", {"prompt": "café"})
    assert json.loads(Image.open(io.BytesIO(encoded)).text["srum"]) == {"prompt": "café"}


def test_jpeg_keeps_the_colours_at_full_size():
    encoded = encode_image(PIXELS, "jpeg", {})
    assert [layer[1:3] for layer in Image.open(io.BytesIO(encoded)).layer] == [(1, 1)] * 3


def test_the_black_border_is_cut_and_nothing_else():
    framed = np.zeros((20, 30, 3), np.uint8)
    framed[3:9, 5:25] = 1
    framed[5, 7] = 0
    np.testing.assert_array_equal(crop_black_border(framed), framed[3:9, 5:25])
    black = np.zeros((4, 4, 3), np.uint8)
    np.testing.assert_array_equal(crop_black_border(black), black)


def test_detailed_prompts_are_found_as_the_authors_find_them():
    cases = golden_json("bagel/rewards/detailed_prompt.json")
    assert cases
    for case in cases:
        expected = None if case["result"].startswith("Failed to extract") else case["result"]
        assert detailed_prompt(case["text"]) == expected, case


def test_a_fingerprint_knows_the_values_but_not_the_place(tmp_path):
    first = checkpoint_fingerprint(write(tmp_path / "a"), BAGEL)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "export_report.json").write_text("{}")
    assert checkpoint_fingerprint(tmp_path / "b", BAGEL) == first
    changed = tensors()
    name = max((name for name in changed if name.startswith("language_model")), key=lambda name: changed[name].size)
    changed[name] = -changed[name]
    assert checkpoint_fingerprint(write(tmp_path / "c", changed), BAGEL) != first
    (tmp_path / "b" / "vocab.json").write_text('{"b": 0}')
    assert checkpoint_fingerprint(tmp_path / "b", BAGEL) != first


def parsed(*arguments):
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    add_generation_arguments(parser)
    return settings_of(parser.parse_args(["--checkpoint", "c", "--prompt", "a", "--out", "o", *arguments]),
                       FlowSampler())


def test_without_arguments_the_published_settings_hold():
    assert parsed() == GenerationSettings(sampler=FlowSampler())


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (["--set", "sampler.num_timesteps=5"], lambda s: s.sampler.num_timesteps == 5),
        (["--set", "sampler.shift=2"], lambda s: s.sampler.shift == 2),
        (["--set", "sampler.guidance.text_scale=5"], lambda s: s.sampler.guidance.text_scale == 5),
        (["--set", "sampler.guidance.interval=0.1,0.9"], lambda s: s.sampler.guidance.interval == (0.1, 0.9)),
        (["--set", "sampler.edit_guidance.image_scale=3"], lambda s: s.sampler.edit_guidance.image_scale == 3),
        (["--set", "sampler.edit_guidance=none"], lambda s: s.sampler.edit_guidance is None),
        (["--think", "--set", "plan.max_tokens=9", "--set", "plan.temperature=1"],
         lambda s: s.plan == TextSampler(9, 1)),
        (["--think"], lambda s: s.plan == TextSampler()),
        (["--size", "64x32"], lambda s: (s.height, s.width) == (64, 32)),
        (["--num-candidates", "3"], lambda s: s.num_candidates == 3),
        (["--base-seed", "3"], lambda s: s.base_seed == 3),
        (["--batch-size", "3"], lambda s: s.batch_size == 3),
        (["--set", "output.num_shards=3"], lambda s: s.output.num_shards == 3),
        (["--set", "output.image_format=webp"], lambda s: s.output.image_format == "webp"),
        (["--set", "output.crop_black_border=true"], lambda s: s.output.crop_black_border),
        (["--dtype", "float32"], lambda s: s.dtype == "float32"),
        (["--attention", "dense"], lambda s: s.attention == "dense"),
        (["--control-tokens"], lambda s: s.control_tokens),
    ],
)
def test_every_argument_changes_its_setting_and_the_run_file(arguments, change):
    settings = parsed(*arguments)
    assert change(settings) and to_json(settings) != to_json(parsed())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "plan.max_tokens=8"], "expected --think with it"),
        (["--num-candidates", "0"], "num_candidates: expected a whole number from 1 to"),
        (["--batch-size", "0"], "batch_size"),
        (["--set", "output.num_shards=-1"], "num_shards"),
        (["--set", "output.image_format=tiff"], "image_format: expected one of png, webp, jpeg"),
        (["--base-seed", "-1"], "base_seed"),
        (["--set", "sampler.num_timesteps=1"], "num_timesteps: expected an integer of at least 2"),
        (["--set", "sampler.guidance.interval=1,0"], "interval"),
        (["--set", "sampler.guidance.text_scal=1"], "the nearest is sampler.guidance.text_scale"),
    ],
)
def test_arguments_that_make_no_sense_are_errors(arguments, message):
    with pytest.raises(BadInput, match=message):
        parsed(*arguments)


def test_help_lists_every_setting_with_its_default_and_what_it_means():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    add_generation_arguments(parser)
    text = " ".join(parser.format_help().split())
    for line in ("sampler.num_timesteps=50 points in time", "sampler.guidance.interval=0.4,1.0 guided where",
                 "sampler.edit_guidance.image_scale=2.0 of that over", "plan.max_tokens=1000 tokens fed at most",
                 "output.image_format=png png, webp or jpeg"):
        assert line in text


def test_sizes_are_parsed():
    assert parse_size("64x32") == (64, 32)
    for text in ("64", "64x", "-1x5"):
        with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
            parse_size(text)


def test_processes_are_numbered_or_refused():
    assert find_processes(None, None, False) == Processes(0, 1)
    assert find_processes(2, 3, False) == Processes(2, 3)
    for index, count, distributed in ((3, 3, False), (0, 0, False), (-1, 2, False), (0, None, False), (0, 2, True)):
        with pytest.raises(BadInput, match="expected"):
            find_processes(index, count, distributed)


def test_variables_that_contradict_each_other_are_named_with_the_way_without_them(monkeypatch):
    for name, value in (("COORDINATOR_ADDRESS", "10.0.0.1:80"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "5")):
        monkeypatch.setenv(f"JAX_{name}", value)
    with pytest.raises(BadInput, match=r"JAX_PROCESS_ID: expected a number from 0 to 1 .*--process-index"):
        find_processes(None, None, True)


def test_one_item_is_computed_ahead_and_results_come_in_order():
    computed = []

    def compute(item):
        time.sleep(0.01)
        computed.append(item)
        return item * 10

    results = one_ahead(range(4), compute)
    assert next(results) == (0, 0)
    deadline = time.monotonic() + 10
    while computed != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.03)
    assert computed == [0, 1], "one ahead, and no further"
    assert list(results) == [(1, 10), (2, 20), (3, 30)] and not is_computing()
    assert list(one_ahead([], compute)) == []


def test_an_error_comes_when_its_item_is_due():
    def compute(item):
        if item == 2:
            raise KeyError("two")
        return item

    results = one_ahead(range(5), compute)
    assert [next(results), next(results)] == [(0, 0), (1, 1)]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert not is_computing()
