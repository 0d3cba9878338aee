"""Speed of one training step: at a fixed small shape on the CPU, or at the real widths of BAGEL-7B on a GPU.

  python -m benchmarks.train_step
  python -m benchmarks.train_step --threads 1 --steps 10 --json step.json
  python -m benchmarks.train_step --device gpu --layers 4 --profile trace --json gpu.json

--device cpu prints CPU seconds, wall seconds and tokens per second. The shape: a decoder of width 512 with 8 layers and
two experts (52.9 million trained values), one row of one sample with 70 words and a 32 x 32 grid of latents (1,098
tokens), latents, noise and reward map given. A step is forward, reward-weighted loss (lambda 0.5), backward, clipping
and AdamW, in float32, without rematerialisation. Compilation is not counted. CPU seconds carry over between machines
better than wall seconds, which depend on their load.

--device gpu runs the step of the `bagel_cot` recipe itself, autoencoder included, in bfloat16 on float32 masters, with
few of the 28 layers: tokens and images per second, model FLOP/s, their share of the published peak (MFU), and peak
memory. Four layers have 3.0 billion trained values, whose masters, moments and gradients take 44 GiB. Embedding and
output head weigh more among four layers than among 28: speed and MFU of the whole model cannot be read off one run, but
the difference between two numbers of layers is the time of a layer.

exit codes: 0 done, 2 the arguments cannot be used, or there is no GPU
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from srum_jax.command_line import user_path


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    parser.add_argument("--threads", default="1,2", help="with --device cpu: processors to use, one run each "
                        "(default: 1,2)")
    parser.add_argument("--steps", type=int, default=5, help="steps that are measured (default: 5)")
    parser.add_argument("--json", type=user_path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # one run in this process, on so many processors
    _add_gpu_options(parser)
    args = parser.parse_args(argv)
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args.steps)))
        return 0
    for name in ("steps", "layers", "rows", "attention_block", "width_divisor"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected a positive number, found {getattr(args, name)}.")
    rows = _on_gpu(args) if args.device == "gpu" else _on_cpu(args, parser)
    if rows is None:
        return 2
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0


def _add_gpu_options(parser: argparse.ArgumentParser) -> None:
    """The options of this mode."""
    group = parser.add_argument_group("with --device gpu")
    group.add_argument("--layers", type=int, default=4, help="of the decoder, which has 28 (default: 4)")
    group.add_argument("--rows", type=int, default=1, help="of two images each (default: 1)")
    group.add_argument("--attention", choices=("auto", "cudnn", "chunked", "dense"), default="auto",
                       help="auto: cudnn where it runs, else chunked (default: auto)")
    group.add_argument("--attention-block", type=int, default=512, metavar="TOKENS",
                       help="of the chunked route (default: 512)")
    group.add_argument("--remat", choices=("none", "full", "dots", "attention"), default="full", help="default: full")
    group.add_argument("--without-autoencoder", action="store_true",
                       help="encode an image of 16 pixels instead, which takes next to no time")
    group.add_argument("--peak", type=float, metavar="TFLOPS",
                       help="dense bfloat16 peak of the device, where srum_jax/observability/peak_flops.py does not "
                            "know it")
    group.add_argument("--profile", type=user_path, metavar="DIR", help="also trace three steps into this directory")
    # Widths and image sides divided by so much, on whatever device there is: the same code where there is no GPU.
    group.add_argument("--width-divisor", type=int, default=1, help=argparse.SUPPRESS)


def _on_gpu(args: argparse.Namespace) -> list[dict[str, Any]] | None:
    """One row, or None where the GPU is missing or lacks what is asked for."""
    from benchmarks.real_step import measure_real  # JAX: on the CPU it starts in processes of their own
    from srum_jax.errors import BadInput

    try:
        row = measure_real(args)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return None
    for name, value in row.items():
        known = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else value
        print(f"{name:16}{'not known; see --peak' if value is None else known}")
    return [row]


def _on_cpu(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[dict[str, float]]:
    rows = []
    for threads in map(int, args.threads.split(",")):
        if threads > len(os.sched_getaffinity(0)):
            parser.error(f"--threads {threads}: this process may use {len(os.sched_getaffinity(0))} processors.")
        # A process of its own: the number of threads is fixed when JAX starts.
        command = [sys.executable, "-m", "benchmarks.train_step", "--measure", str(threads), "--steps", str(args.steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {value:,.4g}" for name, value in rows[-1].items()))
    return rows


def measure(threads: int, steps: int) -> dict[str, float]:
    """Figures of one run on the first `threads` processors."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    import optax
    from flax import nnx

    from srum_jax.families.bagel.forward import BagelForward
    from srum_jax.families.bagel.step_flops import count_pack, step_flops
    from srum_jax.models.bagel.model import Bagel
    from srum_jax.models.compute import ComputeConfig
    from srum_jax.objectives.config import RewardWeighted
    from srum_jax.objectives.loss import objective_loss, objective_totals
    from srum_jax.training.config import OptimizerConfig
    from srum_jax.training.optimizer import make_optimizer
    from srum_jax.training.step import columns_of

    config, batch, noise, latent, reference = _inputs()
    model = Bagel(config, rngs=nnx.Rngs(0), parts=("vit",))
    graphdef, trained, frozen = nnx.split(model, nnx.Param, ...)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=2.5e-5, warmup_steps=0))
    objective = RewardWeighted(reference_coefficient=0.5)
    forward = BagelForward(config, ComputeConfig(dtype="float32", attention="dense", remat="none"))

    def step(trained, moments, batch, noise, latent, reference):
        def loss(trained):
            model, masks, columns = nnx.merge(graphdef, trained, frozen), forward.masks(batch), columns_of(batch)
            scores = forward.scores_of_latents(model, batch, noise, latent, reference)
            return objective_loss(objective, scores, masks, columns, objective_totals(objective, masks, columns))[0]

        value, gradient = jax.value_and_grad(loss)(trained)
        updates, moments = optimizer.update(gradient, moments, trained)
        return optax.apply_updates(trained, updates), moments, value

    moments = optimizer.init(trained)
    num_trained = sum(leaf.size for leaf in jax.tree.leaves(trained))
    arguments = (batch, noise, latent, reference)
    began = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(trained, moments, *arguments).compile()
    compile_seconds = time.perf_counter() - began
    trained, moments, _ = jax.block_until_ready(compiled(trained, moments, *arguments))
    wall, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(steps):
        trained, moments, value = compiled(trained, moments, *arguments)
    jax.block_until_ready(value)
    wall, cpu = (time.perf_counter() - wall) / steps, (_cpu_seconds() - cpu) / steps
    counts = count_pack(batch)
    return {
        "threads": threads,
        "trained values": num_trained,
        "cpu s/step": cpu,
        "wall s/step": wall,
        "tokens/s": (counts.und_tokens + counts.gen_tokens) / wall,
        "model GFLOP/s": step_flops(config, counts) / wall / 1e9,
        "compile s": compile_seconds,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _inputs():
    """The configuration, and one row made by the pipeline's own packing."""
    import jax
    import numpy as np

    from srum_jax.data.example import stack_rows
    from srum_jax.families.bagel.packing import RowCapacity, pack_row
    from srum_jax.families.bagel.position_ids import position_ids
    from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, pack_sample
    from srum_jax.models.bagel.batch import StepNoise
    from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig, SpecialTokens
    from srum_jax.objectives.config import RewardWeighted

    words, side = 70, 32
    latents = side * side
    config = BagelConfig(
        llm=LanguageConfig(4096, 512, 1536, 8, 8, 2, 1e-6, 1e6, 32768), vit=None, vae=AutoencoderConfig(),
        special_tokens=SpecialTokens(4092, 4093, 4094, 4095),
    )
    draws, grid, pixels = np.random.default_rng(0), (side, side), side * config.latent_stride
    capacity = RowCapacity(text=words + 4, vit=0, latent=latents, ce=0, images=1, image_height=pixels,
                           image_width=pixels, latent_stride=config.latent_stride, columns=RewardWeighted.columns)
    plan = (
        TextItem(draws.integers(0, 4092, words)),
        LatentItem(np.zeros((pixels, pixels, 3), np.uint8), grid, position_ids(*grid, config.max_latent_size),
                   loss=True, columns={"alpha": np.ones(grid), "reward_map": draws.uniform(0, 1, grid)}),
    )
    batch = stack_rows([pack_row([pack_sample(plan, config.special_tokens, Dropout(), draws)], capacity)])
    normal = jax.random.normal(jax.random.key(0), (3, 1, latents, config.latent_values))
    noise = StepNoise(normal[0], normal[0, :, :1], normal[0, :, :1])
    return config, batch, noise, normal[1], normal[2]


if __name__ == "__main__":
    sys.exit(main())
