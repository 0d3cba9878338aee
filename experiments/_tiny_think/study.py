"""Trains a model that plans and its control, examines both, and keeps everything; see `experiments.tiny_think`."""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping

import jax
from etils import epath
from flax import nnx

from experiments._tiny_bagel import autoencoder as ae
from experiments._tiny_bagel.export import write_trained_base
from experiments._tiny_bagel.settings import SampleSettings, ThinkSettings
from experiments._tiny_bagel.thinking import make_think_step, three_batches
from experiments._tiny_bases.stage_loop import PROGRESS, run_stage
from experiments._tiny_study.table import write_tables
from experiments._tiny_study.understanding import understanding, understanding_table
from experiments._tiny_think.exam import (
    BASE,
    CONTROL,
    OWN_PLAN,
    THINKER,
    WAYS,
    Exam,
    LazyPipeline,
    category_table,
    lazy_pipeline,
    picture_given_plan,
    pictures_table,
    plans_table,
)
from srum_jax.devices import start_devices
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.stages import noted
from srum_jax.storage.atomic_file import write_json
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.fingerprint import directory_fingerprint
from srum_jax.weights.load import load
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.prompt_set import balanced_prompts

_HELD_OUT_SEED = 1001  # the sentences of the tiny study, or the first of them


def run_study(args: argparse.Namespace) -> None:
    """All of it."""
    start_devices()
    run = Run(args)
    run.remember()
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(run.out / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    run.study()


class Run:
    """The models and tables of one folder."""

    def __init__(self, args: argparse.Namespace):
        self.out = args.out
        self.base = trained_base() if args.base is None else args.base
        self.seed, self.guidance, self.save_seconds = args.seed, args.guidance, args.save_seconds
        self.prompts_per_category = args.prompts_per_category
        self.understanding_pictures = args.understanding_pictures
        self.settings = ThinkSettings(steps=args.steps, planned=args.planned, pictures=args.pictures,
                                      questions=args.questions, learning_rate=args.learning_rate)
        self.samples = SampleSettings(wrong_captions=args.wrong_captions)

    def remember(self) -> None:
        """A folder holds one study: other settings need another one.

        Raises:
          BadInput: naming what is different.
        """
        settings = {"base_sha256": directory_fingerprint(self.base), "seed": self.seed,
                    "prompts_per_category": self.prompts_per_category,
                    "understanding_pictures": self.understanding_pictures,
                    **dataclasses.asdict(self.settings), **dataclasses.asdict(self.samples)}
        noted.note(self.out / "study.json", settings)

    def study(self) -> None:
        """All steps; prints the tables and writes them to `OUT/table.md`."""
        started = time.monotonic()
        thinker = self.model(THINKER, plans=True)
        models = {BASE: self.base, CONTROL: self.model(CONTROL, plans=False), THINKER: thinker}
        pipelines = {name: lazy_pipeline(checkpoint) for name, checkpoint in models.items()}
        prompts = balanced_prompts(self.prompts_per_category, _HELD_OUT_SEED, held_out=True)
        exam = Exam(self.out / "marks", prompts, self.seed)
        plans = exam.plans(pipelines[THINKER])
        found = {(name, plan): {scale: exam.marks(name, plan, scale, pipelines[name]) for scale in self.guidance}
                 for name, plan in WAYS}
        greedy = next(iter(plans.values()))
        tables = {"Plans for held-out prompts": plans_table(plans, prompts),
                  "Pictures for held-out prompts": pictures_table(found)}
        for scale in self.guidance:
            tables[f"Share that fits by category, %, guidance {scale:g}"] = "\n\n".join(
                [category_table(found, prompts, scale),
                 picture_given_plan(greedy, prompts, found[THINKER, OWN_PLAN][scale])])
        tables["Understanding, on drawn pictures"] = understanding_table(self._understanding(pipelines))
        write_tables(self.out, tables, "prompts; differences are paired")
        minutes = {name: json.loads((self.out / "training" / name / PROGRESS).read_text())["seconds"] / 60
                   for name in (CONTROL, THINKER)}
        print(f"training took {minutes[CONTROL]:.1f} (control) and {minutes[THINKER]:.1f} "
              f"minutes; {(time.monotonic() - started) / 60:.1f} minutes in all now")

    def _understanding(self, pipelines: Mapping[str, LazyPipeline]) -> dict[str, dict[str, float]]:
        path = self.out / "understanding.json"
        measured = json.loads(path.read_text()) if path.exists() else {}
        for name, pipeline in pipelines.items():
            if name not in measured:
                measured[name] = understanding(pipeline(), self.understanding_pictures)
                write_json(path, measured)
        return measured

    def model(self, name: str, *, plans: bool) -> epath.Path:
        """Trains a model from the base, or finds it; a checkpoint in the layout of the base."""
        directory = self.out / name
        if directory.exists():
            return directory
        settings = dataclasses.replace(self.settings, plans=plans)
        base = open_checkpoint(self.base, BAGEL)
        config, (graphdef, loaded) = base.config, load(base)
        encoder = ae.EncoderStage(rngs=nnx.Rngs(self.seed))
        nnx.update(encoder.encoder, nnx.state(nnx.merge(graphdef, loaded).vae.encoder))
        scale, shift = config.vae.scale_factor, config.vae.shift_factor
        latents_of = ae.make_latents_of(encoder, scale, shift, config.latent_patch_size)
        vae, rest = nnx.split_state(loaded, lambda path, _: path[0] == "vae", ...)
        start, untrained, step = make_think_step(config, settings, self.seed, rest)

        def inputs(number: int):
            batches = three_batches(self.seed, number, config, settings, self.samples)
            keys = jax.random.split(jax.random.fold_in(jax.random.key(self.seed + 1), number), 2)
            pictures = batches.planned.images[:, 0], batches.pictures.images[:, 0]
            return *(latents_of(p, key) for p, key in zip(pictures, keys, strict=True)), batches

        described = {"base_sha256": directory_fingerprint(self.base), "seed": self.seed, **dataclasses.asdict(settings),
                     **dataclasses.asdict(self.samples)}
        state = run_stage(self.out / "training" / name, start, inputs, step, steps=settings.steps, settings=described,
                          save_seconds=self.save_seconds)
        recipe = {"made_by": "python -m experiments.tiny_think", "settings": described}
        return write_trained_base(directory, nnx.merge_state(state.average, untrained, vae), scale, shift, recipe)
