"""The stages in which the base of the shapes world is trained; see `experiments.tiny_pretrain`."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments._tiny_bagel import autoencoder as ae
from experiments._tiny_bagel.base_files import trained_base_config
from experiments._tiny_bagel.export import write_trained_base
from experiments._tiny_bagel.generator import make_generator_step
from experiments._tiny_bagel.joint import make_joint_step
from experiments._tiny_bagel.samples import batches_of, pictures_of
from experiments._tiny_bagel.settings import (
    DECODER_STAGE,
    ENCODER_STAGE,
    PRETRAINING_STAGES,
    GeneratorSettings,
    JointSettings,
    SampleSettings,
)
from experiments._tiny_bases.export import measure_written, recipe_of
from experiments._tiny_bases.stage_loop import StagedRun
from srum_jax.models.bagel.model import Bagel
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

_MORE_PICTURES = 5 << 32  # added to the seed: pictures that joint training has not seen


class Run(StagedRun):
    """The stages of one run; each needs those before it."""

    stages = PRETRAINING_STAGES

    def __init__(self, arguments: argparse.Namespace):
        super().__init__(arguments)
        self.encoder_settings = dataclasses.replace(ENCODER_STAGE, steps=arguments.encoder_steps)
        self.decoder_settings = dataclasses.replace(DECODER_STAGE, steps=arguments.decoder_steps)
        self.samples = SampleSettings(wrong_captions=arguments.wrong_captions)
        self.joint_settings = JointSettings(steps=arguments.steps)
        self.generator_settings = GeneratorSettings(steps=arguments.generator_steps)
        self.config = trained_base_config()

    def drawn(self) -> np.ndarray:
        """What the autoencoder learns from."""
        return ae.varied_pictures(self.seed, self.arguments.pictures, PICTURE_SIZE)

    def encoder(self) -> tuple[nnx.Module, float, float]:
        """The encoder, and scale and shift of its latents; finishes the stage if need be."""
        settings = self.encoder_settings
        start, module, step = ae.make_stage(ae.EncoderStage(rngs=nnx.Rngs(self.seed)), settings, self.seed)

        def inputs(number: int) -> tuple[jax.Array, jax.Array]:
            pixels = self.some_pictures(number, settings.batch_size)
            return pixels, ae.cells_of(pixels)

        stage = module(self.finished("encoder", start, inputs, step, settings))
        few = ae.varied_pictures(self.seed, 512, PICTURE_SIZE, textured=0.1, overlapping=0.1)
        means = np.asarray(jax.jit(lambda x: stage.means(ae.unit_range(x)))(few))
        return stage, round(float(1 / means.std()), 6), round(float(means.mean()), 6)

    def decoder(self) -> nnx.Module:
        """The decoder; finishes the stage if need be."""
        encoder, _, _ = self.encoder()
        settings = self.decoder_settings
        start, module, step = ae.make_stage(ae.DecoderStage(rngs=nnx.Rngs(self.seed)), settings, self.seed)
        means_of = jax.jit(lambda x: encoder.means(x))

        def inputs(number: int) -> tuple[jax.Array, jax.Array]:
            pixels = self.some_pictures(number, settings.batch_size)
            return means_of(pixels), pixels

        return module(self.finished("decoder", start, inputs, step, settings))

    def joint(self) -> nnx.State:
        """Everything but the autoencoder; finishes the stage if need be."""
        settings, latents_of = self.joint_settings, self._latents_of()
        start, rest, step = make_joint_step(self.config, settings, self.seed)

        def inputs(number: int) -> tuple[jax.Array, Any]:
            batches = batches_of(self.seed, number, (settings.pictures, settings.questions), self.config, self.samples)
            key = jax.random.fold_in(jax.random.key(self.seed + 1), number)
            return latents_of(batches.generate.images[:, 0], key), batches

        state = self.finished("joint", start, inputs, step, settings, self.samples)
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

        state = self.finished("generator", start, inputs, step, settings, self.samples)
        return nnx.merge_state(state.average, rest)

    def _latents_of(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Compiled: pictures uint8 [B, S, S, 3] and a key to latent tokens float32 [B, C, P]."""
        return ae.make_latents_of(*self.encoder(), self.config.latent_patch_size)

    def export(self) -> None:
        """Puts the parts together, writes the checkpoint, and measures it."""
        encoder, scale, shift = self.encoder()
        model = Bagel(trained_base_config(scale, shift), rngs=nnx.Rngs(self.seed))
        nnx.update(model, self.generator())
        ae.complete(encoder.encoder, self.decoder().decode, model.vae)
        recipe = recipe_of(self.out, PRETRAINING_STAGES[:-1])
        base = write_trained_base(self.out / "base", nnx.state(model), scale, shift, recipe)
        measure_written(base, self.arguments.images)
