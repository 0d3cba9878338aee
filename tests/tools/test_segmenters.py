import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments._tiny_sam.truth_masks import mask_box
from srum_jax.errors import BadInput
from srum_jax.regions.components import Components, ComponentsConfig
from srum_jax.regions.sam import Sam, SamConfig, suppress
from srum_jax.rewards.judgement.judge_record import select_regions
from srum_jax.rewards.judgement.verdict import Shows
from srum_jax.rewards.mask_rle import decode_mask
from srum_jax.rewards.proposals import RawProposal, clean_proposals


def picture() -> np.ndarray:
    pixels = np.full((40, 60, 3), 240, np.uint8)
    pixels[5:15, 10:30] = (200, 0, 0)
    pixels[20:35, 40:50] = (0, 0, 200)
    pixels[38, 2] = 0
    return pixels


def test_components_are_half_open_boxes_with_their_pixels():
    found = Components(ComponentsConfig()).propose(picture())
    assert [(p.corners, p.area) for p in found] == [((10, 5, 30, 15), 200), ((40, 20, 50, 35), 150)]
    assert Components(ComponentsConfig()).propose(np.zeros((8, 8, 3), np.uint8)) == []


def test_components_keep_their_masks_when_asked():
    found = Components(ComponentsConfig(), keep_masks=True).propose(picture())
    assert [decode_mask(p.rle).sum() for p in found] == [200, 150]
    assert (np.argwhere(decode_mask(found[0].rle)) == np.argwhere(picture()[..., 0] == 200)).all()
    assert Components(ComponentsConfig()).propose(picture())[0].rle is None


def test_proposals_are_cleaned_sorted_and_limited_and_every_drop_is_counted():
    raw = [
        RawProposal((0, 0, 10, 10)), RawProposal((0, 0, 10, 10), 99, 0.9), RawProposal((-5, 2, 7, 30), 60),
        RawProposal((3, 3, 3, 9)), RawProposal((50, 50, 60, 60)), RawProposal((0.5, 0, 9, 9)),
        RawProposal((float("nan"), 0, 9, 9)), RawProposal((0, 0, 1, 1)), RawProposal((2.0, 0, 7, 12), 60, 0.5),
        RawProposal((1, 1, 9, 9), 61), RawProposal((1, 2, 3)),
    ]
    kept, dropped = clean_proposals(raw, 20, 20, max_candidates=3, min_area=2)
    assert [(p.box, p.area) for p in kept] == [((0, 0, 10, 10), 100), ((1, 1, 9, 9), 61), ((2, 0, 7, 12), 60)]
    assert dropped == {"not_integer": 3, "empty": 2, "small": 1, "duplicate": 1, "limit": 1}
    kept, dropped = clean_proposals(raw[:2], 20, 20, max_candidates=3, max_share=0.2475)  # of 400 pixels
    assert [p.area for p in kept] == [99] and dropped == {"large": 1}


@given(st.lists(st.tuples(*[st.one_of(st.integers(-50, 50), st.floats(), st.none(), st.text(max_size=2))] * 4)))
def test_whatever_is_proposed_what_is_kept_lies_inside_the_image(corners):
    kept, dropped = clean_proposals(map(RawProposal, corners), 16, 9, max_candidates=5)
    assert all(proposal.box.inside(16, 9) for proposal in kept)
    assert len(kept) + sum(dropped.values()) == len(corners)


def test_matched_regions_come_first_and_few_of_the_others():
    m, b, u = Shows.MATCH, Shows.BACKGROUND, Shows.UNMATCHED
    assert select_regions([b, u, m, b, u, b, m, u], max_regions=10) == [2, 6, 0, 3, 1, 4]
    assert select_regions([b, u, m, b, m], max_regions=3) == [2, 4, 0]


