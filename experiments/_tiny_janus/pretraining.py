"""The stages in which the tiny Janus-Pro of the shapes world is trained; see `experiments.tiny_pretrain`."""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments._tiny_bagel import autoencoder as ae
from experiments._tiny_bases.export import as_text, measure_written, recipe_of, write_base
from experiments._tiny_bases.stage_loop import StagedRun
from experiments._tiny_janus import picture_tokenizer as pt
from experiments._tiny_janus.base_files import trained_janus_config, trained_janus_files
from experiments._tiny_janus.joint import make_joint_step
from experiments._tiny_janus.judge_lessons import judge_lessons
from experiments._tiny_janus.samples import Samples, Settings, all_samples, batch_of, joint_lessons
from experiments._tiny_janus.settings import (
    JANUS_STAGES,
    CodesSettings,
    JanusJointSettings,
    JanusJudgeSettings,
    PixelsSettings,
)
from srum_jax.families.janus_pro.batch import JanusBatch
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.models.janus_pro.model import JanusPro
from srum_jax.models.janus_pro.vq import VQ
from srum_jax.weights.tokenizer import Tokenizer
from srum_jax.worlds.shapes.bases.janus_pro import janus_tokenizer, janus_tokenizer_files


class Run(StagedRun):
    """The stages of one run; each needs those before it."""

    stages = JANUS_STAGES

    def __init__(self, arguments: argparse.Namespace):
        super().__init__(arguments)
        self.config = trained_janus_config()
        self.codes_settings = dataclasses.replace(CodesSettings(), steps=arguments.encoder_steps)
        self.pixels_settings = dataclasses.replace(PixelsSettings(), steps=arguments.decoder_steps)
        self.joint_settings = dataclasses.replace(JanusJointSettings(), steps=arguments.steps,
                                                  wrong_captions=arguments.wrong_captions)
        self.judge_settings = dataclasses.replace(JanusJudgeSettings(), steps=arguments.judge_steps,
                                                  wrong_captions=arguments.wrong_captions)

    def drawn(self) -> np.ndarray:
        """What the picture tokenizer learns from."""
        return pt.pictures_to_code(self.seed, self.arguments.pictures)

    def codes(self) -> pt.CodesStage:
        """Encoder and codebook; finishes the stage if need be."""
        settings = self.codes_settings
        start, module, step = pt.make_codes_stage(self.config.vq, settings, self.seed)

        def inputs(number: int) -> jax.Array:
            return ae.cells_of(self.some_pictures(number, settings.batch_size))

        return module(self.finished("codes", start, inputs, step, settings))

    def pixels(self) -> nnx.Module:
        """The decoder; finishes the stage if need be."""
        settings, vq = self.pixels_settings, self._encoding_vq()
        rows_of = jax.jit(lambda pictures: vq.rows(vq.encode(pictures)))
        start, module, step = pt.make_pixels_stage(self.config.vq, settings, self.seed)

        def inputs(number: int) -> tuple[jax.Array, jax.Array]:
            pictures = self.some_pictures(number, settings.batch_size)
            return rows_of(pictures), pictures

        return module(self.finished("pixels", start, inputs, step, settings))

    def joint(self) -> nnx.State:
        """Everything but the picture tokenizer; finishes the stage if need be."""
        settings = self.joint_settings
        start, step = make_joint_step(self.config, settings, self.seed)
        return self.finished("joint", start, self._batches(settings, joint_lessons), step, settings).average

    def judge(self) -> nnx.State:
        """The same after more questions; finishes the stage if need be."""
        settings = self.judge_settings
        start, step = make_joint_step(self.config, settings, self.seed, self.joint())
        batches = self._batches(settings, judge_lessons, first=self.joint_settings.drawings,
                                score_weight=settings.score_weight)
        return self.finished("judge", start, batches, step, settings).average

    def _batches(
        self, settings: Settings, lessons: Callable[[int, Any], list], **more: Any
    ) -> Callable[[int], JanusBatch]:
        stage = self.codes()
        codebook = stage.encoder.codebook.embedding[...]

        @jax.jit
        def codes_of(pictures: jax.Array) -> jax.Array:
            nearest = jnp.argmax(stage.directions(ae.cells_of(ae.unit_range(pictures))) @ codebook.T, axis=-1)
            return nearest.reshape(len(pictures), -1).astype(jnp.int32)

        @functools.cache  # a stage that is finished needs none
        def samples() -> Samples:
            return all_samples(self.seed, settings, lessons(self.seed, settings), self.config,
                               Tokenizer(janus_tokenizer()).encode, codes_of, **more)

        return lambda number: batch_of(self.seed, number, samples(), settings, self.config.special_tokens.pad)

    def export(self) -> None:
        """Puts the parts together, writes the checkpoint, and measures it."""
        model = JanusPro(self.config, rngs=nnx.Rngs(self.seed), parts=("vision", "vq"))
        nnx.update(model, self.judge())
        pt.complete(self.codes(), self.pixels(), model.vq)
        files = {name: as_text(values) for name, values in trained_janus_files().items()} | janus_tokenizer_files()
        recipe = recipe_of(self.out, JANUS_STAGES[:-1])
        base = write_base(self.out / "base", JANUS_PRO, self.config, nnx.state(model), small_files=files,
                          float32="vq", recipe=recipe)
        measure_written(base, self.arguments.images)

    def _encoding_vq(self) -> VQ:
        vq = VQ(self.config.vq, rngs=nnx.Rngs(self.seed))
        pt.complete(self.codes(), vq.decoder, vq)
        return vq
