import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.experimental import multihost_utils

from srum_jax.errors import BadInput, Failure
from srum_jax.experiment import load_recipe
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import dotted, named_shardings
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES
from srum_jax.training.abstract_run import abstract_run
from srum_jax.training.config import EmaConfig, LoraConfig, ModelSource, OptimizerConfig
from srum_jax.training.optimizer import make_optimizer
from srum_jax.training.state import (
    abstract_train_state,
    load_model,
    new_train_state,
    sha256_of_encoder,
    split_trainable,
    with_training_times,
)
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.weights.errors import WeightsError
from tests.families.blip3o import tiny_checkpoint
from tests.models.packs import mesh_of, small_config


def names(state):
    return {dotted(path) for path, _ in nnx.to_flat_state(state)}


@pytest.fixture(scope="module")
def abstract():
    return abstract_model(Bagel, small_config())[1]


def test_the_paper_trains_the_language_model_and_the_latent_projections_and_nothing_else(abstract):
    trained, frozen = (names(part) for part in split_trainable(abstract, ("default",), BAGEL))
    assert trained | frozen == names(abstract) and not trained & frozen
    assert {name.split(".")[0] for name in trained} == {"llm", "time_embedder", "vae2llm", "llm2vae"}
    assert {name.split(".")[0] for name in frozen} == {
        "vae", "vit", "connector", "latent_pos_embed", "vit_pos_embed",
    }


def test_the_understanding_expert_can_be_left_out(abstract):
    trained = names(split_trainable(abstract, ("generation_expert",), BAGEL)[0])
    assert "llm.layers.gen.query.kernel" in trained and "llm.gen_norm.scale" in trained
    assert not any(".und" in name or "embed." in name or "lm_head" in name for name in trained)


def test_autoencoder_vision_tower_and_position_tables_stay_whatever_the_patterns(abstract):
    trained = names(split_trainable(abstract, ("*",), BAGEL)[0])
    assert {name.split(".")[0] for name in trained} == {"llm", "time_embedder", "vae2llm", "llm2vae", "connector"}


def test_a_shift_of_times_is_refused_to_a_model_that_has_none():
    shift = ModelSource(timestep_shift=4.0)
    assert with_training_times(small_config(), shift).timestep_shift == 4.0
    with pytest.raises(BadInput, match=r"model\.timestep_shift"):
        with_training_times(object(), shift)


@pytest.mark.parametrize("patterns", [("llm.*", "lmm.*"), ("vae.*",), ("vit.*",), ("latent_pos_embed.*",), ()])
def test_a_pattern_that_selects_nothing_is_an_error(abstract, patterns):
    with pytest.raises(BadInput, match=r"model\.trainable: .* selects no parameter"):
        split_trainable(abstract, patterns, BAGEL)


def test_moments_exist_for_trained_parameters_only_and_lie_with_them():
    mesh = mesh_of(2, 2, 1, 2)
    model = nnx.split(Bagel(small_config(), rngs=nnx.Rngs(0)))[1]
    placed = jax.device_put(model, named_shardings(model, mesh, RULES))
    trained, _ = split_trainable(placed, ("generation_expert",), BAGEL)
    optimizer = make_optimizer(OptimizerConfig())
    state = new_train_state(trained, optimizer, mesh)
    for field in ("mu", "nu"):
        [(_, moments)] = optax.tree_utils.tree_get_all_with_path(state.optimizer, field)
        assert names(moments) == names(trained)
        for moment, parameter in zip(jax.tree.leaves(moments), jax.tree.leaves(trained), strict=True):
            assert moment.sharding == parameter.sharding and moment.dtype == jnp.float32
    split = [leaf for leaf in jax.tree.leaves(state.optimizer) if not leaf.sharding.is_fully_replicated]
    assert len(split) > 10, "the moments ought to be sharded"


