"""Resize rules and image transforms of a `units` case."""

import re
from typing import Any

import numpy as np
from PIL import Image

from srum_jax.data.image_transform import DEFAULT_MAX_PIXELS, ImageTransform, to_unit_range
from srum_jax.models.layers.patchify import patchify
from tools.check_parity.result import GroupResult, Pair, compare_exact, compare_floats
from tools.check_parity.tensors import Tensors


def check_resize(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Entry `resize`: rows of width, height, images per sample, new width, new height."""
    del tensors
    pairs: list[Pair] = []
    for name, case in (entry or {}).items():
        transform = ImageTransform(case["max_size"], case["min_size"], case["stride"], case["max_pixels"])
        for width, height, num_images, *expected in case["rows_w_h_num_neww_newh"]:
            found = transform.target_size(width, height, num_images)
            pairs.append((f"{name} {width}x{height}/{num_images}", np.asarray(expected), np.asarray(found)))
    return [compare_exact("resize", pairs)]


def check_image_transform(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `image_transform.{i}.in` (H, W, 3) and `.out` (3, h, w); the entry holds the settings."""
    pairs: list[Pair] = []
    for number, case in enumerate(entry or []):
        source = tensors.get(f"image_transform.{number}.in")
        key = f"image_transform.{number}.out"
        found = None
        if source is not None:
            transform = ImageTransform(case["max_size"], case["min_size"], case["stride"],
                                       case.get("max_pixels", DEFAULT_MAX_PIXELS))
            pixels = transform.resize(Image.fromarray(source.astype(np.uint8)))
            found = to_unit_range(pixels).transpose(2, 0, 1)
        pairs.append((key, tensors.get(key, np.zeros(0)), found))
    known = {key for key, _, _ in pairs} | {key.removesuffix("out") + "in" for key, _, _ in pairs}
    pairs += [(key, tensors[key], None) for key in sorted(set(tensors) - known)]
    return [compare_floats("image_transform", pairs, 1e-6)]


def check_patchify(entry: Any, tensors: Tensors) -> list[GroupResult]:
    """Keys `patchify{P}.in` (3, H, W) and `.out`."""
    del entry
    pairs: list[Pair] = []
    for key in sorted(tensors):
        if key.endswith(".in"):
            continue
        source = tensors.get(key.removesuffix(".out") + ".in")
        match = re.match(r"patchify(\d+)\.out", key)
        found = patchify(source.transpose(1, 2, 0), int(match[1])) if source is not None and match else None
        pairs.append((key, tensors[key], found))
    return [compare_exact("patchify", pairs)]
