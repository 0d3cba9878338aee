"""The training command on `suder_tiny_bagel` or `suder_tiny`, small."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from tests import commands

FLOW, CODES = "suder_tiny_bagel", "suder_tiny"
# Two steps a round, of two prompts and two pictures with four outputs each.
_SETTINGS = ("rollouts.prompts_per_round=2", "rollouts.pictures_per_round=2", "rollouts.steps_per_round=2",
             "rollouts.batch_size=8", "rollouts.audit_inputs=2", "training.save_every=2", "data.rows_per_batch=2")
_OF_FLOW = ("rollouts.rewards.draws=2", "rollouts.sampler.num_timesteps=3", "rows.samples_per_row=4",
            "rows.images_per_row=4", "rows.text_capacity=160", "rows.latent_capacity=72")


def settings(experiment=FLOW):
    """Of the experiment, with inputs."""
    return (*_SETTINGS, *(_OF_FLOW if experiment == FLOW else ()), *_inputs())


@functools.cache
def _inputs():
    """Prompts and pictures of the shapes world, drawn once for all tests."""
    from experiments.suder_tiny_bagel import experiment, prepare

    folder = pathlib.Path(tempfile.mkdtemp(prefix="srum-rounds-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rollouts = prepare(experiment(), folder).rollouts
    return f"rollouts.prompts={rollouts.prompts}", f"rollouts.pictures={rollouts.pictures}"


def start(workdir, *more_settings, experiment=FLOW, module="srum_jax.train", before=(), more=(), **options):
    """Starts it with `--set` for every setting; `before` and `more` are further words."""
    named = [f"--set={setting}" for setting in (*settings(experiment), *more_settings)]
    return commands.start(module, *before, f"--experiment={experiment}", "--workdir", workdir, *named, *more, **options)