def test_the_abstract_state_is_that_of_the_real_one():
    mesh = mesh_of(2, 4, 1, 1)
    model = nnx.split(Bagel(small_config(), rngs=nnx.Rngs(0)))[1]
    trained, _ = split_trainable(jax.device_put(model, named_shardings(model, mesh, RULES)), ("default",), BAGEL)
    optimizer = make_optimizer(OptimizerConfig())
    real, like = new_train_state(trained, optimizer, mesh), abstract_train_state(trained, optimizer, mesh)
    assert jax.tree.structure(real) == jax.tree.structure(like)
    for a, b in zip(jax.tree.leaves(real), jax.tree.leaves(like), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


@pytest.mark.parametrize(("lora", "quantize"), [(None, None), (LoraConfig(rank=2), None), (LoraConfig(rank=2), "int8")])
def test_a_run_without_values_has_the_state_of_a_real_one(tiny_base, lora, quantize):
    mesh, optimizer = mesh_of(2, 2, 1, 1), make_optimizer(OptimizerConfig())
    source = ModelSource(str(tiny_base), trainable=("llm.layers.gen.*",), lora=lora, quantize=quantize)
    model = load_model(source, mesh, "bfloat16")
    real = new_train_state(model.trained, optimizer, mesh, with_ema=True)
    experiment = dataclasses.replace(load_recipe("tiny").experiment, model=source, ema=EmaConfig(),
                                     compute=ComputeConfig(dtype="bfloat16"))
    like = abstract_run(experiment, model.config, mesh)
    for mine, its in ((real, like.state), (model.frozen, like.frozen)):
        assert jax.tree.structure(mine) == jax.tree.structure(its)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(its), strict=True):
            assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def test_matrices_that_are_trained_cannot_be_integers(tiny_base):
    source = ModelSource(str(tiny_base), trainable=("llm.layers.gen.*",), quantize="int8")
    with pytest.raises(BadInput, match=r"model\.quantize: int8 .*llm\.layers\.gen\.down\.kernel and 6 more.*lora"):
        load_model(source, mesh_of(1, 1, 1, 1), "float32")
    experiment = dataclasses.replace(load_recipe("tiny").experiment, model=source)
    with pytest.raises(BadInput, match=r"model\.quantize"):
        abstract_run(experiment, open_checkpoint(tiny_base, BAGEL).config, mesh_of(1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"model\.quantize: expected one of int8, int4, or null, found 'int3'"):
        ModelSource(quantize="int3")


def test_matrices_that_are_not_trained_may_be_integers(tiny_base):
    source = ModelSource(str(tiny_base), trainable=("vae2llm.*",), quantize="int8")
    model = load_model(source, mesh_of(1, 1, 1, 1), "bfloat16")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.trained)} == {"float32"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.frozen)} == {"bfloat16", "int8", "float32"}


def test_trained_weights_are_float32_and_fixed_ones_may_be_bfloat16(tiny_base):
    mesh = mesh_of(1, 1, 1, 1)
    model = load_model(ModelSource(str(tiny_base), timestep_shift=4.0), mesh, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.trained)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(model.frozen)} == {jnp.dtype("bfloat16")}
    assert model.config.timestep_shift == 4.0
    assert nnx.merge(model.graphdef, model.trained, model.frozen).config.timestep_shift == 4.0
    assert not any(name.startswith("vit.") for name in names(model.frozen)), "understanding is off by default"


def test_a_model_without_checkpoint_says_how_to_name_one():
    with pytest.raises(BadInput, match=r"--set model\.checkpoint=DIR"):
        load_model(ModelSource(), mesh_of(1, 1, 1, 1), "float32")


class TestTheChecksumOfTheEncoder:
    @pytest.fixture
    def source(self):
        return ModelSource(checkpoint=str(tiny_checkpoint.shared()))

    @pytest.fixture
    def model(self, source):
        """Without its encoder."""
        return load_model(source, mesh_of(1, 1, 1, 1), "float32", stored_codes=True)

    def test_is_that_of_the_checkpoint_though_the_encoder_is_not_loaded(self, source, model):
        assert "eva" not in model.checkpoint.parts
        assert sha256_of_encoder(source, model) == encoder_sha256(
            open_checkpoint(source.checkpoint, BLIP3O, {"eva"}))

    def test_comes_to_the_other_processes_from_the_first(self, source, model, monkeypatch):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda own: np.full_like(own, 7))
        absent = dataclasses.replace(source, checkpoint="/nowhere")  # they read nothing
        assert sha256_of_encoder(absent, model) == bytes([7] * 32)

    def test_that_the_first_cannot_read_stops_all(self, source, model, monkeypatch):
        told = []
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda own: told.append(own) or own)
        absent = dataclasses.replace(source, checkpoint="/nowhere")
        with pytest.raises(WeightsError, match="/nowhere"):
            sha256_of_encoder(absent, model)
        assert len(told) == 1 and not told[0].any()
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with pytest.raises(Failure, match="process 0"):
            sha256_of_encoder(absent, model)
