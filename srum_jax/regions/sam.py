"""Segment Anything as Hugging Face ships it: masks over a grid of points, as boxes.

The `mask-generation` pipeline of transformers does the work. Its last step asks torchvision for non-maximum
suppression, which no CPU build of PyTorch brings along; it is done here instead, with the same result.
"""

import dataclasses
import json
import math
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.rewards.mask_rle import decode_mask, encode_mask
from srum_jax.rewards.proposals import RawProposal
from srum_jax.storage.reading import why_absent
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.transformers_checkpoint import load_model, load_processor

_MODEL_TYPE = "sam"


@dataclasses.dataclass(frozen=True)
class SamConfig:
    """Parameters of the generator; the defaults are those of the published one, which the authors use."""

    points_per_side: int = 32
    points_per_batch: int = 64  # speed and memory only
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1

    def __post_init__(self):
        for name, low, high in (
            ("points_per_side", 1, 512), ("points_per_batch", 1, 2**20), ("pred_iou_thresh", 0, 1),
            ("stability_score_thresh", 0, 1), ("stability_score_offset", 0, 100), ("mask_threshold", -100, 100),
            ("nms_thresh", 0, 1), ("crop_n_layers", 0, 5), ("crop_overlap_ratio", 0, 1),
            ("crop_n_points_downscale_factor", 1, 64),
        ):
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise BadInput(f"sam.{name}: expected a number from {low} to {high}, found {value!r}.")


class Sam:
    """Proposes the masks of a SAM checkpoint."""

    def __init__(
        self, checkpoint: epath.PathLike, config: SamConfig, device: str = "auto", keep_masks: bool = False
    ):
        """Loads the checkpoint; nothing is downloaded.

        Args:
          checkpoint: a directory with config.json and model.safetensors.
          config: of the generator.
          device: "cpu", "cuda", or "auto".
          keep_masks: proposals carry their masks, run-length encoded.

        Raises:
          BadInput: PyTorch is absent.
          WeightsError: the directory holds no SAM, or not a whole one; see `weights.transformers_checkpoint`.
        """
        self.config, self.keep_masks = config, keep_masks
        try:
            import torch
            from transformers import MaskGenerationPipeline, SamModel
            from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
        except ImportError as error:
            raise BadInput(f"SAM needs PyTorch, which is not installed ({error}); pip install 'srum-jax[rewards]'."
                           ) from error
        directory = epath.Path(checkpoint)
        check_files(directory)
        model = load_model(SamModel, directory)
        processor = load_processor(_without_torchvision(SamImageProcessorPil), directory)
        _check_size(directory, model, processor)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._torch = torch
        self._pipeline = MaskGenerationPipeline(model=model, image_processor=processor, device=device)

    def propose(self, pixels: np.ndarray) -> list[RawProposal]:
        """Masks of an image uint8 [H, W, 3], as half-open boxes with their areas."""
        config = self.config
        with self._torch.inference_mode():
            found = self._pipeline(
                Image.fromarray(pixels), points_per_crop=config.points_per_side,
                points_per_batch=config.points_per_batch, pred_iou_thresh=config.pred_iou_thresh,
                stability_score_thresh=config.stability_score_thresh,
                stability_score_offset=config.stability_score_offset, mask_threshold=config.mask_threshold,
                crops_nms_thresh=config.nms_thresh, crops_n_layers=config.crop_n_layers,
                crop_overlap_ratio=config.crop_overlap_ratio,
                crop_n_points_downscale_factor=config.crop_n_points_downscale_factor, output_bboxes_mask=True,
            )
        proposals = []
        for mask, score, box in zip(found["masks"], found["scores"], found["bounding_boxes"], strict=True):
            left, top, right, bottom = (int(corner) for corner in box)
            # The corners of a box are its first and last pixels.
            rle = encode_mask(mask) if self.keep_masks else None
            proposals.append(RawProposal((left, top, right + 1, bottom + 1), int(mask.sum()), float(score), rle=rle))
        return [proposal for proposal in proposals if proposal.area]


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression: numbers of the boxes that are kept, best first.

    A box goes if its intersection over union with a better one that is kept exceeds the threshold.

    Args:
      boxes: float [n, 4], x0, y0, x1, y1.
      scores: float [n].
      threshold: in [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[order, :2])
        size = np.clip(np.minimum(boxes[best, 2:], boxes[order, 2:]) - corner, 0, None)
        shared = size[:, 0] * size[:, 1]
        union = areas[best] + areas[order] - shared
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = np.where(union > 0, shared / union, 0.0)
        order = order[overlap <= threshold]
    return np.array(kept, int)


def _without_torchvision(base: type) -> type:
    class Processor(base):
        """The image processor of the checkpoint, without torchvision."""

        def post_process_for_mask_generation(self, all_masks, all_scores, all_boxes, crops_nms_thresh):
            """As the original."""
            kept = suppress(all_boxes.float().cpu().numpy(), all_scores.float().cpu().numpy(), crops_nms_thresh)
            masks = [decode_mask(all_masks[i]) for i in kept]
            return masks, all_scores[kept], [all_masks[i] for i in kept], all_boxes[kept]

    return Processor


def check_files(checkpoint: epath.PathLike) -> None:
    """Raises WeightsError if a directory holds no checkpoint of SAM, by the names and the kind of its files."""
    directory = epath.Path(checkpoint)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).exists():
            found = f"{name}: {why_absent(directory / name)}" if directory.exists() else "no such directory"
            raise WeightsError(f"{directory}: expected a SAM checkpoint with config.json and model.safetensors, found "
                               f"{found}; point --sam-model to a directory such as a download of "
                               "facebook/sam-vit-huge.")
    try:
        kind = json.loads((directory / "config.json").read_text())
    except ValueError as error:  # no JSON, or no text
        raise WeightsError(f"{directory}/config.json: expected JSON, found something else ({error}); copy it again."
                       ) from error
    # Transformers only warns, and would start all that another model lacks at random.
    kind = kind.get("model_type") if isinstance(kind, dict) else None
    if kind != _MODEL_TYPE:
        raise WeightsError(f"{directory}/config.json: expected a checkpoint with model_type {_MODEL_TYPE!r}, found "
                       f"{kind!r}; point --sam-model to a directory such as a download of facebook/sam-vit-huge.")


def _check_size(directory: epath.Path, model: Any, processor: Any) -> None:
    side = model.config.vision_config.image_size
    padded = (processor.pad_size["height"], processor.pad_size["width"])
    if padded != (side, side) or processor.size["longest_edge"] > side:
        raise WeightsError(f"{directory}: expected an image processor for the model's {side} x {side} pixels, found "
                           f"one for {padded[0]} x {padded[1]}; its settings belong to another model.")
