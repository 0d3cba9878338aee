"""SAM's losses (Kirillov et al. 2023, appendix A): focal and dice of the best of several masks, and predicted IoU.

    N prompts · M masks of a prompt · S pixels of a side
"""

import torch
import torch.nn.functional as F

_FOCAL_WEIGHT = 20.0
_FOCUS, _BALANCE = 2.0, 0.25  # gamma and alpha of the focal loss


def prompt_losses(
    logits: torch.Tensor, predicted_iou: torch.Tensor, truth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses of a batch of prompts.

    Args:
      logits: float [N, M, S, S].
      predicted_iou: float [N, M], the model's opinion of its masks.
      truth: float [N, S, S], 0 or 1.

    Returns:
      The mask loss of the best mask, and the squared error of the predicted IoU of every mask, both means; and the
      IoU of the best mask, mean.
    """
    truth = truth[:, None].expand_as(logits)
    masks = _FOCAL_WEIGHT * _focal(logits, truth) + _dice(logits, truth)  # [N, M]
    with torch.no_grad():
        iou = mask_iou(logits > 0, truth > 0)
    best = masks.min(dim=1)
    chosen = iou.gather(1, best.indices[:, None])
    return best.values.mean(), F.mse_loss(predicted_iou, iou), chosen.mean()


def mask_iou(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Intersection over union of bool masks [..., S, S]; 0 where both are empty."""
    union = (found | truth).sum((-2, -1))
    return (found & truth).sum((-2, -1)) / union.clamp(min=1)


def _focal(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = torch.exp(-entropy)
    balance = _BALANCE * truth + (1 - _BALANCE) * (1 - truth)
    return (balance * (1 - right) ** _FOCUS * entropy).mean((-2, -1))


def _dice(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    share = logits.sigmoid()
    overlap = 2 * (share * truth).sum((-2, -1))
    return 1 - (overlap + 1) / (share.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
