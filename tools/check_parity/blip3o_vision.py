"""Recomputes `golden_preprocess` and `golden_vision`: pictures to patches, patches to tokens."""

import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.models.blip3o.patches import (
    arrange,
    eva_crop,
    flat_patches,
    normalised,
    patch_positions,
    window_layout,
)
from srum_jax.models.blip3o.vision import patch_angles
from tools.check_parity.blip3o_case import TABLE, compared
from tools.check_parity.model_case import COMPUTE, Case, Taps
from tools.check_parity.result import GroupResult, Unchecked, compare_floats


def check_preprocess(case: Case) -> list[GroupResult | Unchecked]:
    """Both preparations of each source picture; the patches lie in `golden_vision`."""
    tensors, config = case.tensors["preprocess"], case.config
    raw = {key.removeprefix("raw_"): Image.fromarray(tensors[key]) for key in sorted(tensors) if key.startswith("raw_")}
    found, patches = {}, []
    for number, picture in raw.items():
        flat, grid = flat_patches(picture, config.vision)
        patches.append(flat)
        found[f"qwen_grid_thw_{number}"] = np.asarray([[1, *grid]], np.int64)
        found[f"eva_pixel_values_{number}"] = np.moveaxis(normalised(eva_crop(picture, config.eva.image_size)), -1, 0)
    tolerances = {name: TABLE for name in found if name.startswith("eva_")}
    results = compared("preprocess", tensors, found, {f"raw_{number}" for number in raw}, **tolerances)
    if "vision" in case.tensors:
        pair = ("pixel_values", case.tensors["vision"]["pixel_values"], np.concatenate(patches))
        results.append(compare_floats("preprocess/pixel_values", [pair], **TABLE))
    return results


def recorded_pictures(case: Case) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Patches of each picture of `golden_vision`, and their rows and columns."""
    tensors = case.tensors["vision"]
    grids = [(int(rows), int(columns)) for _, rows, columns in tensors["grid_thw"]]
    ends = np.cumsum([rows * columns for rows, columns in grids])
    return list(zip(np.split(tensors["pixel_values"], ends[:-1]), grids, strict=True))


def check_vision(case: Case) -> list[GroupResult | Unchecked]:
    """The tower over all pictures at once, one per row."""
    tensors, config = case.tensors["vision"], case.config.vision
    pictures = recorded_pictures(case)
    grids = [grid for _, grid in pictures]
    ends = np.cumsum([rows * columns for rows, columns in grids])
    layouts = [window_layout(grid, config) for grid in grids]
    group = config.merge_size**2
    tokens = np.concatenate([[0], ends // group])
    arranged = arrange(pictures, config)
    taps = Taps()
    output = case.model.vision(arranged, COMPUTE, taps)
    there = [np.flatnonzero(layout.ravel() >= 0) for layout in layouts]

    def in_window_order(x: np.ndarray) -> np.ndarray:  # [N, slots * k, D] to [all patches or tokens, D]
        return np.concatenate([row.reshape(arranged.real.shape[1] // group, -1, x.shape[-1])[places].reshape(
            -1, x.shape[-1]) for row, places in zip(x, there, strict=True)])

    window_index = np.concatenate([layout.ravel()[places] + begin for layout, places, begin in zip(
        layouts, there, tokens[:-1], strict=True)])
    embedded = in_window_order(taps["patch_embed"][0]).reshape(len(window_index), group, -1)
    original = np.empty_like(embedded)
    original[window_index] = embedded
    window_lengths = np.concatenate([group * np.sum(layout >= 0, axis=1) for layout in layouts])
    positions = jnp.asarray(np.concatenate([patch_positions(grid, config.merge_size) for grid in grids]))
    found = {
        "window_index": window_index,
        "cu_seqlens": np.concatenate([[0], ends]),
        "cu_window_seqlens": np.concatenate([[0], np.cumsum(window_lengths)]),
        "rot_pos_emb": patch_angles(positions, config.head_dim),
        "patch_embed": original.reshape(-1, original.shape[-1]),
        "merger": in_window_order(taps["merger"][0]),
        "output": np.concatenate([np.asarray(row[: rows * columns // group]) for row, (rows, columns) in zip(
            output, grids, strict=True)]),
        **{f"block_{i}": in_window_order(x) for i, x in enumerate(taps["block"])},
    }
    return compared("vision", tensors, found, {"grid_thw", "pixel_values"}, rot_pos_emb=TABLE)
