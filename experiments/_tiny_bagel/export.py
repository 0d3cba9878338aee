"""Writes the trained parts as a BAGEL checkpoint in the published layout."""

from typing import Any

from etils import epath
from flax import nnx

from experiments._tiny_bagel.base_files import trained_base_config, trained_base_files
from experiments._tiny_bases.export import as_text, write_base
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.worlds.shapes.tokenizer import tokenizer_files


def write_trained_base(
    directory: epath.PathLike, state: nnx.State, scale: float, shift: float, recipe: dict[str, Any]
) -> epath.Path:
    """Writes a checkpoint; see `write_base`.

    Args:
      directory: a local path that does not exist yet.
      state: all variables of the model, autoencoder included.
      scale, shift: of the latents.
      recipe: how it was made.
    """
    files = {name: as_text(values) for name, values in trained_base_files(scale, shift).items()}
    return write_base(directory, BAGEL, trained_base_config(), state, small_files=files | tokenizer_files(),
                      float32="vae", recipe=recipe)
