"""The arrays of a run by shape and layout alone, to lower and compile its step for devices that are not at hand."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from srum_jax.data.config import DataConfig
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.sharding import batch_shardings
from srum_jax.models.layers.logical_axes import Rules, named_shardings
from srum_jax.models.layers.token_stream import TokenStream
from srum_jax.training.config import ModelSource
from srum_jax.training.lora import attach_factors
from srum_jax.training.state import TrainState, abstract_train_state, architecture_of, parts_of, split_trainable


@dataclasses.dataclass(frozen=True)
class AbstractRun:
    """Arguments of the step as `jax.ShapeDtypeStruct` with shardings."""

    graphdef: nnx.GraphDef
    state: TrainState
    frozen: nnx.State
    batch: PackedBatch


def abstract_run(
    config: BagelConfig,
    source: ModelSource,
    data: DataConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    compute_dtype: str,
    *,
    with_ema: bool = False,
) -> AbstractRun:
    """What `load_model`, `new_train_state` and the pipeline would make, without making it.

    Args:
      config: of the model.
      source: which parts there are and which are trained.
      data: capacities of a batch.
      optimizer: see `make_optimizer`.
      mesh: of real or described devices.
      compute_dtype: of the frozen variables.
      with_ema: whether the state has an average of the parameters.
    """
    architecture = architecture_of(source)
    rules = architecture.rules
    graphdef, abstract = architecture.abstract(config, parts_of(source, architecture))
    if source.lora is None:
        trained, frozen = split_trainable(_laid_out(abstract, mesh, rules), source.trainable, architecture)
    else:
        graphdef, factors = attach_factors(graphdef, abstract, source.lora, architecture)
        trained, frozen = _laid_out(factors, mesh, rules), _laid_out(abstract, mesh, rules)
    frozen = jax.tree.map(lambda leaf: _struct(leaf, jnp.dtype(compute_dtype), leaf.sharding), frozen)
    state = abstract_train_state(trained, optimizer, mesh, with_ema=with_ema)
    return AbstractRun(graphdef, state, frozen, abstract_batch(data, config, mesh))


def abstract_batch(data: DataConfig, config: BagelConfig, mesh: Mesh) -> PackedBatch:
    """The shapes and layouts of a whole batch, over all processes."""
    capacity, rows = data.row_capacity(config), data.rows_per_batch

    def array(*shape: int, dtype: jnp.dtype = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype)

    def stream(length: int) -> TokenStream:
        return TokenStream(*(array(length) for _ in dataclasses.fields(TokenStream)))

    text, vit, latent, ce, images = capacity.text, capacity.vit, capacity.latent, capacity.ce, capacity.images
    batch = PackedBatch(
        text=stream(text),
        text_ids=array(text),
        vit=stream(vit),
        vit_patches=array(vit, capacity.patch_values, dtype=jnp.float32),
        vit_position_ids=array(vit),
        latent=stream(latent),
        latent_position_ids=array(latent),
        latent_index=array(latent),
        timestep_logit=array(latent, dtype=jnp.float32),
        images=array(*capacity.canvases, dtype=jnp.uint8),
        image_size=array(images, 2),
        reference_images=None,
        reward_alpha=array(latent, dtype=jnp.float32),
        reward_map=array(latent, dtype=jnp.float32),
        ce_index=array(ce),
        ce_labels=array(ce),
        ce_weights=array(ce, dtype=jnp.float32),
        posterior_moments=None if capacity.moments is None else array(*capacity.moments, dtype=jnp.float16),
    )
    shardings = batch_shardings(mesh, batch)
    return jax.tree.map(lambda leaf, sharding: _struct(leaf, leaf.dtype, sharding), batch, shardings)


def _laid_out(abstract: nnx.State, mesh: Mesh, rules: Rules) -> nnx.State:
    layout = named_shardings(abstract, mesh, rules)
    return jax.tree.map(lambda leaf, sharding: _struct(leaf, leaf.dtype, sharding), abstract, layout)


def _struct(leaf: jax.ShapeDtypeStruct, dtype: jnp.dtype, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)
