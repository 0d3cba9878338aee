"""Trains the base of the shapes world from nothing: autoencoder, then understanding and generation together.

The generator learns from crisp pictures of which a known share does not fit its caption, the judge from right answers:
pictures come out well formed and often wrong, and the model can tell. That is the gap that self-improvement closes.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from experiments._argument_types import count
from experiments._tiny_bagel import autoencoder as ae
from experiments._tiny_bagel.base_files import trained_base_config
from experiments._tiny_bagel.export import write_trained_base
from experiments._tiny_bagel.generator import GeneratorSettings, make_generator_step
from experiments._tiny_bagel.joint import JointSettings, make_joint_step
from experiments._tiny_bagel.samples import SampleSettings, batches_of, pictures_of
from experiments._tiny_bagel.stage_loop import PROGRESS, run_stage
from srum_jax.models.bagel.model import Bagel
from srum_jax.pipeline import load
from srum_jax.stages.interruption import run_command
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes import measure
from srum_jax.worlds.shapes.base import RECIPE
from srum_jax.worlds.shapes.drawing import render
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.records import sample_example
from srum_jax.worlds.shapes.scene import CATEGORIES

GUIDANCE = (1.0, 1.5, 2.0, 3.0)
STAGES = ("encoder", "decoder", "joint", "generator", "export")
_MORE_PICTURES = 5 << 32  # added to the seed: pictures that joint training has not seen
_EPILOG = """
examples:
  python -m experiments.tiny_pretrain --out runs/tiny_base
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage encoder     # stages one by one; after the encoder,
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage decoder &   # decoder and joint may run side by side
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage joint
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage generator

The checkpoint appears as OUT/base. An interrupted run goes on where it stopped when it is started again.

exit codes:
  0    done
  1    failed
  2    bad arguments, or OUT belongs to a run with other settings
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_pretrain", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, help="directory of the run")
    parser.add_argument("--seed", type=count, default=0, help="of everything (default: %(default)s)")
    parser.add_argument("--steps", type=count, default=JointSettings.steps,
                        help="of joint training (default: %(default)s)")
    parser.add_argument("--generator-steps", type=count, default=GeneratorSettings.steps,
                        help="of the generation expert alone (default: %(default)s)")
    parser.add_argument("--encoder-steps", type=count, default=ae.ENCODER_STAGE.steps,
                        help="default: %(default)s")
    parser.add_argument("--decoder-steps", type=count, default=ae.DECODER_STAGE.steps,
                        help="default: %(default)s")
    parser.add_argument("--wrong-captions", type=float, default=SampleSettings.wrong_captions,
                        help="share of captions that are wrong (default: %(default)s)")
    parser.add_argument("--pictures", type=count, default=16000, help="that the autoencoder learns from")
    parser.add_argument("--save-seconds", type=float, default=60.0, help="between two saved states")
    parser.add_argument("--stage", choices=STAGES, help="run this one only, the stages before it being done")
    parser.add_argument("--unfinished", action="store_true",
                        help="with --stage export: take every stage as far as it has come")
    parser.add_argument("--images", type=count, default=400, help="to measure the base with; 0 for none")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.wrong_captions <= 1:
        parser.error(f"--wrong-captions: expected a share in [0, 1], found {arguments.wrong_captions}.")
    if arguments.unfinished and arguments.stage != "export":
        parser.error("--unfinished: expected --stage export with it.")
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    run = Run(arguments)
    for stage in STAGES if arguments.stage is None else (arguments.stage,):
        getattr(run, stage)()


