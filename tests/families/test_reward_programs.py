"""What scores in a round, as it is described for a slice that is not at hand, is what a scorer calls."""

import jax
import numpy as np
import pytest

from srum_jax.families.costs import Drawing
from srum_jax.families.registry import family
from srum_jax.inference.programs import Programs
from srum_jax.inference.requests import ImageRequest, Question
from srum_jax.mesh_config import MeshConfig
from srum_jax.pipeline import load
from tests.families.tiny import TINY_BASES
from tests.models.packs import mesh_of

DRAWS = 3


@pytest.mark.parametrize("tiny", [tiny for tiny in TINY_BASES if family(tiny.family).scorer],
                         ids=lambda tiny: tiny.family)
def test_every_described_program_is_called_by_the_scorer_on_arrays_of_that_kind(tiny, monkeypatch):
    called = {}
    call = Programs.call

    def noted(self, program, *arguments):
        called[program] = arguments
        return call(self, program, *arguments)

    pipeline = load(tiny.checkpoint(), dtype="float32", attention="dense", mesh=MeshConfig(), devices=jax.devices()[:1])
    monkeypatch.setattr(Programs, "call", noted)
    pipeline.scorer.texts([Question(tiny.question, (tiny.picture,))], [tiny.prompts[0]])
    pipeline.scorer.pictures([ImageRequest(tiny.prompts[0], 0)], [tiny.picture], np.full((1, DRAWS), 0.5, np.float32))

    costs, config = family(tiny.family).costs, pipeline.scorer.programs.config
    height, width, _ = tiny.picture.shape
    programs, _ = costs.without_values(config, mesh_of(1, 1, 1, 1), dtype="float32", attention="dense")
    for name in costs.rewarded_by:
        arguments = costs.arguments(programs, name, Drawing(1, 20, height, width, max_tokens=20, draws=DRAWS))
        assert kinds(arguments) == kinds(called[costs.rewarded_by[name]]), name
        programs.lower(costs.rewarded_by[name], *arguments)
    assert costs.question_tokens(config, Drawing(1, height=height, width=width)) > 0


def kinds(arguments):
    """Structure, ranks and dtypes; widths are buckets of what was asked."""
    return jax.tree.structure(arguments), [(leaf.ndim, leaf.dtype) for leaf in jax.tree.leaves(arguments)]
