"""Measures generation; see `benchmarks.generate`."""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from srum_jax.aot import hlo_program
from srum_jax.attention_route import attention_route
from srum_jax.families.bagel.answerer import BagelAnswerer
from srum_jax.families.bagel.conversation import Conversation
from srum_jax.families.bagel.flow_sampling import LatentLayout, sample_latents
from srum_jax.families.bagel.generation_costs import generation_costs
from srum_jax.families.bagel.generator import BagelGenerator
from srum_jax.families.bagel.image_codec import decode_latents, initial_noise
from srum_jax.families.bagel.image_views import latent_position_ids
from srum_jax.families.bagel.programs import DECODE_IMAGES, PREFILL_TEXT, SAMPLE_LATENTS
from srum_jax.families.bagel.sampler import FlowSampler
from srum_jax.families.costs import Drawing
from srum_jax.families.family import Opened
from srum_jax.inference.context import Context
from srum_jax.inference.programs import Program, Programs
from srum_jax.inference.requests import ImageRequest, Question
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.bagel.config import RELEASED, BagelConfig, SpecialTokens
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import named_shardings
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES
from srum_jax.observability.peak_flops import peak_flops
from srum_jax.pipeline import Pipeline, load
from srum_jax.worlds.shapes.bases.bagel import write_base

_PROMPT = "a red circle left of a blue square"
_REAL_TEXT = TextSampler()
_COUNTED = (PREFILL_TEXT, SAMPLE_LATENTS, DECODE_IMAGES)
_COMPILE_EVENTS = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """All figures, and the text that shows them; arguments of `benchmarks.generate`."""
    if args.dtype is None:
        args.dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    jax.monitoring.register_event_duration_secs_listener(_Compilation.add)
    with tempfile.TemporaryDirectory() as directory:
        pipeline = _pipeline(args, epath.Path(directory))
        sampler = dataclasses.replace(FlowSampler(), num_timesteps=args.num_timesteps)
        sides = args.sizes or _two_sizes(pipeline.generator.programs.config)
        report: dict[str, Any] = {
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "platform": jax.default_backend(),
            "cores": len(os.sched_getaffinity(0)),
            "model": _describe(pipeline.generator.programs.config, args),
            "images": [_measure_images(pipeline, sampler, side, batch, args.repeats)
                       for side in sides for batch in args.batches],
            "texts": [_measure_texts(pipeline, batch, args.tokens, args.repeats) for batch in args.batches],
            "checks": _checks(pipeline, sampler, sides[0]),
        }
        del pipeline  # drift makes weights of its own, one precision after the other
        if args.widths == "real":
            report["drift"] = _drift(args, sampler, sides[0])
        else:
            report["real_size"] = [_real_size(side) for side in (512, 1024)]
    return report, _as_text(report)


class _Compilation:
    """Seconds that JAX spent on tracing, lowering and compiling so far."""

    seconds = 0.0

    @classmethod
    def add(cls, event: str, seconds: float, **_) -> None:
        if event.endswith(_COMPILE_EVENTS):
            cls.seconds += seconds


