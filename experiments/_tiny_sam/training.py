"""Trains the tiny SAM on one thread; an interrupted run goes on and ends with the same weights."""

import dataclasses
import json
import math
import sys
import time
from typing import Any

import torch
from etils import epath
from tqdm import tqdm
from transformers import SamModel

from experiments._tiny_sam.losses import prompt_losses
from experiments._tiny_sam.model import DEVIATION, MEAN
from experiments._tiny_sam.samples import Batch, sample_batch
from experiments._tiny_sam.settings import TrainingSettings
from experiments._tiny_sam.state import load_state, save_state
from srum_jax.stages import noted

STATE = "state.safetensors"
_LOG_EVERY = 50  # steps
_BOX_EVERY = 10  # steps; one of them is prompted with boxes and asked for a single mask


def train(
    directory: epath.PathLike, start: SamModel, settings: TrainingSettings, save_seconds: float = 60.0
) -> tuple[SamModel, float]:
    """Runs the steps that are left.

    Args:
      directory: of the run; holds its state.
      start: the model before the first step; it is changed.
      settings: a resumed run must have the same.
      save_seconds: least time between two saved states.

    Returns:
      The model with averaged weights, and the seconds that training took.

    Raises:
      BadInput: the directory was begun with other settings; or its state is damaged.
    """
    torch.set_num_threads(1)  # so that equal runs are equal to the bit, and cost one core
    path = epath.Path(directory) / STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    model = start.train()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=_averaging(settings.average))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=settings.weight_decay)
    described = json.loads(json.dumps(dataclasses.asdict(settings)))
    done, seconds, parts = 0, 0.0, {"model": model, "average": average}
    if path.exists():
        saved = load_state(path, parts, optimizer)
        noted.raise_differences(path, saved["settings"], described, "Use another directory, or the same settings.")
        done, seconds = saved["step"], saved["seconds"]
    began = last_saved = time.monotonic()
    with tqdm(total=settings.steps, initial=done, unit="step", disable=None) as bar:
        for step in range(done, settings.steps):
            losses = _step(model, optimizer, step, settings)
            average.update_parameters(model)
            bar.update()
            elapsed = seconds + time.monotonic() - began
            last = step + 1 == settings.steps
            if last or (step + 1) % _LOG_EVERY == 0:
                text = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
                bar.write(f"step {step + 1}/{settings.steps} {text} ({elapsed:.0f} s)", file=sys.stdout)
                sys.stdout.flush()
            if last or time.monotonic() - last_saved > save_seconds:
                save_state(path, parts, optimizer, {"settings": described, "step": step + 1, "seconds": elapsed})
                seconds, began = elapsed, time.monotonic()
                last_saved = began
    return _sharpened(average.module, settings.sharpness).eval(), round(seconds, 1)


def _step(
    model: SamModel, optimizer: torch.optim.Optimizer, step: int, settings: TrainingSettings
) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * _rate(step, settings)
    batch = sample_batch(settings.seed, step, settings.samples)
    truth = torch.from_numpy(batch.masks).float().flatten(0, 1)
    outputs = model(pixel_values=pixel_values(batch), **_prompts(batch, with_boxes=step % _BOX_EVERY == 0))
    masks, opinions, iou = prompt_losses(
        outputs.pred_masks.flatten(0, 1), outputs.iou_scores.flatten(0, 1), truth)
    optimizer.zero_grad(set_to_none=True)
    (masks + settings.iou_weight * opinions).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"mask loss": masks.item(), "IoU loss": opinions.item(), "IoU": iou.item()}


def pixel_values(batch: Batch) -> torch.Tensor:
    """Float [B, 3, S, S], normalised as SAM's image processor does."""
    values = torch.from_numpy(batch.pictures).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, DEVIATION))
    return (values - mean) / deviation


def _prompts(batch: Batch, with_boxes: bool) -> dict[str, Any]:
    if with_boxes:
        return {"input_boxes": torch.from_numpy(batch.boxes), "multimask_output": False}
    points = torch.from_numpy(batch.points)[:, :, None]  # one point for each mask
    return {"input_points": points, "input_labels": torch.ones(points.shape[:3], dtype=torch.long)}


def _rate(step: int, settings: TrainingSettings) -> float:
    """Rises to 1, then falls to 0 along half a cosine."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - settings.warmup) / max(settings.steps - settings.warmup, 1))


def _averaging(keep: float):
    def average(averages, parameters, count):
        share = min(keep, (1 + int(count)) / (10 + int(count)))  # over fewer steps at the start of a run
        torch._foreach_lerp_(averages, parameters, 1 - share)

    return average


def _sharpened(model: SamModel, factor: float) -> SamModel:
    """Multiplies all mask logits; no mask changes, but how sharply its border is drawn does."""
    with torch.no_grad():
        for layers in model.mask_decoder.output_hypernetworks_mlps:
            layers.proj_out.weight.mul_(factor)
            layers.proj_out.bias.mul_(factor)
    return model
