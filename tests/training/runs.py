"""A small model with its step, for tests that train."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from flax import nnx

from srum_jax.families.bagel.forward import BagelForward
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import named_shardings
from srum_jax.models.layers.sharding import RULES
from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.config import EmaConfig, LoraConfig, OptimizerConfig
from srum_jax.training.lora import attach_factors, initial_factors
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.state import TrainState, new_train_state, split_trainable
from srum_jax.training.step import compile_step, make_step
from tests.models.packs import mesh_of, on_devices, random_batch, small_config

# The third update is the first that has moved everything; a large eps keeps rounding from deciding signs.
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_steps=1, eps=1e-4)


@dataclasses.dataclass
class Run:
    """A state on a mesh, and the step that takes it further."""

    state: TrainState
    frozen: nnx.State
    step_function: Callable
    mesh: jax.sharding.Mesh

    @functools.cached_property
    def step(self) -> jax.stages.Compiled:
        """Compiled when it is first wanted."""
        batch = random_batch(small_config(vit=None))
        batch = on_devices(batch, self.mesh)
        return compile_step(self.step_function, self.state, self.frozen, batch, self.mesh)

    def of(self, state: TrainState) -> "Run":
        """Another run with the same compiled step."""
        other = dataclasses.replace(self, state=state)
        other.step = self.step
        return other

    def train(self, *batches):
        """Takes one step per batch; returns their metrics."""
        metrics = []
        for batch in batches:
            self.state, found = self.step(self.state, self.frozen, on_devices(batch, self.mesh))
            metrics.append(jax.device_get(found))
        return metrics


def small_run(*shape: int, accumulation_steps: int = 1, seed: int = 3, lora: LoraConfig | None = None,
              ema: EmaConfig | None = None) -> Run:
    """Starts on a mesh data x fsdp x seq x tensor; one device without arguments."""
    mesh, config = mesh_of(*(shape or (1, 1, 1, 1))), small_config(vit=None)
    model = Bagel(config, rngs=nnx.Rngs(0))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    graphdef, variables = nnx.split(model)
    placed = jax.device_put(variables, named_shardings(variables, mesh, RULES))
    if lora is None:
        trained, frozen = split_trainable(placed, ("default",), BAGEL)
    else:
        graphdef, factors = attach_factors(graphdef, placed, lora, BAGEL)
        trained, frozen = initial_factors(factors, seed, mesh, BAGEL), placed
    optimizer = make_optimizer(OPTIMIZER)
    state = new_train_state(trained, optimizer, mesh, with_ema=ema is not None)
    forward = BagelForward(config, ComputeConfig(remat="none"))
    step = make_step(graphdef, forward, RewardWeighted(), optimizer, accumulation_steps=accumulation_steps, seed=seed,
                     ema=ema)
    return Run(state, frozen, step, mesh)


def batches(count: int):
    """Different batches of eight rows."""
    return [random_batch(small_config(vit=None), seed=seed) for seed in range(count)]
