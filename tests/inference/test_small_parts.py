import hashlib

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.families.bagel.image_views import ImageViews, latent_view, patch_view
from srum_jax.inference.batch_shapes import bucket, fill_rows, same_size
from srum_jax.inference.random_keys import random_keys
from srum_jax.inference.templates import Templates, split_thought
from srum_jax.models.bagel.config import RELEASED


@given(st.integers(1, 20000), st.sampled_from([1, 2, 4, 8]))
def test_a_bucket_holds_its_count_with_little_to_spare(count, per_octave):
    width = bucket(count, per_octave)
    assert width >= max(count, 16) and bucket(width, per_octave) == width
    assert width <= max(16, count * (1 + 1 / per_octave) + 1)


def test_all_sizes_that_bagel_was_trained_on_fill_their_bucket():
    assert bucket(0) == 0
    for height, width in ((1024, 1024), (768, 1024), (1024, 768), (576, 1024), (1024, 576)):
        tokens = height * width // 256
        assert bucket(tokens, 8) == tokens


@given(st.lists(st.sampled_from([None, (8, 8), (8, 16), (16, 8)]), max_size=12), st.sampled_from([1, 2, 8]))
def test_groups_hold_every_row_once_and_fill_up_to_few_shapes(sizes, multiple):
    groups = same_size(sizes)
    assert sorted(row for group in groups for row in group) == [i for i, size in enumerate(sizes) if size]
    for group in groups:
        filled = fill_rows(group, multiple)
        assert filled[: len(group)] == group and set(filled) == set(group)
        assert len(filled) % multiple == 0 and (len(filled) // multiple).bit_count() == 1


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3))
def test_keys_follow_the_documented_rule(seeds):
    keys = random_keys(seeds, 1)
    for seed, key in zip(seeds, keys, strict=True):
        expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(np.uint32(seed % 2**32)), seed >> 32), 1)
        assert jax.random.key_data(key).tolist() == jax.random.key_data(expected).tolist()


@pytest.mark.parametrize(("text", "thought", "rest"), [
    ("<think>a plan</think> the answer ", "a plan", "the answer"),
    ("< think > a < / think > b", "a", "b"),
    ("no opening</think>b", "no opening", "b"),
    ("<think>one</think>two</THINK>three", "one</think>two", "three"),
    ("<think>never closed", None, "<think>never closed"),
    ("", None, ""),
])
def test_the_answer_follows_the_last_closing_tag(text, thought, rest):
    assert split_thought(text) == (thought, rest)


@given(st.text(max_size=60))
def test_any_text_can_be_taken_apart(text):
    thought, rest = split_thought(text)
    assert rest == rest.strip() and (thought is None or thought in text)


def test_shipped_templates_name_the_tags_and_their_checksums_are_of_what_the_model_reads():
    templates = Templates.read()
    for text in (templates.think_generation, templates.think_understanding):
        assert "<think>" in text and "</think>" in text and "$" not in text
    assert templates.checksums()["think_generation"] == hashlib.sha256(templates.think_generation.encode()).hexdigest()


def test_one_template_can_be_replaced(tmp_path):
    (tmp_path / "think_generation.txt").write_text("Plan for $$5 in $think_start and $think_end.\n")
    templates = Templates.read(tmp_path)
    assert templates.think_generation == "Plan for $5 in <think> and </think>."
    assert templates.think_understanding == Templates.read().think_understanding
    assert templates.checksums() != Templates.read().checksums()


@pytest.mark.parametrize(("content", "message"), [
    ("in $think_start $think_end for $prompt", r"think_generation.txt: placeholders: expected \$think_end, "
     r"\$think_start, found .*unknown \$prompt"),
    ("in $think_start", r"missing \$think_end"),
    ("costs 5$ in $think_start $think_end", "a lone dollar sign; write"),
    ("", "found an empty file"),
    (b"\xff\xfe", "think_generation.txt:1: expected UTF-8, found byte 0xff at column 1"),
])
def test_a_template_that_cannot_be_used_is_an_error_that_names_it(tmp_path, content, message):
    path = tmp_path / "think_generation.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=message):
        Templates.read(tmp_path)


def test_a_template_directory_that_is_absent_or_holds_other_files_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="expected a directory with templates"):
        Templates.read(tmp_path / "absent")
    (tmp_path / "think_generaton.txt").write_text("x")
    with pytest.raises(BadInput, match=r"found think_generaton\.txt"):
        Templates.read(tmp_path)


@pytest.mark.parametrize(("size", "latent", "patches"), [
    ((1024, 1024), (1024, 1024), 70 * 70),
    ((3000, 1500), (1024, 512), 70 * 35),
    ((100, 100), (512, 512), 37 * 37),
    ((1000, 600), (992, 608), 70 * 43),
])
def test_views_of_the_released_model_follow_its_transforms(size, latent, patches):
    views = ImageViews.of(RELEASED)
    assert (views.latent.max_size, views.latent.min_size, views.latent.stride) == (1024, 512, 16)
    assert (views.vit.max_size, views.vit.min_size, views.vit.stride) == (980, 224, 14)
    view = latent_view(Image.new("RGB", size, (9, 200, 30)), views, RELEASED)
    assert view.resized.size == latent and len(view.position_ids) == latent[0] * latent[1] // 256
    assert view.resized.pixels.shape == (latent[1], latent[0], 3)
    seen = patch_view(view.resized, views, RELEASED)
    assert seen.patches.shape == (patches, 588) and len(seen.position_ids) == patches


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_templates_of_any_system_give_the_same_text_and_hidden_files_are_none(tmp_path, end):
    lines = ["Think in $think_start and", "$think_end first."]
    (tmp_path / "think_generation.txt").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    (tmp_path / "._think_generation.txt").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".#think_generation.txt").symlink_to("someone@host.1234")
    assert Templates.read(tmp_path).think_generation == "Think in <think> and\n</think> first."