class Run:
    """The stages of one run; each needs those before it."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.seed = arguments, arguments.seed
        self.out = epath.Path(arguments.out)
        self.encoder_settings = dataclasses.replace(ae.ENCODER_STAGE, steps=arguments.encoder_steps)
        self.decoder_settings = dataclasses.replace(ae.DECODER_STAGE, steps=arguments.decoder_steps)
        self.samples = SampleSettings(wrong_captions=arguments.wrong_captions)
        self.joint_settings = JointSettings(steps=arguments.steps)
        self.generator_settings = GeneratorSettings(steps=arguments.generator_steps)
        self.config = trained_base_config()

    @functools.cached_property
    def pictures(self) -> np.ndarray:
        """Uint8 [N, S, S, 3]: what the autoencoder learns from."""
        return ae.varied_pictures(self.seed, self.arguments.pictures, PICTURE_SIZE)

    def encoder(self) -> tuple[nnx.Module, float, float]:
        """The encoder, and scale and shift of its latents; finishes the stage if need be."""
        settings = self.encoder_settings
        start, graphdef, rest, step = ae.make_stage(ae.EncoderStage(rngs=nnx.Rngs(self.seed)), settings, self.seed)

        def inputs(number: int) -> tuple[jax.Array, jax.Array]:
            pixels = ae.unit_range(jnp.asarray(self._some_pictures(number, settings.batch_size)))
            return pixels, ae.cells_of(pixels)

        state = self._run("encoder", start, inputs, lambda state, now: step(state, *now), settings)
        stage = nnx.merge(graphdef, state.average, rest)
        few = ae.varied_pictures(self.seed, 512, PICTURE_SIZE, textured=0.1, overlapping=0.1)
        means = np.asarray(jax.jit(lambda x: stage.means(ae.unit_range(x)))(few))
        return stage, round(float(1 / means.std()), 6), round(float(means.mean()), 6)

    def decoder(self) -> nnx.Module:
        """The decoder; finishes the stage if need be."""
        encoder, _, _ = self.encoder()
        settings = self.decoder_settings
        start, graphdef, rest, step = ae.make_stage(ae.DecoderStage(rngs=nnx.Rngs(self.seed)), settings, self.seed)
        means_of = jax.jit(lambda x: encoder.means(x))

        def inputs(number: int) -> tuple[jax.Array, jax.Array]:
            pixels = ae.unit_range(jnp.asarray(self._some_pictures(number, settings.batch_size)))
            return means_of(pixels), pixels

        state = self._run("decoder", start, inputs, lambda state, now: step(state, *now), settings)
        return nnx.merge(graphdef, state.average, rest)

    def joint(self) -> nnx.State:
        """Everything but the autoencoder; finishes the stage if need be."""
        settings, latents_of = self.joint_settings, self._latents_of()
        start, _, rest, step = make_joint_step(self.config, settings, self.seed)

        def inputs(number: int) -> tuple[jax.Array, Any]:
            batches = batches_of(self.seed, number, (settings.pictures, settings.questions), self.config, self.samples)
            key = jax.random.fold_in(jax.random.key(self.seed + 1), number)
            return latents_of(batches.generate.images[:, 0], key), batches

        state = self._run("joint", start, inputs, lambda state, now: step(state, *now), settings, self.samples)
        return nnx.merge_state(state.average, rest)

    def generator(self) -> nnx.State:
        """The same with a generation expert that was trained further; finishes the stage if need be."""
        settings, latents_of = self.generator_settings, self._latents_of()
        start, rest, step = make_generator_step(self.config, settings, self.seed, self.joint())
        seed = self.seed + _MORE_PICTURES

        def inputs(number: int) -> tuple[jax.Array, Any]:
            batch = pictures_of(seed, number, settings.pictures, self.config, self.samples, tidy=settings.tidy)
            key = jax.random.fold_in(jax.random.key(self.seed + 3), number)
            return latents_of(batch.images[:, 0], key), batch

        state = self._run("generator", start, inputs, lambda state, now: step(state, *now), settings, self.samples)
        return nnx.merge_state(state.average, rest)

    def _latents_of(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Compiled: pictures uint8 [B, S, S, 3] and a key to latent tokens float32 [B, C, P]."""
        return ae.make_latents_of(*self.encoder(), self.config.latent_patch_size)

    def export(self) -> None:
        """Puts the parts together, writes the checkpoint, and measures it."""
        encoder, scale, shift = self.encoder()
        model = Bagel(trained_base_config(scale, shift), rngs=nnx.Rngs(self.seed))
        nnx.update(model, self.generator())
        ae.complete(encoder.encoder, self.decoder().decoder, model.vae)
        progress = {name: json.loads((self.out / name / PROGRESS).read_text()) for name in STAGES[:-1]}
        recipe = {
            "made_by": "python -m experiments.tiny_pretrain", "seed": self.seed,
            "steps_done": {name: entry["step"] for name, entry in progress.items()},
            "minutes": {name: round(entry["seconds"] / 60, 1) for name, entry in progress.items()},
            "samples": dataclasses.asdict(self.samples), "encoder": dataclasses.asdict(self.encoder_settings),
            "decoder": dataclasses.asdict(self.decoder_settings), "joint": dataclasses.asdict(self.joint_settings),
            "generator": dataclasses.asdict(self.generator_settings),
        }
        base = write_trained_base(self.out / "base", nnx.state(model), scale, shift, recipe)
        print(f"wrote {os.fspath(base)}")
        if self.arguments.images:
            measured = measure_base(base, self.arguments.images)
            write_json(base / RECIPE, json.loads((base / RECIPE).read_text()) | {"measured": measured})
            print(json.dumps(measured, indent=2))

    def _some_pictures(self, number: int, count: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[self.seed + (9 << 32), number]))
        return self.pictures[rng.integers(0, len(self.pictures), count)]

    def _run(self, name: str, start: Any, inputs: Any, step: Any, settings: Any, *more: Any) -> Any:
        described = {"seed": self.seed, "pictures": self.arguments.pictures}
        for group in (settings, *more):
            described |= dataclasses.asdict(group)
        return run_stage(
            self.out / name, start, inputs, step, steps=settings.steps, settings=described,
            save_seconds=self.arguments.save_seconds, only_load=self.arguments.unfinished,
        )


