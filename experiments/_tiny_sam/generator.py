"""How masks are generated with the tiny SAM."""

from srum_jax.regions.sam import SamConfig

POINTS_PER_SIDE = 12  # one point for 4 x 4 pixels
# What suits the shipped model: at the generator's own thresholds it leaves out objects that touch others.
TINY_WORLD = SamConfig(points_per_side=POINTS_PER_SIDE, pred_iou_thresh=0.7, stability_score_thresh=0.7)
SAM_ARGUMENTS = ("points_per_side", "pred_iou_thresh", "stability_score_thresh")  # that differ from the defaults
