"""Reward maps, compared with those that the authors' loader computed."""

import json
import re
from typing import Any

import numpy as np
from etils import epath

from srum_jax.rewards.boxes import official_regions
from srum_jax.rewards.reward_map import RewardMapConfig, pixel_map, reward_map
from tools.check_parity.result import GroupResult, Pair, Unchecked, compare_floats
from tools.check_parity.tensors import read_tensors

# Boxes of these cases are used as the authors' loader uses them: their ends are exclusive.
_OFFICIAL = RewardMapConfig.official(edge="half_open")
_TOLERANCE = 1e-6
_LATER = {
    "judge_replies.json": "the parser of judge replies is not part of this version",
    "training_records.json": "the formatter of judged records is not part of this version",
    "detailed_prompt.json": "the extraction of detailed prompts is not part of this version",
}


def check(directory: epath.PathLike) -> list[GroupResult | Unchecked]:
    """Recomputes every map and grid of a `rewards` case.

    Args:
      directory: holds reward_maps.json and reward_maps.safetensors.
    """
    directory = epath.Path(directory)
    cases = json.loads((directory / "reward_maps.json").read_text())
    tensors = read_tensors(directory / "reward_maps.safetensors")
    maps: list[Pair] = []
    grids: list[Pair] = []
    raised: list[tuple[str, str, str]] = []
    used = set()
    for case in cases:
        name = case["name"]
        if "raises" in case:
            raised.append((name, case["raises"], _error_of(case)))
            continue
        full = f"map.{name}"
        used.add(full)
        maps.append((full, tensors.get(full, np.zeros(0)), _full_map(case)))
        wanted = {f"grid.{name}.{h}x{w}": (h, w) for h, w in case.get("grids_hw", [])}
        stored = re.compile(rf"grid\.{re.escape(name)}\.(\d+)x(\d+)")
        wanted |= {key: tuple(map(int, match.groups())) for key in tensors if (match := stored.fullmatch(key))}
        for key, grid in sorted(wanted.items()):
            used.add(key)
            grids.append((key, tensors.get(key, np.zeros(0)), _grid(case, grid)))
    results: list[GroupResult | Unchecked] = [
        compare_floats("reward_maps.map", maps, _TOLERANCE),
        compare_floats("reward_maps.grid", grids, _TOLERANCE),
    ]
    if raised:
        wrong = [f"{name}: expected {expected}, found {found}" for name, expected, found in raised if expected != found]
        results.append(GroupResult("reward_maps.raises", 0.0, 0.0, "exact", len(raised), not wrong, "; ".join(wrong)))
    results += [Unchecked(key, "no case in reward_maps.json names it") for key in sorted(set(tensors) - used)]
    for path in sorted(directory.iterdir()):
        if path.name not in ("reward_maps.json", "reward_maps.safetensors"):
            reason = _LATER.get(path.name, "describes the case, or is unknown to this command")
            results.append(Unchecked(path.name, reason))
    return results


def _full_map(case: dict[str, Any]) -> np.ndarray:
    width, height = case["image_size_wh"]
    regions = official_regions(case["regions"])
    alpha = np.float32((case["global_score"] + 1.0) / 2.0)
    return pixel_map(regions, width=width, height=height, config=_OFFICIAL) * alpha


def _grid(case: dict[str, Any], grid: tuple[int, int]) -> np.ndarray:
    width, height = case["image_size_wh"]
    regions = official_regions(case["regions"])
    return reward_map(regions, case["global_score"], width=width, height=height, grid=grid, config=_OFFICIAL).weight


def _error_of(case: dict[str, Any]) -> str:
    try:
        _full_map(case)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "no error"