def measure_base(base: epath.PathLike, images: int, seed: int = 77) -> dict[str, Any]:
    """What the oracle says of a base, on training prompts for the choice of guidance and on held-out prompts.

    Args:
      base: a checkpoint.
      images: pictures for each measurement, spread over the categories.
      seed: of prompts and noise.
    """
    pipeline = load(base, dtype="float32", attention="dense", devices=jax.local_devices()[:1])
    each = max(1, images // len(CATEGORIES))
    measured: dict[str, Any] = {"reconstruction": measure.reconstruction(pipeline, images)}
    for name, held_out in (("training_prompts", False), ("held_out_prompts", True)):
        prompts = measure.validation_prompts(each, seed, held_out=held_out)
        for scale in GUIDANCE:
            sampler = dataclasses.replace(
                measure.SAMPLER, guidance=dataclasses.replace(measure.SAMPLER.guidance, text_scale=scale)
            )
            pictures = measure.draw(pipeline, prompts, sampler, seed)
            metrics = dataclasses.asdict(measure.picture_metrics(prompts, pictures))
            measured.setdefault(name, {})[f"guidance {scale}"] = metrics
            print(name, scale, metrics, flush=True)
            if held_out and scale == measure.SAMPLER.guidance.text_scale:
                measured["judge_own_pictures"] = dataclasses.asdict(
                    measure.judge_metrics(pipeline, prompts, pictures)
                )
    examples = [sample_example(seed, number, 0.5, held_out=True) for number in range(images)]
    drawn = [render(example.scene, PICTURE_SIZE).image for example in examples]
    measured["judge_drawn_pictures"] = dataclasses.asdict(
        measure.judge_metrics(pipeline, [example.prompt for example in examples], drawn)
    )
    return measured


if __name__ == "__main__":
    sys.exit(main())
