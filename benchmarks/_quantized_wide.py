"""What integer weights change in models of the released widths; see `benchmarks.quantized_drift`."""

import dataclasses
import gc
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks._predictions import compute_of, matrix_error, predictions_of, relative_error, same_code, variation
from benchmarks._quantized_tiny import PRECISIONS, full_rows
from benchmarks.real_step import random_weights
from srum_jax.data.example import Batch
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.registry import family
from srum_jax.models.bagel.config import RELEASED as BAGEL_SIZES
from srum_jax.models.bagel.config import SpecialTokens
from srum_jax.models.janus_pro.released import RELEASED as JANUS_SIZES
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.models.layers.quantized import cast_floats, quantizable, quantize

_VOCABULARY = 1024  # of texts: no prediction of a picture depends on it
_SIDE = 256  # pixels of the picture that BAGEL is shown
_SENTENCE = "a red circle left of a blue square"


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model of released widths, and what it is shown: a prompt, and random latents or codes."""

    name: str
    family: str
    config: Any
    batch: Batch
    scores: Callable[[Any], Callable]  # of a `Forward`: what `predictions_of` takes


def wide_drift(layers: int) -> list[dict[str, Any]]:
    """Figures of both models, an entry for each precision.

    Args:
      layers: that they have instead of 28 and 30.
    """
    return [entry for make in (_bagel, _janus) for entry in _drift(make(layers))]


def _drift(model: _Model) -> list[dict[str, Any]]:
    kind = family(model.family)
    graphdef, abstract = kind.architecture.abstract(model.config, frozenset())
    state = random_weights(abstract)

    def predict(dtype: str, integers: str | None) -> np.ndarray:
        forward = kind.forward(model.config, compute_of(dtype))
        draws = forward.draws(jax.random.key(0), model.batch)
        gc.collect()  # gigabytes of weights in the precision before
        return predictions_of(graphdef, model.scores(forward))(
            _in_precision(state, dtype, integers), model.batch, draws)

    floats, entries = predict("float32", None), []
    for dtype, integers in PRECISIONS:
        found, codes = predict(dtype, integers), model.family == "janus_pro"
        entries.append({
            "model": model.name, "activations": dtype, "matrices": integers or dtype,
            "matrix_error": matrix_error(state, integers) if integers else None,
            "prediction": relative_error(found, floats),
            "variation": variation(found, floats) if codes else None,
            "same_code": same_code(found, floats) if codes else None,
        })
        print(entries[-1], file=sys.stderr, flush=True)
    return entries


def _bagel(layers: int) -> _Model:
    config = dataclasses.replace(
        BAGEL_SIZES, vit=None,
        llm=dataclasses.replace(BAGEL_SIZES.llm, num_layers=layers, vocab_size=_VOCABULARY),
        special_tokens=SpecialTokens(*range(_VOCABULARY - 4, _VOCABULARY)))
    tokens = (_SIDE // config.latent_stride) ** 2
    rows = BagelRows(samples_per_row=1, text_capacity=64, latent_capacity=tokens, images_per_row=1, image_height=_SIDE,
                     image_width=_SIDE, max_size=_SIDE, min_size=_SIDE)
    latent = jax.random.normal(jax.random.key(1), (1, tokens, config.latent_values))
    return _Model("BAGEL-7B-MoT", "bagel", config, _shown("bagel", rows, config), lambda forward: (
        lambda model, batch, draws, tap: forward.scores_of_latents(model, batch, draws, latent, latent, tap=tap)))


def _janus(layers: int) -> _Model:
    config = JANUS_SIZES["7B"]
    config = dataclasses.replace(
        config, llm=dataclasses.replace(config.llm, num_layers=layers, vocab_size=_VOCABULARY),
        special_tokens=type(config.special_tokens)(*range(
            _VOCABULARY - len(dataclasses.fields(config.special_tokens)), _VOCABULARY)))
    codes = np.random.default_rng(1).integers(0, config.vq.codebook_size, (1, 1, config.vq.num_codes), np.int32)
    shown = _shown("janus_pro", JanusRows(samples_per_row=1, text_capacity=64), config)
    return _Model("Janus-Pro 7B", "janus_pro", config, dataclasses.replace(shown, codes=codes),
                  lambda forward: forward.scores)


def _shown(name: str, rows: Any, config: Any) -> Batch:
    return full_rows(name, rows, config, [_SENTENCE], [np.zeros((_SIDE, _SIDE, 3), np.uint8)])


def _in_precision(state: nnx.State, dtype: str, integers: str | None) -> nnx.State:
    names = quantizable(state) if integers else set()
    return nnx.from_flat_state([
        (path, variable.replace(quantize(variable.get_value(), integers) if dotted(path) in names
                                else cast_floats(variable.get_value(), dtype)))
        for path, variable in nnx.to_flat_state(state)])
