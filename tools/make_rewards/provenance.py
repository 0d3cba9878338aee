"""Where a run's records come from: all settings of all stages, and the short form that every record carries.

No dates, names of machines or paths: equal inputs give equal bytes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import srum_jax
from srum_jax.data.schema import canonical_json
from srum_jax.generation.records import GenerationRecord
from srum_jax.stages import GENERATE, STAGE_VERSION, STAGES
from tools.make_rewards.run_folder import RunFolder


def stage_settings(folder: RunFolder) -> dict[str, Any]:
    """What every stage was begun with.

    Raises:
      DamagedError: a file of settings was changed.
    """
    return {stage: settings for stage in STAGES if (settings := folder.settings_of(stage)) is not None}


def run_provenance(settings: Mapping[str, Any]) -> dict[str, Any]:
    """For the manifest, which has the settings whole.

    Args:
      settings: of the export: its rules, and the settings of all stages.
    """
    return {"stage_version": STAGE_VERSION, "package_version": srum_jax.__version__,
            "imported": _imported(settings), "settings": dict(settings)}


def shared_provenance(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the provenance of all records of a run has in common (spec: reward stage, section 16).

    Args:
      settings: as for `run_provenance`.
    """
    stages = settings["stages"]
    generate, segment, judge = stages[GENERATE].get(GENERATE, {}), stages.get("segment"), stages.get("judge", {})
    sampling = generate.get("settings", {})
    shared = {
        "stage_version": STAGE_VERSION,
        "package_version": srum_jax.__version__,
        "generator": None if _imported(settings) else
        {"checkpoint_sha256": generate.get("checkpoint_sha256"), "dtype": sampling.get("dtype"),
         **({"quantize": sampling["quantize"]} if sampling.get("quantize") else {})},
        "judge": judge.get("judge"),
        "base_seed": sampling.get("base_seed"),
        "templates": {**generate.get("templates", {}), **judge.get("templates", {})},
        "preset": judge.get("preset"),
        "settings_sha256": hashlib.sha256(canonical_json(dict(settings)).encode()).hexdigest(),
        "imported": _imported(settings),
    }
    if "vae_sha256" in generate:
        shared["vae_sha256"] = generate["vae_sha256"]
    if segment is not None:
        provider = segment["provider"]
        checkpoint = {"checkpoint_sha256": segment["checkpoint_sha256"]} if "checkpoint_sha256" in segment else {}
        shared[provider] = {**checkpoint, "parameters": segment.get(provider, {})}
    return shared


def record_provenance(shared: Mapping[str, Any], generation: GenerationRecord) -> dict[str, Any]:
    """That of one record.

    Args:
      shared: from `shared_provenance`.
      generation: line of `generate`.
    """
    return {**shared, "sampler": generation.sampler, "seed": generation.seed, "think": generation.think}


def _imported(settings: Mapping[str, Any]) -> bool:
    return bool(settings["stages"][GENERATE].get("imported", False))
