"""How good a SAM is on drawn scenes of held-out prompts: single masks, and the regions that `segment` would propose."""

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from etils import epath
from transformers import SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from experiments._tiny_bagel.varied_scenes import varied_scene
from experiments._tiny_sam.truth_masks import BACKGROUND_OWNER, TruthMask, truth_masks
from srum_jax.regions.sam import Sam, SamConfig
from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.drawing import Drawing, render
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

MATCH = 0.7  # least intersection over union of a box that counts as found
_SEED = 97


@dataclasses.dataclass(frozen=True)
class SamMetrics:
    """Means over all scenes."""

    scenes: int
    objects: int
    mask_iou: float  # of the mask with the best predicted IoU, for a point in each object
    best_mask_iou: float  # of the best of the three masks
    background_iou: float  # as `mask_iou`, for a point in the background
    recall: float  # share of the objects whose box is proposed
    recall_apart: float  # likewise, of objects whose box meets no other object's
    precision: float  # share of the proposed boxes that are an object's or the background's
    box_iou: float  # of an object's box with the best proposed one
    regions: float  # proposed, per picture
    seconds_per_picture: float


def held_out_drawings(count: int, seed: int = _SEED) -> list[Drawing]:
    """Scenes of prompts that nothing is trained on; a quarter of the objects get a texture drawn anew."""
    return [
        render(varied_scene(seed, number, textured=0.25, overlapping=0.1, held_out=True), PICTURE_SIZE)
        for number in range(count)
    ]


def measure(checkpoint: epath.PathLike, count: int, config: SamConfig) -> dict[str, Any]:
    """`SamMetrics` as a dictionary, with the parameters that the generator had.

    Args:
      checkpoint: a directory that `--sam-model` takes.
      count: of scenes.
      config: of the generator.
    """
    torch.set_num_threads(1)
    drawings = held_out_drawings(count)
    sam = Sam(checkpoint, config, "cpu")
    sam.propose(drawings[0].image)  # the first is slower
    began = time.monotonic()
    proposals = [[Box(*map(int, found.corners)) for found in sam.propose(drawing.image)] for drawing in drawings]
    seconds = (time.monotonic() - began) / count
    truth = [truth_masks(drawing) for drawing in drawings]
    best, right, apart = [], [], []
    for regions, boxes in zip(truth, proposals, strict=True):
        objects = [region.box for region in regions if region.owner != BACKGROUND_OWNER]
        best += [max((box_iou(own, box) for box in boxes), default=0.0) for own in objects]
        apart += [all(own is other or not box_iou(own, other) for other in objects) for own in objects]
        right += [any(box_iou(region.box, box) >= MATCH for region in regions) for box in boxes]
    found = np.array(best) >= MATCH
    metrics = SamMetrics(
        scenes=count, objects=len(best), **_single_masks(checkpoint, drawings, truth),
        recall=float(found.mean()), recall_apart=float(found[apart].mean()) if any(apart) else 0.0,
        precision=float(np.mean(right)) if right else 0.0, box_iou=float(np.mean(best)),
        regions=len(right) / count, seconds_per_picture=seconds,
    )
    rounded = {name: round(value, 4) for name, value in dataclasses.asdict(metrics).items()}
    return rounded | {"generator": dataclasses.asdict(config)}


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union."""
    shared = Box(max(one.x0, other.x0), max(one.y0, other.y0), min(one.x1, other.x1), min(one.y1, other.y1)).area
    return shared / (one.area + other.area - shared)


def _single_masks(
    checkpoint: epath.PathLike, drawings: list[Drawing], truth: list[tuple[TruthMask, ...]]
) -> dict[str, float]:
    """One point drawn from each region's pixels, through the model alone."""
    model = SamModel.from_pretrained(str(checkpoint), local_files_only=True, use_safetensors=True).eval()
    processor = SamImageProcessorPil.from_pretrained(str(checkpoint), local_files_only=True)
    rng = np.random.Generator(np.random.Philox(key=[_SEED, 1]))
    scores: dict[str, list[float]] = {"mask_iou": [], "best_mask_iou": [], "background_iou": []}
    for drawing, regions in zip(drawings, truth, strict=True):
        points = torch.tensor(np.array([[_point(region.mask, rng)] for region in regions])[None], dtype=torch.float32)
        inputs = processor(images=drawing.image, return_tensors="pt")
        with torch.inference_mode():
            found = model(pixel_values=inputs["pixel_values"], input_points=points,
                          input_labels=torch.ones(points.shape[:3], dtype=torch.long))
        masks = processor.post_process_masks(
            found.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])[0].numpy()
        for region, three, opinions in zip(regions, masks, found.iou_scores[0].numpy(), strict=True):
            overlaps = [(mask & region.mask).sum() / (mask | region.mask).sum() for mask in three]
            chosen = overlaps[opinions.argmax()]
            if region.owner == BACKGROUND_OWNER:
                scores["background_iou"].append(chosen)
            else:
                scores["mask_iou"].append(chosen)
                scores["best_mask_iou"].append(max(overlaps))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def _point(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows))
    return int(columns[chosen]), int(rows[chosen])
