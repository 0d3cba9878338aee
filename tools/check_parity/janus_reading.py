"""Recomputes `golden_preprocess`, `golden_layout`, `golden_vision` and `golden_understanding`, and the templates."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from srum_jax.data.image_transform import to_unit_range
from srum_jax.inference.cached_decoder import read, text_continuation
from srum_jax.inference.context import empty_context
from srum_jax.models.janus_pro.pictures import view_to_read
from srum_jax.models.janus_pro.prompts import dialogue, expanded, left_padded
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.token_stream import TokenStream, causal_tokens
from tools.check_parity.janus_case import PIXELS, answer_logits, compared, log_probs
from tools.check_parity.model_case import COMPUTE, Case, greedy
from tools.check_parity.result import GroupResult, Unchecked, compare_floats, compare_values
from tools.check_parity.tensors import Tensors, channels_last

_MASKS = ("attention_mask", "images_emb_mask", "images_seq_mask", "input_ids")


def check_preprocess(case: Case) -> list[GroupResult | Unchecked]:
    """Pictures resized, padded and normalised."""
    tensors, found = case.tensors["preprocess"], {}
    for key in tensors:
        if key.startswith("raw_"):
            view = view_to_read(Image.fromarray(tensors[key]), case.config.vision.image_size)
            number = key.removeprefix("raw_")
            found |= {f"padded_{number}": view.transpose(2, 0, 1),
                      f"pixel_values_{number}": to_unit_range(view).transpose(2, 0, 1)}
    pixels = [key for key in sorted(tensors) if key.startswith("pixel_values_")]
    given = [key for key in tensors if key.startswith("raw_") or key.replace("padded", "raw") not in tensors]
    results = compared("preprocess", {key: tensors[key] for key in tensors if key not in pixels}, found, given)
    return results + [compare_floats(f"preprocess/{key}", [(key, tensors[key], found.get(key))], **PIXELS)
                      for key in pixels]


def check_layout(case: Case) -> list[GroupResult | Unchecked]:
    """Places of pictures in texts, and a batch padded on the left."""
    tensors, tokens = case.tensors["layout"], case.config.special_tokens
    raw = {key: value.tolist() for key, value in tensors.items() if key.startswith("raw_ids_")}
    size = case.config.vision.num_tokens
    texts = {key.replace("raw", "expanded"): expanded(ids, size, tokens) for key, ids in raw.items()}
    ids, real = left_padded([texts[key] for key in sorted(texts)], max(map(len, texts.values())), tokens.pad)
    counts = np.asarray([raw[key].count(tokens.image) for key in sorted(raw)])
    slots = tensors["batch.pixel_index"].shape[1]
    shown = np.arange(slots)[None, :, None] < counts[:, None, None]
    found = {
        **{key: np.asarray(value) for key, value in texts.items()},
        "batch.input_ids": ids, "batch.attention_mask": real.astype(int),
        "batch.images_seq_mask": (ids == tokens.image).astype(int),
        "batch.images_emb_mask": np.broadcast_to(shown, (len(counts), slots, size)).astype(int),
    }
    return compared("layout", tensors, found, {*raw, "batch.pixel_index"})


def check_vision(case: Case) -> list[GroupResult | Unchecked]:
    """The tower, layer by layer, and the maps behind it."""
    prepared = case.tensors["preprocess"]
    pixels = channels_last(to_unit_range(np.stack([prepared["padded_0"], prepared["padded_1"]])))
    found: dict[str, jax.Array] = {}
    layers = iter(range(case.config.vision.num_layers))

    def tap(name: str, value: jax.Array) -> None:
        found[f"block_{next(layers)}" if name == "block" else name] = value

    found["final"] = case.model.vision(pixels, COMPUTE, tap)
    found["aligner"] = case.model.aligner(found["final"])
    return compared("vision", case.tensors["vision"], found)


def check_understanding(case: Case) -> list[GroupResult | Unchecked]:
    """A batch with pictures: states, logits, text decoded with a cache, and likelihoods of answers."""
    expected, model = case.tensors["understanding"], case.model
    ids, mask = expected["input_ids"].astype(np.int32), expected["attention_mask"].astype(bool)
    pictures = pictures_of_rows(case)
    most = max(map(len, pictures))
    slots = jnp.stack([jnp.pad(own, ((0, most - len(own)), (0, 0), (0, 0), (0, 0))) for own in pictures])
    x = model.embed_conversation(jnp.asarray(ids), slots, COMPUTE)
    tokens = causal_tokens(jnp.asarray(mask))
    states: list[jax.Array] = []
    last = model.hidden(x, tokens, COMPUTE, lambda _, state: states.append(state))
    found = {
        "inputs_embeds": x, "final_norm": last, "logits": model.llm.logits(last),
        **{f"layer_{number}": state for number, state in enumerate(states)},
        "layer_0.attn": _first_attention(case, x, tokens),
        "position_ids": np.where(mask, np.asarray(tokens.position), 1),
        **_greedy(case, x, tokens, expected["greedy.tokens"].shape[1]),
    }
    for row, own in enumerate(pictures):
        if f"tf{row}.answer_ids" in expected:
            answer = expected[f"tf{row}.answer_ids"]
            logits = answer_logits(model, ids[row][mask[row]], own if len(own) else None, answer)
            found |= {f"tf{row}.{name}": value for name, value in log_probs(logits, answer).items()}
    padded = {key for key in found if np.shape(found[key])[:2] == mask.shape and key != "position_ids"}
    return compared(
        "understanding", {key: value[mask] if key in padded else value for key, value in expected.items()},
        {key: np.asarray(value)[mask] if key in padded else value for key, value in found.items()},
        {*_MASKS, *(key for key in expected if key.endswith("answer_ids"))})


def check_templates(case: Case, file: str) -> list[GroupResult | Unchecked]:
    """Conversations as one text; the file serves all cases and may lie beside them."""
    results = []
    for number, entry in enumerate(json.loads((case.directory / file).read_text())):
        turns = [(turn["role"], turn["content"]) for turn in entry["conversation"]]
        found, expected = dialogue(turns, entry["system_prompt"]), entry["text"]
        wrong = [f"expected {expected!r}, found {found!r}"] if found != expected else []
        results.append(compare_values(f"templates/{number}", 1, wrong))
    return results


def pictures_of_rows(case: Case) -> list[jax.Array]:
    """The pictures of each row of the batch, float32 [n, S, S, 3]."""
    prepared = case.tensors["preprocess"]
    size = case.config.vision.image_size
    return [
        channels_last(np.stack([to_unit_range(prepared[f"padded_{number}"]) for number in row if number >= 0]
                               or [np.zeros((3, size, size), np.float32)])[: int(np.sum(row >= 0))])
        for row in case.tensors["layout"]["batch.pixel_index"]
    ]


def _first_attention(case: Case, x: jax.Array, tokens: TokenStream) -> jax.Array:
    graphdef, stacked = nnx.split(case.model.llm.layers)
    layer = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[0], stacked))
    attention = make_attention(tokens, tokens, "dense", 1)
    return layer.attention_output(attention(*layer.attention_inputs(x, case.model.angles(tokens.position))))


def _greedy(case: Case, x: jax.Array, tokens: TokenStream, count: int) -> Tensors:
    """Text behind left-padded prompts, without a token that ends it."""
    model, (rows, width) = case.model, tokens.sample.shape
    context = empty_context(case.config.llm, rows, width + count, x.dtype)
    hidden, written = read(model.llm, x, tokens, model.angles(tokens.position), context, COMPUTE)
    context = context.append(written, tokens.real, jnp.sum(tokens.real, axis=1, dtype=jnp.int32))
    step = jax.jit(text_continuation(model.llm, model.angles, COMPUTE))
    chosen, logits = greedy(step, model.llm.logits(hidden[:, -1]), context, count)
    return {"greedy.tokens": chosen, "greedy.logits": logits}
