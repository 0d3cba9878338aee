"""Reward maps, replies of judges and plans, compared with what the authors' code makes of them."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from srum_jax.generation.records import detailed_prompt
from srum_jax.rewards.boxes import official_boxes
from srum_jax.rewards.judgement import official_reply
from srum_jax.rewards.reward_map import RewardMapConfig, pixel_map, reward_map
from tools.check_parity.result import GroupResult, Pair, Unchecked, compare_floats, compare_values, unknown_files
from tools.check_parity.tensors import read_tensors
from tools.make_rewards.official_format import official_training_entry

# Boxes of these cases are used as the authors' loader uses them: their ends are exclusive.
_OFFICIAL = RewardMapConfig.official(edge="half_open")
_TOLERANCE = 1e-6
_PARSERS: dict[str, Callable[[str], Any]] = {
    "parse_vlm_evaluation_output": lambda reply: {str(n): r for n, r in official_reply.official_regions(reply).items()},
    "parse_global_layout_output": official_reply.official_layout,
    "parse_sample_level_output": official_reply.official_sample,
}
_NO_DETAILED_PROMPT = "Failed to extract detailed prompt."  # what the authors store where this project stores null


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
        results.append(compare_values("reward_maps.raises", len(raised), wrong))
    results += [Unchecked(key, "no case in reward_maps.json names it") for key in sorted(set(tensors) - used)]
    texts = {"judge_replies.json": _reply, "detailed_prompt.json": _detailed_prompt,
             "training_records.json": _training_record}
    results += [_compare_texts(directory / name, find) for name, find in texts.items() if (directory / name).exists()]
    return results + unknown_files(directory, ("reward_maps.json", "reward_maps.safetensors", *texts))


def _compare_texts(path: epath.Path, find: Callable[[dict[str, Any]], Any]) -> GroupResult:
    """Every case of a list, exactly."""
    cases = json.loads(path.read_text())
    wrong = [f"[{i}]: expected {case['result']!r}, found {found!r}" for i, case in enumerate(cases)
             if (found := find(case)) != case["result"]]
    return compare_values(path.name, len(cases), wrong)


def _reply(case: dict[str, Any]) -> Any:
    return _PARSERS[case["parser"]](case["reply"])


def _detailed_prompt(case: dict[str, Any]) -> str:
    found = detailed_prompt(case["text"])
    return _NO_DETAILED_PROMPT if found is None else found


def _training_record(case: dict[str, Any]) -> dict[str, Any] | None:
    return official_training_entry(case["record"], case["prompt_of_image"])


def _full_map(case: dict[str, Any]) -> np.ndarray:
    width, height = case["image_size_wh"]
    regions = official_boxes(case["regions"])
    alpha = np.float32((case["global_score"] + 1.0) / 2.0)
    return pixel_map(regions, width=width, height=height, config=_OFFICIAL) * alpha


def _grid(case: dict[str, Any], grid: tuple[int, int]) -> np.ndarray:
    width, height = case["image_size_wh"]
    regions = official_boxes(case["regions"])
    return reward_map(regions, case["global_score"], width=width, height=height, grid=grid, config=_OFFICIAL).weight


def _error_of(case: dict[str, Any]) -> str:
    try:
        _full_map(case)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "no error"
