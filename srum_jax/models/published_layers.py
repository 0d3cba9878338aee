"""Rules of the key table for layers as PyTorch names them.

Published linear weights are (out, in), ours (in, out); published convolutions are (out, in, height, width), ours
(height, width, in, out).
"""

from collections.abc import Iterator

from srum_jax.models.key_table import Rule

_LINEAR = (1, 0)
_CONV = (2, 3, 1, 0)
QKV = (("q", "query"), ("k", "key"), ("v", "value"))


def linear(source: str, target: str, bias: bool = True, share: tuple[int, int] = (0, 1)) -> Iterator[Rule]:
    """A matrix, and its bias; see `Rule.share`."""
    yield Rule(f"{source}.weight", f"{target}.kernel", _LINEAR, share=share)
    if bias:
        yield Rule(f"{source}.bias", f"{target}.bias", share=share)


def conv(source: str, target: str) -> Iterator[Rule]:
    """A two-dimensional convolution."""
    yield Rule(f"{source}.weight", f"{target}.kernel", _CONV)
    yield Rule(f"{source}.bias", f"{target}.bias")


def norm(source: str, target: str) -> Iterator[Rule]:
    """A normalisation with scale and bias."""
    yield from rms(source, target)
    yield Rule(f"{source}.bias", f"{target}.bias")


def rms(source: str, target: str) -> Iterator[Rule]:
    """A normalisation with a scale alone."""
    yield Rule(f"{source}.weight", f"{target}.scale")


def language_model(source: str, head: str, bias: bool) -> Iterator[Rule]:
    """A decoder of the kind of Llama; `bias` is that of queries, keys and values."""
    yield Rule(f"{source}.embed_tokens.weight", "llm.embed.embedding")
    yield from linear(head, "llm.lm_head", bias=False)
    yield from rms(f"{source}.norm", "llm.norm")
    yield from decoder_layer(f"{source}.layers.{{layer}}", "llm.layers", bias)


def decoder_layer(source: str, target: str, bias: bool, suffix: str = "") -> Iterator[Rule]:
    """One layer of that; `suffix` stands behind the names of its modules."""
    yield from rms(f"{source}.input_layernorm{suffix}", f"{target}.input_norm")
    yield from rms(f"{source}.post_attention_layernorm{suffix}", f"{target}.mlp_norm")
    for theirs, name in QKV:
        yield from linear(f"{source}.self_attn.{theirs}_proj{suffix}", f"{target}.{name}", bias)
    yield from linear(f"{source}.self_attn.o_proj{suffix}", f"{target}.out", bias=False)
    for name in ("gate", "up", "down"):
        yield from linear(f"{source}.mlp{suffix}.{name}_proj", f"{target}.{name}", bias=False)


def norms_and_mlp(source: str, target: str, norms: str = "norm") -> Iterator[Rule]:
    """Both normalisations and both maps of a layer of a vision tower."""
    for number in (1, 2):
        yield from norm(f"{source}.{norms}{number}", f"{target}.norm{number}")
        yield from linear(f"{source}.mlp.fc{number}", f"{target}.fc{number}")


def residual_block(source: str, target: str, shortcut: str = "nin_shortcut") -> Iterator[Rule]:
    """See `layers.autoencoder_blocks`."""
    for number in (1, 2):
        yield from norm(f"{source}.norm{number}", f"{target}.norm{number}")
        yield from conv(f"{source}.conv{number}", f"{target}.conv{number}")
    yield from conv(f"{source}.{shortcut}", f"{target}.nin_shortcut")


def pixel_attention(source: str, target: str) -> Iterator[Rule]:
    """See `layers.autoencoder_blocks`."""
    yield from norm(f"{source}.norm", f"{target}.norm")
    for name in ("q", "k", "v", "proj_out"):
        yield from conv(f"{source}.{name}", f"{target}.{name}")
