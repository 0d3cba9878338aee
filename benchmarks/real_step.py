"""The training step of BAGEL-7B at its real widths, but with few layers, on one device; see `train_step.py`.

The step is the project's own (`make_step`), with the paper's recipe: rows of two images of 1,024 pixels and their
prompts, forward and backward through both experts, clipping, AdamW on float32 masters, frozen weights in bfloat16.
Weights are random: what they are changes no time.
"""

import argparse
import dataclasses
import time
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.gpu import first_gpu
from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.aot.training import PROMPT_TOKENS
from srum_jax.attention_route import attention_route
from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.family import FAMILY
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, pack_sample
from srum_jax.families.bagel.step_flops import count_pack, step_flops
from srum_jax.mesh import build_mesh, on_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.batch import PackedBatch
from srum_jax.models.bagel.config import RELEASED, AutoencoderConfig, BagelConfig, SpecialTokens
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import shapes_by_name
from srum_jax.observability.peak_flops import peak_flops
from srum_jax.training.abstract_run import abstract_run
from srum_jax.training.experiment import Experiment
from srum_jax.training.state import TrainState, new_train_state
from srum_jax.training.step import compile_step

_WARM_UP_STEPS = 2
_PROFILED_STEPS = 3
_GIB = 2**30


def measure_real(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one run.

    Args:
      args: the options of `--device gpu`, and `steps`.

    Raises:
      BadInput: JAX finds no GPU, or the kernel that is asked for does not run on it.
    """
    device = jax.devices()[0] if args.width_divisor > 1 else first_gpu()
    route = attention_route(args.attention, device, "bfloat16", setting="--attention")
    config, experiment = _model(args), _experiment(args, route.name)
    mesh = build_mesh(MeshConfig(data=1, fsdp=1), [device])
    shapes = abstract_run(experiment, config, mesh)
    began = time.perf_counter()
    step = compile_step(shapes.step, shapes.state, shapes.frozen, shapes.batch, mesh)
    compile_seconds = time.perf_counter() - began
    host = _batch(experiment, config, without_autoencoder=args.without_autoencoder)
    layout = FAMILY.forward(config, experiment.compute).layout(host)
    batch = jax.device_put(host, on_mesh(mesh, layout))
    state = new_train_state(random_weights(shapes.state.parameters), shapes.optimizer, mesh,
                            with_ema=experiment.ema is not None)
    frozen = random_weights(shapes.frozen)
    seconds, loss = _time(step, state, frozen, batch, args)

    trained, counts = shapes_by_name(shapes.state.parameters), count_pack(host)
    flops = step_flops(config, counts, trained)
    peak = args.peak * 1e12 if args.peak else peak_flops([device])
    return {
        "device": device.device_kind,
        "layers": config.llm.num_layers,
        "rows": args.rows,
        "attention": str(route).removeprefix("attention by "),
        "remat": args.remat,
        "autoencoder": not args.without_autoencoder,
        "trained values": sum(leaf.size for leaf in jax.tree.leaves(shapes.state.parameters)),
        "loss": loss,
        "s/step": seconds,
        "tokens/s": (counts.und_tokens + counts.gen_tokens) / seconds,
        "images/s": args.rows * experiment.rows.images_per_row / seconds,
        "model TFLOP/s": flops / seconds / 1e12,
        "MFU": None if peak is None else flops / seconds / peak,
        "peak GiB": _peak_bytes(device, step) / _GIB,
        "compile s": compile_seconds,
    }


def _model(args: argparse.Namespace) -> BagelConfig:
    llm, divisor = RELEASED.llm, args.width_divisor
    config = dataclasses.replace(RELEASED, vit=None, llm=dataclasses.replace(llm, num_layers=args.layers))
    if divisor == 1:
        return config
    vocabulary = llm.vocab_size // divisor
    return dataclasses.replace(
        config,
        llm=dataclasses.replace(config.llm, vocab_size=vocabulary, hidden_size=llm.hidden_size // divisor,
                                intermediate_size=llm.intermediate_size // divisor),
        vae=AutoencoderConfig(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1),
        special_tokens=SpecialTokens(*range(vocabulary - 4, vocabulary)))


def _experiment(args: argparse.Namespace, attention: str) -> Experiment:
    recipe = paper_recipe("train_step")
    side = recipe.rows.image_height // args.width_divisor
    canvas = RELEASED.latent_stride if args.without_autoencoder else side
    latents = recipe.rows.images_per_row * (side // RELEASED.latent_stride) ** 2
    return changed(
        recipe,
        data={"rows_per_batch": args.rows},
        rows={"image_height": canvas, "image_width": canvas, "latent_capacity": latents},
        compute=dataclasses.asdict(ComputeConfig(dtype="bfloat16", attention=attention, remat=args.remat,
                                                 attention_block=args.attention_block)))


def _batch(experiment: Experiment, config: BagelConfig, *, without_autoencoder: bool) -> PackedBatch:
    """Full rows, made by the pipeline's own packing."""
    rows, draws = experiment.rows, np.random.default_rng(0)
    capacity = row_capacity(rows, config, experiment.objective.columns)
    batch = stack_rows([
        pack_row([_sample(capacity, rows, config, draws) for _ in range(rows.samples_per_row)], capacity)
        for _ in range(experiment.data.rows_per_batch)])
    if without_autoencoder:  # every token of an image gets its one latent
        image = np.arange(capacity.latent, dtype=np.int32) // (capacity.latent // rows.images_per_row)
        batch = dataclasses.replace(batch, latent_index=np.broadcast_to(image, batch.latent_index.shape).copy())
    return batch


def _sample(capacity: RowCapacity, rows: BagelRows, config: BagelConfig, draws: np.random.Generator):
    side = round((capacity.latent // rows.images_per_row) ** 0.5)
    tokens = (side, side)
    values = draws.uniform(-1, 1, tokens).astype(np.float32)
    plan = (
        TextItem(ids=draws.integers(0, config.special_tokens.bos, PROMPT_TOKENS).tolist()),
        LatentItem(pixels=draws.integers(0, 256, (rows.image_height, rows.image_width, 3), dtype=np.uint8),
                   grid=tokens, position_ids=position_ids(*tokens, config.max_latent_size), loss=True,
                   columns={"alpha": np.ones(tokens, np.float32), "reward_map": values}),
    )
    return pack_sample(plan, config.special_tokens, Dropout(text=0.0), draws)


def random_weights(shapes: nnx.State) -> nnx.State:
    """Small random values, ones for the scales of norms; made where they lie."""
    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if "scale" in name:
            return jnp.ones(leaf.shape, leaf.dtype)
        key = jax.random.fold_in(jax.random.key(0), zlib.crc32(name.encode()))
        return 0.02 * jax.random.normal(key, leaf.shape, leaf.dtype)

    def make() -> nnx.State:
        return jax.tree_util.tree_map_with_path(fill, shapes)

    return jax.jit(make, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shapes))()


def _time(step: jax.stages.Compiled, state: TrainState, frozen: nnx.State, batch: PackedBatch,
          args: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step, and the last loss."""
    for _ in range(_WARM_UP_STEPS):
        state, metrics = step(state, frozen, batch)
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    for _ in range(args.steps):
        state, metrics = step(state, frozen, batch)
    jax.block_until_ready(metrics)
    seconds = (time.perf_counter() - began) / args.steps
    if args.profile:
        with jax.profiler.trace(args.profile):
            for number in range(_PROFILED_STEPS):
                with jax.profiler.StepTraceAnnotation("train", step_num=number):
                    state, metrics = step(state, frozen, batch)
            jax.block_until_ready(metrics)
    return seconds, float(metrics.loss)


def _peak_bytes(device: jax.Device, step: jax.stages.Compiled) -> float:
    """What the runtime saw, or where it does not say what the compiler planned."""
    stats = device.memory_stats()
    if stats is not None and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    planned = step.memory_analysis()
    return planned.argument_size_in_bytes + planned.temp_size_in_bytes
