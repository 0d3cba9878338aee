"""Recomputes `golden_vq`, `golden_generation` and `golden_dual`: codes of pictures, pictures of codes, likelihoods."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from srum_jax.data.image_transform import to_unit_range
from srum_jax.families.janus_pro.code_sampling import Prompts, sample_codes
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.models.janus_pro.pictures import view_to_read
from srum_jax.models.janus_pro.prompts import without_text
from srum_jax.models.janus_pro.vq import to_bytes
from tools.check_parity.janus_case import BYTES, answer_logits, code_logits, compared, log_probs
from tools.check_parity.model_case import COMPUTE, Case
from tools.check_parity.result import GroupResult, Unchecked, compare_mostly
from tools.check_parity.tensors import Tensors, channels_first

# What the recorded names of intermediates are in ours.
_PARTS = {"mid_0": "mid_block_1", "mid_1": "mid_attn", "mid_2": "mid_block_2"}


def check_vq(case: Case) -> list[GroupResult | Unchecked]:
    """Pictures to codes and back, part by part."""
    expected, vq = case.tensors["vq"], case.model.vq
    inner: dict[str, jax.Array] = {}

    def tap(half: str):
        return lambda name, value: inner.update({f"{half}.{name}": value})

    z = vq.encoder(jnp.asarray(to_unit_range(expected["image_uint8"])), tap("encoder"))
    distances = vq.distances(z)
    codes = jnp.argmin(distances, axis=-1).reshape(len(z), -1).astype(jnp.int32)
    given = jnp.asarray(expected["given.indices"].astype(np.int32))
    decoded = vq.decode(given)
    found = {
        "z_pre_quant": channels_first(z),
        "codebook_normalised": vq.encoder.unit_codebook(),
        "distances": distances.reshape(-1, distances.shape[-1]),
        "indices": codes.reshape(-1),
        "quantised": channels_first(vq.rows(codes)),
        "reconstruction": channels_first(vq.decode(codes, tap("decoder"))),
        "given.codebook_entries": channels_first(vq.rows(given)),
        "given.decoded": channels_first(decoded),
        "given.image_uint8": to_bytes(decoded),
    }
    ours = {"quant_conv": z, "post_quant_conv": inner["decoder.post_quant_conv"]}
    for key in expected:
        if key.startswith("roundtrip."):
            half, _, part = (name := key.removeprefix("roundtrip.")).partition(".")
            value = ours.get(name, inner.get(f"{half}.{_PARTS.get(part, part)}"))
            found[key] = None if value is None else channels_first(value)
    return _with_bytes("vq", expected, found, {"image_uint8", "given.indices"})


def check_generation(case: Case) -> list[GroupResult | Unchecked]:
    """Guided codes of several settings, likelihoods of given codes, and the loss with dropped texts."""
    expected, model, tokens = case.tensors["generation"], case.model, case.config.special_tokens
    rows = model.gen_embed(jnp.asarray(expected["embed.tokens"]), jnp.float32)
    found: dict[str, Any] = {"embed.gen_embed": rows, "embed.gen_aligner": model.gen_aligner(rows)}
    given = {"prompt_ids", "embed.tokens"}
    for run, settings in case.meta.items():
        if f"{run}.tokens" in expected:
            found |= {f"{run}.{name}": value for name, value in _run(case, run, settings).items()}
            given.add(f"{run}.gumbel")
    for run in sorted({key.partition(".")[0] for key in expected if key.startswith("tf")}):
        prompt, codes = expected[f"{run}.prompt_ids"], expected[f"{run}.image_tokens"]
        scores = log_probs(code_logits(model, prompt[None], codes[None])[0], codes)
        found |= {f"{run}.{name}": value for name, value in scores.items()}
    dropped = np.stack([without_text(row, tokens) if drop else row
                        for row, drop in zip(expected["sft.prompt_ids"], expected["sft.drop"], strict=True)])
    logits = code_logits(model, dropped, expected["sft.image_tokens"])
    error = jnp.stack([-log_probs(row, codes)["logprobs"]
                       for row, codes in zip(logits, expected["sft.image_tokens"], strict=True)])
    found |= {"sft.input_ids": dropped, "sft.ce_per_token": error, "sft.ce": jnp.mean(error)}
    given |= {key for key in expected if key.endswith((".prompt_ids", ".image_tokens", ".drop"))}
    return _with_bytes("generation", expected, found, given)


def _run(case: Case, run: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One recorded run: pictures of one prompt, their noise as recorded."""
    expected, model = case.tensors["generation"], case.model
    ids = expected["prompt_ids"].astype(np.int32)
    noise = expected.get(f"{run}.gumbel")
    sampler = CodeSampler(settings["cfg_weight"], None if noise is None else settings["temperature"])
    count = len(expected[f"{run}.tokens"])
    prompts = Prompts(jnp.asarray(np.stack([ids] * count)), jnp.ones((count, len(ids)), bool))
    given = jnp.zeros((1,)) if noise is None else jnp.asarray(noise)
    drawn = jax.jit(lambda: sample_codes(
        model, prompts, lambda step: given[step], sampler, COMPUTE, with_scores=True))()
    decoded = model.vq.decode(drawn.codes)
    both = np.stack([ids, without_text(ids, case.config.special_tokens)] * count)
    return {"tokens": drawn.codes, "hidden": drawn.hidden, "logits": drawn.logits, "guided": drawn.guided,
            "cfg_input_ids": both, "decoded": channels_first(decoded), "image_uint8": to_bytes(decoded)}


def check_dual(case: Case) -> list[GroupResult | Unchecked]:
    """Both likelihoods of a picture that the model drew, from the stored pixels."""
    expected, model, vq = case.tensors["dual"], case.model, case.model.vq
    drawn = expected["image_uint8"]
    view = to_unit_range(view_to_read(Image.fromarray(drawn), case.config.vision.image_size))[None]
    codes = np.asarray(vq.encode(jnp.asarray(to_unit_range(drawn))[None]))
    answer = expected["und.answer_ids"]
    text = log_probs(answer_logits(model, expected["und.prompt_ids"], jnp.asarray(view), answer), answer)
    image = log_probs(code_logits(model, expected["gen.prompt_ids"][None], codes)[0], codes[0])
    found = {f"und.{name}": value for name, value in text.items()} | {
        f"gen.{name}": value for name, value in image.items()} | {
        "und.pixel_values": np.moveaxis(view, -1, 1), "gen.image_tokens": codes[0]}
    return compared("dual", expected, found, {"image_uint8", "und.answer_ids", "und.prompt_ids", "gen.prompt_ids"})


def _with_bytes(name: str, expected: Tensors, found: dict[str, Any], given: set[str]) -> list[GroupResult | Unchecked]:
    """As `compared`, decoded pictures by their own rule."""
    pictures = [key for key in expected if key.endswith("image_uint8") and key not in given]
    results = compared(name, {key: value for key, value in expected.items() if key not in pictures}, found, given)
    return results + [compare_mostly(f"{name}/{key}", [(key, expected[key], np.asarray(found[key]))], **BYTES)
                      for key in pictures]
