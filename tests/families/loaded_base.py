"""A tiny base of a family, loaded, and batches of it."""

import functools

import jax
import numpy as np
from flax import nnx

from srum_jax.data.example import Example, Picture
from srum_jax.families.registry import family
from srum_jax.mesh import on_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.columns import ColumnNames
from srum_jax.pipeline import load
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load as load_weights
from srum_jax.weights.tokenizer import load_tokenizer

COMPUTE = ComputeConfig(dtype="float32", attention="dense", remat="none")
ANSWER = "a red circle"
COLUMNS = ColumnNames(image=("alpha", "reward_map"), text=("side",))


class LoadedBase:
    """A tiny base with what the tests make of it once."""

    def __init__(self, tiny):
        self.tiny, self.family = tiny, family(tiny.family)
        self.path = tiny.checkpoint()

    @functools.cached_property
    def checkpoint(self):
        return open_checkpoint(self.path, self.family.architecture)

    @functools.cached_property
    def loaded(self):
        return load_weights(self.checkpoint)

    @functools.cached_property
    def forward(self):
        return self.family.forward(self.checkpoint.config, COMPUTE)

    @functools.cached_property
    def pipeline(self):
        return load(self.path, dtype="float32", attention="dense", mesh=MeshConfig(), devices=jax.devices()[:1])

    def packer(self):
        return self.family.packer(self.tiny.rows, self.checkpoint.config, load_tokenizer(self.path), COLUMNS, None)

    def drawing(self, prompt=None, number=0):
        """A sample whose columns are ones, so that the reward is the plain error."""
        picture = np.roll(self.tiny.picture, number, axis=0)
        ones = {"alpha", "reward_map"}
        return Example(prompt or self.tiny.prompts[0], Picture(*picture.shape[1::-1], pixels=picture),
                       lambda grid: {name: np.ones((grid.rows, grid.columns), np.float32) for name in ones})

    def reading(self, answer=ANSWER):
        picture = Picture(*self.tiny.picture.shape[1::-1], pixels=self.tiny.picture)
        return Example(self.tiny.question, picture, lambda grid: {}, {"side": 1.0}, kind="reading", answer=answer)

    def row(self, *examples):
        """A row, each of its samples under the same random draws wherever it lies."""
        row = self.packer().empty_row()
        for example in examples:
            row.add(example, np.random.Generator(np.random.Philox(key=[7, 0])))
        return row.finish()

    @functools.cached_property
    def compiled_scores(self):
        graphdef, _ = self.loaded
        return jax.jit(lambda state, batch, draws: self.forward.scores(nnx.merge(graphdef, state), batch, draws))

    def scores(self, batch, draws=None, mesh=None):
        """Token scores of a batch, on the host."""
        state = self.loaded[1] if mesh is None else load_weights(self.checkpoint, mesh=mesh)[1]
        draws = self.forward.draws(jax.random.key(0), batch) if draws is None else draws
        if mesh is not None:
            batch = jax.tree.map(jax.device_put, batch, on_mesh(mesh, self.forward.layout(batch)))
        return jax.device_get(self.compiled_scores(state, batch, draws))