def slow_suppression(boxes, scores, threshold):
    """The definition, box by box."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        def overlap(j, i=i):
            w = min(boxes[i][2], boxes[j][2]) - max(boxes[i][0], boxes[j][0])
            h = min(boxes[i][3], boxes[j][3]) - max(boxes[i][1], boxes[j][1])
            shared = max(w, 0) * max(h, 0)
            union = sum((boxes[k][2] - boxes[k][0]) * (boxes[k][3] - boxes[k][1]) for k in (i, j)) - shared
            return shared / union if union else 0.0

        if all(overlap(j) <= threshold for j in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 12), st.integers(0, 10**6), st.floats(0, 1))
def test_suppression_follows_its_definition(count, seed, threshold):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 10, (count, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    scores = rng.integers(0, 5, count) / 5.0
    assert suppress(boxes.astype(float), scores, threshold).tolist() == slow_suppression(boxes, scores, threshold)


@pytest.fixture(scope="module")
def random_sam(tmp_path_factory):
    """A SAM of a few thousand random weights on disk."""
    torch = pytest.importorskip("torch")
    from transformers import SamConfig as HfConfig
    from transformers import SamModel

    torch.manual_seed(0)
    vision = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16,
                  output_channels=16, mlp_dim=16, window_size=2, global_attn_indexes=[0], num_pos_feats=8)
    prompt = dict(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_dim=16, iou_head_hidden_dim=16,
                   attention_downsample_rate=1)
    model = SamModel(HfConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    directory = tmp_path_factory.mktemp("sam")
    model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(
        '{"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 64}, '
        '"mask_size": {"longest_edge": 16}, "pad_size": {"height": 64, "width": 64}, '
        '"mask_pad_size": {"height": 16, "width": 16}}')
    return directory


def test_a_sam_of_random_weights_proposes_boxes_inside_the_image(random_sam):
    lenient = SamConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, nms_thresh=1.0)
    found = Sam(random_sam, lenient, "cpu").propose(picture())
    assert found
    for proposal in found:
        x0, y0, x1, y1 = proposal.corners
        assert 0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40 and 0 < proposal.area <= (x1 - x0) * (y1 - y0)
        assert proposal.rle is None
    fewer = Sam(random_sam, SamConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0,
                                      nms_thresh=0.1), "cpu").propose(picture())
    assert len(fewer) < len(found)


def test_masks_that_are_kept_have_the_box_and_the_area_of_their_proposal(random_sam):
    lenient = SamConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0, nms_thresh=1.0)
    for proposal in Sam(random_sam, lenient, "cpu", keep_masks=True).propose(picture()):
        mask = decode_mask(proposal.rle)
        assert mask.shape == (40, 60) and mask.sum() == proposal.area
        assert tuple(mask_box(mask)) == tuple(proposal.corners)


def test_settings_within_those_of_a_whole_processor_are_read_too(random_sam, tmp_path):
    directory = copied(random_sam, tmp_path / "sam")
    alone = directory / "preprocessor_config.json"
    (directory / "processor_config.json").write_text(f'{{"image_processor": {alone.read_text()}}}')
    alone.unlink()
    assert Sam(directory, SamConfig(points_per_side=2), "cpu").propose(picture()) is not None


def copied(random_sam, directory):
    shutil.copytree(random_sam, directory)
    return directory


def change_config(directory):
    (directory / "config.json").write_text('{"model_type": "bert"}')


def cut_weights(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def lose_a_tensor(directory):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, directory / "model.safetensors")


def reshape_a_tensor(directory):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors["mask_decoder.iou_token.weight"] = np.zeros((1, 4), np.float32)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize("damage, message", [
    (shutil.rmtree, "found no such directory; point --sam-model to"),
    (lambda directory: (directory / "config.json").unlink(), "config.json: no such file; point --sam-model to"),
    (lambda directory: (directory / "model.safetensors").unlink(), "model.safetensors: no such file; point"),
    (lambda directory: (directory / "config.json").write_bytes(b"\xff{"), "config.json: expected JSON"),
    (change_config, "expected a checkpoint with model_type 'sam', found 'bert'"),
    (cut_weights, "cannot be loaded"),
    (lose_a_tensor, r"lacks 1 of the model's tensors \(mask_decoder.iou_token.weight"),
    (lambda directory: (directory / "preprocessor_config.json").unlink(), "settings for images in preprocessor_config"),
    (lambda directory: (directory / "preprocessor_config.json").write_text("{}"), "64 x 64 .* one for 1024 x 1024"),
    (lambda directory: (directory / "preprocessor_config.json").write_text("{"), "preprocessor_config.json: not valid"),
    (reshape_a_tensor, r"1 tensors of other shapes .*iou_token.weight \[1, 4\] instead of \[1, 16\]"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_checkpoint_that_is_no_whole_sam_is_an_error_that_says_what_to_do(tmp_path, random_sam, damage, message):
    directory = copied(random_sam, tmp_path / "sam")
    damage(directory)
    with pytest.raises(BadInput, match=message):
        Sam(directory, SamConfig())


def test_without_pytorch_the_error_says_what_to_install(random_sam, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInput, match=r"PyTorch, which is not installed.*pip install 'srum-jax\[rewards\]'"):
        Sam(random_sam, SamConfig())


def test_parameters_out_of_range_are_errors():
    with pytest.raises(ValueError, match=r"sam\.pred_iou_thresh: expected a number from 0 to 1, found 1\.5"):
        SamConfig(pred_iou_thresh=1.5)
    with pytest.raises(ValueError, match=r"components\.tolerance: expected a number from 0 to 255"):
        ComponentsConfig(tolerance=300)
