"""The training command on `suder_tiny_bagel`, small."""

import functools
import pathlib
import tempfile

from tests import commands

# Two steps a round, of two prompts and two pictures with four outputs each.
SETTINGS = ("rollouts.prompts_per_round=2", "rollouts.pictures_per_round=2", "rollouts.steps_per_round=2",
            "rollouts.batch_size=8", "rollouts.rewards.draws=2", "rollouts.sampler.num_timesteps=3",
            "training.save_every=2")


@functools.cache
def inputs():
    """Prompts and pictures of the shapes world, drawn once for all tests."""
    from experiments.suder_tiny_bagel import experiment, prepare

    folder = pathlib.Path(tempfile.mkdtemp(prefix="srum-rounds-"))
    rollouts = prepare(experiment(), folder).rollouts
    return f"rollouts.prompts={rollouts.prompts}", f"rollouts.pictures={rollouts.pictures}"


def start(workdir, *settings, module="srum_jax.train", before=(), more=(), **options):
    """Starts it with `--set` for every setting; `before` and `more` are further words."""
    named = [f"--set={setting}" for setting in (*SETTINGS, *inputs(), *settings)]
    return commands.start(module, *before, "--experiment=suder_tiny_bagel", "--workdir", workdir, *named, *more,
                          **options)
