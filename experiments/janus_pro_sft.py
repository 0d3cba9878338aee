"""Plain supervised fine-tuning of Janus-Pro on the same records: no reward at all.

    python -m srum_jax.train --experiment=janus_pro_sft --workdir gs://BUCKET/runs/janus_pro_sft \\
        --set model.checkpoint=gs://BUCKET/janus_pro_7b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed
from experiments._janus_recipe import janus_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Only the reference term, with weight 1."""
    return changed(janus_recipe("janus_pro_sft"), objective={"reward_coefficient": 0.0, "reference_coefficient": 1.0})
