"""Loading the models of a page, and compiling what its first visitor will ask for."""

import argparse
from collections.abc import Sequence

from etils import epath

from srum_jax.demo.engine import Engine, Tell
from srum_jax.demo.settings import DemoSettings
from srum_jax.demo.watched import watched
from srum_jax.errors import ANTICIPATED, tell
from srum_jax.families.registry import family_of
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import device_failures, load_pipeline
from srum_jax.pipeline import small_files

_TRIED = "a"  # a prompt that every tokenizer can read
_LEAST_TEXT = 62  # tokens; with two markers 64: prompts and questions of everyday length share their programs


def open_engine(checkpoint: str, arguments: argparse.Namespace, settings: DemoSettings) -> Engine:
    """Loads a checkpoint.

    Args:
      checkpoint: its path.
      arguments: of `add_model_arguments`.
      settings: of the page.

    Raises:
      BadInput: it cannot be used.
    """
    print(f"loading {checkpoint}", flush=True)
    templates = Templates.read(arguments.templates)
    family = family_of(checkpoint)
    named = argparse.Namespace(**{**vars(arguments), "checkpoint": checkpoint})
    pipeline = load_pipeline(named, templates, understanding=True, sampler=settings.sampler,
                             least_text=_LEAST_TEXT)
    files = small_files(family, checkpoint, templates=templates, control_tokens=arguments.control_tokens)
    return Engine(epath.Path(checkpoint).name, family, files, pipeline, settings)


def warm_up(engines: Sequence[Engine], count: int) -> None:
    """Compiles what the first visitor will ask for; visitors who come meanwhile wait for it. Tells how far it is."""
    for engine in engines:

        def work(tell: Tell, engine: Engine = engine) -> None:
            if engine.abilities.draw is None:
                steps = engine.abilities.steps is None
                drawn = engine.draw(_TRIED, 0, count, plan=False, steps=steps, tell=tell)
                if engine.abilities.judge is None:
                    engine.judge([drawn[0].made.pixels], _TRIED, engine.proposing.names[0], tell)

        try:
            with device_failures():
                for update in watched(work):
                    seconds = update.seconds
        except ANTICIPATED as error:
            tell(f"{engine.name} could not be tried: {error}", 1)
        else:
            print(f"{engine.name}: programs compiled in {seconds:.0f} s", flush=True)
