"""Masks, position ids and sample plans of a `units` case."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, PackedSample, TextItem, VitItem, pack_sample
from srum_jax.models.bagel.config import SpecialTokens
from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.token_stream import TokenStream
from tools.check_parity.result import GroupResult, Pair, compare_exact, compare_floats
from tools.check_parity.tensors import Tensors


def check_masks(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `mask.{i}`: splits, modes and samples in the entry, the dense mask as a tensor."""
    pairs: list[Pair] = []
    for number, case in enumerate(entry or []):
        key = f"mask.{number}"
        stream = _stream(case["sample_lens"], case["split_lens"], case["attn_modes"])
        mask = np.asarray(allowed(stream, stream)).astype(np.int32)
        pairs.append((key, tensors.get(key, np.zeros(0)), mask))
    pairs += [(key, tensors[key], None) for key in sorted(set(tensors) - {key for key, _, _ in pairs})]
    return [compare_exact("mask", pairs)]


def _stream(sample_lens: list[int], split_lens: list[int], modes: list[str]) -> TokenStream:
    split = np.repeat(np.arange(len(split_lens)), split_lens)
    modes = np.asarray(modes)[split]
    order = np.arange(len(split))
    fields = {"sample": np.repeat(np.arange(len(sample_lens)), sample_lens), "split": split, "order": order,
              "full": modes != "causal", "noise": modes == "noise", "position": order}
    return TokenStream(**{name: jnp.asarray(values, jnp.int32) for name, values in fields.items()})


def check_position_ids(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Entry `position_ids`: both rules for several image sizes."""
    del tensors
    pairs: list[Pair] = []
    for case in entry or []:
        rows, columns = case["img_h"] // case["patch"], case["img_w"] // case["patch"]
        for rule in ("extrapolate", "interpolate"):
            if rule in case:
                found = position_ids(rows, columns, case["max_per_side"], interpolate=rule == "interpolate")
                pairs.append((f"{rule} {rows}x{columns}/{case['max_per_side']}", np.asarray(case[rule]), found))
    return [compare_exact("position_ids", pairs)]


class _ScriptedDraws:
    """Uniform draws from the case, normal draws 0.25, 0.50, 0.75, ..."""

    def __init__(self, uniform: list[float]):
        self._uniform, self._normals = iter(uniform), 0

    def random(self) -> float:
        """The next scripted number."""
        return next(self._uniform)

    def standard_normal(self) -> float:
        """The next multiple of a quarter."""
        self._normals += 1
        return 0.25 * self._normals


def check_plans(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Entry `plans`: one plan each, with the packed lists that it becomes."""
    del tensors
    exact: list[Pair] = []
    floats: list[Pair] = []
    for case in entry or []:
        found = _as_lists(_packed(case))
        for name, expected in case["out"].items():
            label = f"{case['name']}: {name}"
            value = found.get(name)
            if name == "attn_modes":
                expected, value = _mode_numbers(expected), _mode_numbers(value)
            if name in ("packed_timesteps", "ce_loss_weights"):
                floats.append((label, np.asarray(expected, np.float64), value))
            else:
                exact.append((label, np.asarray(expected), value if value is None else np.asarray(value)))
    return [compare_exact("plans.lists", exact), compare_floats("plans.floats", floats, 1e-6)]


def _mode_numbers(modes: Sequence[str]) -> list[int]:
    return [("causal", "full", "noise").index(mode) for mode in modes]


def _packed(case: dict[str, Any]) -> PackedSample:
    texts = iter(case["text_ids"])
    stride = case["vae_image_downsample"]
    height, width = case["vae_image_hw"]
    grid = (height // stride, width // stride)
    patch = case.get("vit_patch_size", 14)
    vit_grid = tuple(side // patch for side in case["vit_image_hw"])
    plan = []
    for item in case["plan"]:
        label = item.get("special_token_label") if item.get("special_token_loss") else None
        common = {"droppable": bool(item["enable_cfg"]), "closing_label": label}
        if item["type"] == "text":
            plan.append(TextItem(ids=next(texts), loss=bool(item["loss"]), **common))
        elif item["type"] == "vit_image":
            ids = position_ids(*vit_grid, case["max_vit_per_side"])
            plan.append(VitItem(np.zeros((len(ids), 3 * patch**2), np.float32), ids, **common))
        else:
            plan.append(LatentItem(
                pixels=np.zeros((height, width, 3), np.uint8), grid=grid,
                position_ids=position_ids(*grid, case["max_latent_size"]), loss=bool(item["loss"]),
                split_start=item.get("split_start", True), split_end=item.get("split_end", True),
                frame_delta=item.get("frame_delta"), **common))
    tokens = case["special_token_ids"]
    special = SpecialTokens(tokens["bos_token_id"], tokens["eos_token_id"], tokens["start_of_image"],
                            tokens["end_of_image"])
    dropout = Dropout(case["dropout"]["text"], case["dropout"]["vit"], case["dropout"]["vae"])
    return pack_sample(plan, special, dropout, _ScriptedDraws(case["uniform_draws"]))


def _as_lists(sample: PackedSample) -> dict[str, Any]:
    return {
        "sample_lens": [sample.length],
        "split_lens": sample.split_lens,
        "attn_modes": sample.split_modes,
        "packed_text_ids": sample.text_ids,
        "packed_text_indexes": sample.text_places,
        "packed_position_ids": sample.position,
        "packed_label_ids": sample.ce_labels,
        "ce_loss_indexes": sample.ce_places,
        "ce_loss_weights": sample.ce_weights,
        "packed_vae_token_indexes": sample.latent_places,
        "mse_loss_indexes": sample.loss_places,
        "packed_timesteps": sample.timestep_logit,
        "vae_latent_shapes": [item.grid for item in sample.images],
        "packed_vit_token_indexes": sample.vit_places,
    }
