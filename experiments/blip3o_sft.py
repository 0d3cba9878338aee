"""Plain supervised fine-tuning of BLIP3o on the same records: no reward at all.

    python -m srum_jax.train --experiment=blip3o_sft --workdir gs://BUCKET/runs/blip3o_sft \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed
from experiments._blip3o_recipe import blip3o_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Only the reference term, with weight 1."""
    return changed(blip3o_recipe("blip3o_sft"), objective={"reward_coefficient": 0.0, "reference_coefficient": 1.0})