class _Stopwatch:
    """Counts and times the calls of compiled programs, each waited for."""

    def __init__(self, programs: Programs):
        self.calls, self.seconds = dict.fromkeys(_COUNTED, 0), dict.fromkeys(_COUNTED, 0.0)
        self.last: dict[Program, tuple] = {}  # arguments
        self._programs = programs

    def __enter__(self) -> "_Stopwatch":
        call = self._programs.call

        def timed(program: Program, *arguments: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(call(program, *arguments))
            if program in _COUNTED:
                self.calls[program] += 1
                self.seconds[program] += time.perf_counter() - began
                self.last[program] = arguments
            return result

        self._programs.call = timed
        return self

    def __exit__(self, *_) -> None:
        del self._programs.call


def _measure_images(pipeline: Pipeline, sampler: FlowSampler, side: int, batch: int, repeats: int) -> dict[str, Any]:
    generator = pipeline.generator.with_sampler(sampler)
    requests = [ImageRequest(_PROMPT, seed, height=side, width=side) for seed in range(batch)]
    _, _, compiling, _ = _timed(lambda: generator.generate(requests))
    runs = []
    for _ in range(repeats):
        with _Stopwatch(pipeline.generator.programs) as watch:
            runs.append((*_timed(lambda: generator.generate(requests))[:2], watch.seconds))
    seconds, cpu, parts = min(runs, key=lambda run: run[0])
    programs = pipeline.generator.programs
    shape = Drawing(1, len(pipeline.generator.opened.tokenizer.encode(_PROMPT)), side, side, sampler=sampler)
    costs, peak = generation_costs(programs.config, shape), peak_flops(list(programs.mesh.devices.flat))
    flops = batch * sum(costs[name].flops for name in ("prefill", "denoise", "pixels"))
    return {
        "pixels": side, "batch": batch, "images/s": batch / seconds, "images/CPU s": batch / cpu, "run s": seconds,
        **({} if peak is None else {"MFU": flops / seconds / peak}),
        "prefill s": parts[PREFILL_TEXT], "sampling s": parts[SAMPLE_LATENTS],
        "decoding s": parts[DECODE_IMAGES], "compile s": compiling,
    }


def _measure_texts(pipeline: Pipeline, batch: int, tokens: int, repeats: int) -> dict[str, Any]:
    questions = [Question(_PROMPT, seed=seed) for seed in range(batch)]
    sampler = TextSampler(tokens, temperature=1.0)  # random weights, if greedy, may end at once
    _, _, compiling, _ = _timed(lambda: pipeline.answer(questions, sampler=sampler))
    runs = [_timed(lambda: pipeline.answer(questions, sampler=sampler)) for _ in range(repeats)]
    seconds, cpu, _, answers = min(runs, key=lambda run: run[0])
    # The starting marker is fed like any other token.
    fed = sum(answer.num_tokens + 1 for answer in answers)
    return {"batch": batch, "tokens": fed, "tokens/s": fed / seconds, "tokens/CPU s": fed / cpu, "run s": seconds,
            "compile s": compiling}


def _timed(function: Callable) -> tuple[float, float, float, Any]:
    """Wall seconds, CPU seconds of this process, seconds of compilation among the former, and the result."""
    began, cpu, compiled = time.perf_counter(), time.process_time(), _Compilation.seconds
    result = function()
    return time.perf_counter() - began, time.process_time() - cpu, _Compilation.seconds - compiled, result


def _checks(pipeline: Pipeline, sampler: FlowSampler, side: int) -> dict[str, bool]:
    """What has to be so whatever the speed."""
    generator = pipeline.generator
    request = [ImageRequest(_PROMPT, 0, height=side, width=side)]
    calls = {}
    for steps in (2, sampler.num_timesteps):
        with _Stopwatch(pipeline.generator.programs) as watch:
            generator.with_sampler(dataclasses.replace(sampler, num_timesteps=steps)).generate(request)
        calls[steps] = watch.calls
    contexts, keys, layout, _ = watch.last[SAMPLE_LATENTS]
    programs = pipeline.generator.programs
    layout = jax.tree.map(programs.place, layout)
    arguments = contexts, programs.place(keys), layout
    compiled = programs.lower(SAMPLE_LATENTS, *arguments, sampler).compile()
    with jax.transfer_guard("disallow_explicit"):
        try:
            jax.block_until_ready(programs.run(compiled, *arguments))
            silent = True
        except jax.errors.JaxRuntimeError as error:
            print(f"A transfer during sampling: {error}", file=sys.stderr)
            silent = False
    return {
        "one prefill and one sampling program per batch, for 1 step as for all":
            calls[2] == calls[sampler.num_timesteps]
            and calls[2][PREFILL_TEXT] == calls[2][SAMPLE_LATENTS] == 1,
        "sampling runs under a transfer guard that allows no transfer": silent,
        "the sampling program calls no host": not hlo_program.host_calls(hlo_program.Program(compiled.as_text())),
    }


def _drift(args: argparse.Namespace, sampler: FlowSampler, side: int) -> dict[str, float]:
    """Relative L2 of bfloat16 against float32, with the same weights (those that bfloat16 holds) and noise."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        other = _random_programs(args, dtype)
        conversation = Conversation(other, other.rows_multiple, 16, image_guidance=False)
        conversation.add_text([list(range(1, 9))] * other.rows_multiple)
        ids = np.tile(latent_position_ids(side, side, other.config), (other.rows_multiple, 1))
        layout = LatentLayout(jnp.asarray(ids), jnp.full(len(ids), ids.shape[1], jnp.int32))
        keys = other.place(jax.random.split(jax.random.key(0), len(ids)))
        layout = jax.tree.map(other.place, layout)

        def sample(model, compute, contexts: list[Context], keys, layout, sampler=sampler):
            noise = initial_noise(keys, layout.position_ids.shape[1], model.config)
            return sample_latents(model, contexts, noise, layout, sampler, compute, trace=True)

        latent, traces = other.call(Program(sample), conversation.branches(sampler.guidance.branches), keys, layout)
        grid = side // other.config.latent_stride
        decode = Program(lambda model, _, x, grid=grid: decode_latents(model.vae, x, grid, grid, model.config))
        found[dtype] = {
            "conditional velocity, first step": traces[0]["v_cond"][0],
            "guided velocity, first step": traces[0]["v"][0],
            "final latents": latent,
            "decoded pixels": jnp.clip(other.call(decode, latent), -1, 1),
        }
        found[dtype] = {name: np.asarray(value, np.float64) for name, value in found[dtype].items()}
        del other, conversation
    return {
        name: float(np.linalg.norm(found["bfloat16"][name] - value) / np.linalg.norm(value))
        for name, value in found["float32"].items()
    }


def _real_size(side: int) -> dict[str, float]:
    """FLOPs and bytes of one image of the released model, by formula."""
    costs = generation_costs(RELEASED, Drawing(rows=1, height=side, width=side, max_tokens=_REAL_TEXT.max_tokens))
    image = costs["prefill"] + costs["denoise"] + costs["pixels"]
    text_bytes, tokens = costs["decode"].weight_bytes + costs["decode"].activation_bytes, _REAL_TEXT.max_tokens
    return {
        "pixels": side,
        "TFLOP/image": image.flops / 1e12,
        "of it denoising": costs["denoise"].flops / image.flops,
        "GB/image alone": (image.activation_bytes + image.weight_bytes) / 1e9,
        "GB/image of 16": (image.activation_bytes + image.weight_bytes / 16) / 1e9,
        "GFLOP/token of text": costs["decode"].flops / tokens / 1e9,
        "GB/token of text alone": text_bytes / tokens / 1e9,
    }


def _pipeline(args: argparse.Namespace, directory: epath.Path) -> Pipeline:
    if args.widths == "real":
        programs = _random_programs(args, args.dtype)
        opened = Opened(programs.config, _WordsAsNumbers(), Templates.read(), programs=programs)
        return Pipeline(BagelGenerator(opened, FlowSampler()), BagelAnswerer(opened))
    checkpoint = args.checkpoint or write_base(directory / "base")
    return load(checkpoint, dtype=args.dtype, attention=args.attention)


def _random_programs(args: argparse.Namespace, dtype: str) -> Programs:
    """Random weights of the released widths, exact in bfloat16; the vocabulary, on which no image depends, is small."""
    llm = dataclasses.replace(RELEASED.llm, num_layers=args.layers, vocab_size=1024)
    config = dataclasses.replace(RELEASED, llm=llm, vit=None, special_tokens=SpecialTokens(1020, 1021, 1022, 1023))
    graphdef, abstract = abstract_model(Bagel, config)
    mesh = build_mesh(MeshConfig(data=1, fsdp=-1), jax.local_devices())
    shardings = dict(nnx.to_flat_state(named_shardings(abstract, mesh, RULES)))
    draws = np.random.default_rng(0)

    def draw(path: tuple, shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] == "scale":
            return np.ones(shape, np.float32)
        if path[-1] == "bias":
            return 0.02 * draws.standard_normal(shape, np.float32)
        fan_in = np.prod(shape[:-1]) if path[0] == "vae" else shape[-2] if len(shape) > 1 else 1
        return draws.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)

    filled = []
    for path, variable in nnx.to_flat_state(abstract):
        values = draw(path, variable.get_value().shape).astype(jnp.bfloat16)
        values = values.astype(jnp.float32 if path[0] == "vae" else dtype)
        filled.append((path, variable.replace(
            jax.device_put(values, shardings[path].get_value(), may_alias=False))))
    attention = attention_route(args.attention, mesh.devices.flat[0], dtype, setting="--attention").name
    return Programs(graphdef, nnx.from_flat_state(filled), mesh,
                    ComputeConfig(dtype=dtype, attention=attention, remat="none"))


class _WordsAsNumbers:
    """A tokenizer for weights that have none."""

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        return [sum(word.encode()) % 1000 for word in text.split()]

    def decode(self, token_ids: list[int]) -> str:
        return " ".join(map(str, token_ids))


def _two_sizes(config: BagelConfig) -> list[int]:
    side = config.max_latent_size * config.latent_stride
    return [side // 2, side]


def _describe(config: BagelConfig, args: argparse.Namespace) -> str:
    llm = config.llm
    kind = "random weights" if args.widths == "real" else str(args.checkpoint or "tiny random start")
    return f"{kind}, width {llm.hidden_size}, {llm.num_layers} layers, {args.dtype}, {args.num_timesteps - 1} steps"


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['model']}; {report['device']}, {report['cores']} CPU cores"]
    for name in ("images", "texts"):
        rows = report[name]
        lines += ["", "| " + " | ".join(rows[0]) + " | against batch 1 |", "|---" * (len(rows[0]) + 1) + "|"]
        # On a CPU that others use too, the work done per second of it is what can be compared.
        rate = name.replace("texts", "tokens") + ("/CPU s" if report["platform"] == "cpu" else "/s")
        for row in rows:
            alone = next((other[rate] for other in rows
                          if other["batch"] == 1 and other.get("pixels") == row.get("pixels")), None)
            ratio = "-" if alone is None else f"{row[rate] / alone:.2f} x"
            lines.append("| " + " | ".join(f"{value:.4g}" for value in row.values()) + f" | {ratio} |")
    lines += ["", *(f"- {'yes' if holds else 'NO'}: {name}" for name, holds in report["checks"].items())]
    if "drift" in report:
        lines += ["", "| bfloat16 against float32 | relative L2 |", "|---|---|"]
        lines += [f"| {name} | {value:.2e} |" for name, value in report["drift"].items()]
    rows = report.get("real_size", [])
    if not rows:
        return "\n".join(lines)
    lines += ["", "The released model, by formula:", "", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(f"{value:,.4g}" for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)
