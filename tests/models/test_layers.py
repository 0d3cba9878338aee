"""Each shared part against the formula, written out in NumPy float64 or taken from PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from srum_jax.models.bagel.config import VisionConfig
from srum_jax.models.bagel.vision import VisionTower
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.decoder_config import DecoderConfig
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.autoencoder_blocks import Level, PixelAttention, ResidualBlock
from srum_jax.models.layers.decoder import Decoder, DecoderLayer
from srum_jax.models.layers.norm import GroupNorm, LayerNorm, RMSNorm
from srum_jax.models.layers.rope import RotaryAngles, rotary_angles, rotate
from tests.models.packs import CAUSAL, FULL, stream

QWEN = DecoderConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=2,
                     rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=64)
UNSCANNED = ComputeConfig(remat="none", scan_layers=False)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def filled(module, seed=1):
    """The module with every parameter drawn anew, so that no bias is 0 and no scale 1."""
    graph, state = nnx.split(module)
    rng = np.random.default_rng(seed)
    leaves, tree = jax.tree.flatten(state)
    return nnx.merge(graph, jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=x.shape) * 0.3, jnp.float32)
                                                      for x in leaves]))


def values(module):
    """Parameters as float64, by their path."""
    flat = nnx.to_flat_state(nnx.state(module))
    return {".".join(map(str, path)): np.asarray(variable.get_value(), np.float64) for path, variable in flat}


def close(found, expected, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def rms(x, scale, eps):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + eps) * scale


def layer_norm(x, scale, bias, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * scale + bias


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attend(q, k, v, mask):
    """Heads [S, N, H] and [S, K, H]; query head j reads key head j // (N / K)."""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qnh,knh->nqk", q, k) / np.sqrt(q.shape[-1])
    return np.einsum("nqk,knh->qnh", softmax(np.where(mask[None], scores, -np.inf)), v)


def turned(x, position, theta):
    """Each pair (x[j], x[j + H / 2]) as a complex number, times e^(i position theta^(-2 j / H))."""
    half = x.shape[-1] // 2
    angle = position[:, None, None] * theta ** (-2.0 * np.arange(half) / x.shape[-1])
    pairs = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([pairs.real, pairs.imag], -1)


def numpy_layer(p, x, position, mask, config):
    """One decoder layer on [S, D]; `p` maps names like "query.kernel" to values."""

    def heads(name, norm):
        y = rms(x, p["input_norm.scale"], config.rms_norm_eps) @ p[f"{name}.kernel"]
        y = (y + p[f"{name}.bias"] if config.qkv_bias else y).reshape(len(x), -1, config.head_dim)
        return rms(y, p[f"{norm}.scale"], config.rms_norm_eps) if config.qk_norm and norm else y

    q, k = (turned(heads(*names), position, config.rope_theta)
            for names in (("query", "query_norm"), ("key", "key_norm")))
    x = x + attend(q, k, heads("value", None), mask).reshape(len(x), -1) @ p["out.kernel"]
    y = rms(x, p["mlp_norm.scale"], config.rms_norm_eps)
    gate = y @ p["gate.kernel"]
    return x + (gate / (1 + np.exp(-gate)) * (y @ p["up.kernel"])) @ p["down.kernel"]


def causal(length, rows=1):
    zeros = np.zeros((rows, length), int)
    return stream(zeros, zeros, zeros + CAUSAL)


def test_rms_norm_divides_by_the_root_mean_square_and_does_not_centre():
    norm, x = filled(RMSNorm(8, 1e-3, rngs=nnx.Rngs(0))), draw(2, 3, 8) + 5
    close(norm(x), rms(x.astype(np.float64), values(norm)["scale"], 1e-3))


def test_rms_norm_of_bfloat16_takes_its_statistics_in_float32():
    norm = RMSNorm(512, 1e-6, rngs=nnx.Rngs(0))
    x = jnp.asarray(draw(1, 512) * 100, jnp.bfloat16)
    found = norm(x)
    assert found.dtype == jnp.bfloat16
    close(found.astype(np.float32), rms(np.asarray(x, np.float64), 1.0, 1e-6), 2**-8)


def test_layer_norm_equals_pytorchs():
    norm, x = filled(LayerNorm(8, 1e-3, rngs=nnx.Rngs(0))), draw(2, 3, 8) + 5
    p = {name: torch.tensor(value, dtype=torch.float32) for name, value in values(norm).items()}
    close(norm(x), torch.nn.functional.layer_norm(torch.tensor(x), (8,), p["scale"], p["bias"], 1e-3))


def test_group_norm_equals_pytorchs():
    norm, x = filled(GroupNorm(12, 1e-3, rngs=nnx.Rngs(0), num_groups=3)), draw(2, 4, 5, 12) + 5
    p = {name: torch.tensor(value, dtype=torch.float32) for name, value in values(norm).items()}
    expected = torch.nn.functional.group_norm(torch.tensor(x).permute(0, 3, 1, 2), 3, p["scale"], p["bias"], 1e-3)
    close(norm(x), expected.permute(0, 2, 3, 1))


def test_rotary_positions_turn_pairs_that_lie_half_a_head_apart():
    x, position = draw(1, 5, 2, 8), np.asarray([[0, 1, 2, 300, 7]])
    found = rotate(jnp.asarray(x), rotary_angles(jnp.asarray(position), 8, 1e4))
    close(found[0], turned(x[0].astype(np.float64), position[0], 1e4))
    np.testing.assert_array_equal(found[0, 0], x[0, 0], err_msg="position 0 turns nothing")


def test_scores_of_rotated_heads_depend_on_the_distance_alone():
    q, k = jnp.asarray(draw(1, 1, 1, 16)), jnp.asarray(draw(1, 1, 1, 16, seed=1))

    def score(at, other):
        turn = (rotary_angles(jnp.asarray([[place]]), 16, 1e4) for place in (at, other))
        return float(jnp.sum(rotate(q, next(turn)) * rotate(k, next(turn))))

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}, {"qk_norm": True}], ids=["qwen2", "llama", "qk_norm"])
def test_a_decoder_layer_equals_its_formula(changes):
    config = DecoderConfig(**(vars(QWEN) | changes))
    layer, x = filled(DecoderLayer(config, rngs=nnx.Rngs(0))), draw(1, 6, 32)
    position = np.asarray([[0, 1, 2, 2, 3, 9]])
    attention = make_attention(causal(6), causal(6), "dense", 1)
    found = layer(jnp.asarray(x), rotary_angles(jnp.asarray(position), 8, 1e4), attention)
    close(found[0], numpy_layer(values(layer), x[0].astype(np.float64), position[0], np.tri(6, dtype=bool), config))


def test_the_gated_mlp_is_silu_of_the_gate_times_the_other_map():
    layer, x = filled(DecoderLayer(QWEN, rngs=nnx.Rngs(0))), jnp.asarray(draw(1, 4, 32))
    p = values(layer)
    y = rms(np.asarray(x, np.float64), p["mlp_norm.scale"], 1e-5)
    gate = y @ p["gate.kernel"]
    close(layer.mlp(x), (gate / (1 + np.exp(-gate)) * (y @ p["up.kernel"])) @ p["down.kernel"])


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_is_its_layers_in_order_and_a_final_norm(tied, scan):
    model = filled(Decoder(QWEN, rngs=nnx.Rngs(0), tied=tied))
    ids, position = np.asarray([[3, 1, 39, 0, 7]]), np.arange(5)
    compute = ComputeConfig(scan_layers=True) if scan else UNSCANNED
    tokens = causal(5)
    hidden = model(model.embed(ids, jnp.float32), rotary_angles(jnp.asarray(position[None]), 8, 1e4),
                   make_attention(tokens, tokens, "dense", 1), compute)
    p = values(model)
    x = p["embed.embedding"][ids[0]]
    for i in range(2):
        layer = {name.removeprefix("layers."): value[i] for name, value in p.items() if name.startswith("layers.")}
        x = numpy_layer(layer, x, position, np.tri(5, dtype=bool), QWEN)
    x = rms(x, p["norm.scale"], 1e-5)
    close(hidden[0], x, 1e-4)
    assert ("lm_head.kernel" in p) is not tied
    close(model.logits(hidden)[0], x @ (p["embed.embedding"].T if tied else p["lm_head.kernel"]), 1e-4)


def test_a_decoder_takes_angles_that_no_single_position_gives():
    """M-RoPE turns parts of a head by different positions; the layer only sees cosines and sines."""
    layer, x, tokens = filled(DecoderLayer(QWEN, rngs=nnx.Rngs(0))), jnp.asarray(draw(1, 3, 32)), causal(3)
    attention = make_attention(tokens, tokens, "dense", 1)
    rows, columns = (rotary_angles(jnp.asarray([place]), 8, 1e4) for place in ([0, 1, 2], [5, 3, 8]))
    first = jnp.arange(4) < 2
    mixed = jax.tree.map(lambda a, b: jnp.where(first[None, None, None], a, b), rows, columns)
    assert isinstance(mixed, RotaryAngles)
    query = layer.attention_inputs(x, mixed)[0]
    for angles, part in ((rows, [0, 1, 4, 5]), (columns, [2, 3, 6, 7])):
        np.testing.assert_array_equal(query[..., part], layer.attention_inputs(x, angles)[0][..., part])
    assert np.all(np.isfinite(layer(x, mixed, attention)))


def torch_conv(x, p, name, **options):
    kernel = torch.tensor(p[f"{name}.kernel"], dtype=torch.float32).permute(3, 2, 0, 1)
    return torch.nn.functional.conv2d(x, kernel, torch.tensor(p[f"{name}.bias"], dtype=torch.float32), **options)


def torch_norm(x, p, name):
    scale, bias = (torch.tensor(p[f"{name}.{part}"], dtype=torch.float32) for part in ("scale", "bias"))
    return torch.nn.functional.group_norm(x, 32, scale, bias, 1e-6)


def channels_first(x):
    return torch.tensor(x).permute(0, 3, 1, 2)


@pytest.mark.parametrize("out", [32, 64])
def test_a_residual_block_of_the_autoencoder_equals_its_formula_in_pytorch(out):
    block, x = filled(ResidualBlock(32, out, rngs=nnx.Rngs(0))), draw(2, 6, 5, 32)
    p, silu, source = values(block), torch.nn.functional.silu, channels_first(x)
    y = torch_conv(silu(torch_norm(source, p, "norm1")), p, "conv1", padding=1)
    y = torch_conv(silu(torch_norm(y, p, "norm2")), p, "conv2", padding=1)
    skip = source if out == 32 else torch_conv(source, p, "nin_shortcut")
    close(block(jnp.asarray(x)), (skip + y).permute(0, 2, 3, 1), 1e-4)


def test_attention_of_the_autoencoder_is_one_head_over_all_pixels():
    block, x = filled(PixelAttention(32, rngs=nnx.Rngs(0))), draw(2, 3, 4, 32)
    p, source = values(block), channels_first(x)
    q, k, v = (torch_conv(torch_norm(source, p, "norm"), p, name).flatten(2).mT for name in "qkv")
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v).mT.reshape(2, 32, 3, 4)
    close(block(jnp.asarray(x)), (source + torch_conv(attended, p, "proj_out")).permute(0, 2, 3, 1), 1e-4)


def test_a_level_shrinks_with_padding_below_and_right_alone_and_grows_by_repetition():
    x = draw(1, 6, 4, 32)
    down = filled(Level([32], down=True, rngs=nnx.Rngs(0)))
    padded = torch.nn.functional.pad(channels_first(x), (0, 1, 0, 1))
    close(down(jnp.asarray(x)), torch_conv(padded, values(down), "downsample", stride=2).permute(0, 2, 3, 1), 1e-4)
    up = filled(Level([32], up=True, rngs=nnx.Rngs(0)))
    grown = torch.nn.functional.interpolate(channels_first(x), scale_factor=2, mode="nearest")
    close(up(jnp.asarray(x)), torch_conv(grown, values(up), "upsample", padding=1).permute(0, 2, 3, 1), 1e-4)


def test_the_vision_tower_equals_its_formula_and_keeps_images_apart():
    config = VisionConfig(hidden_size=16, intermediate_size=24, num_heads=2, num_layers=2, image_size=28, patch_size=14,
                          num_channels=1, layer_norm_eps=1e-5)
    tower = filled(VisionTower(config, rngs=nnx.Rngs(0)))
    image = np.asarray([[0, 0, 0, 1, 1]])  # three patches of one image, two of another
    tokens = stream(image, image, np.full_like(image, FULL))
    patches, ids = draw(1, 5, 196), np.asarray([[0, 1, 2, 0, 3]])
    found = tower(jnp.asarray(patches), jnp.asarray(ids), make_attention(tokens, tokens, "dense", 1), UNSCANNED)

    p = values(tower)
    x = patches[0].astype(np.float64) @ p["patch_embed.kernel"] + p["patch_embed.bias"]
    x = x + p["position_embed.embedding"][ids[0]]
    for i in range(2):
        w = {name.removeprefix("layers."): value[i] for name, value in p.items() if name.startswith("layers.")}
        normed = layer_norm(x, w["norm1.scale"], w["norm1.bias"], 1e-5)
        q, k, v = ((normed @ w[f"{n}.kernel"] + w[f"{n}.bias"]).reshape(5, 2, 8) for n in ("query", "key", "value"))
        x = x + attend(q, k, v, image[0][:, None] == image[0][None]).reshape(5, 16) @ w["out.kernel"] + w["out.bias"]
        y = layer_norm(x, w["norm2.scale"], w["norm2.bias"], 1e-5) @ w["fc1.kernel"] + w["fc1.bias"]
        gelu = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + gelu @ w["fc2.kernel"] + w["fc2.bias"]
    close(found[0], layer_norm(x, p["post_norm.scale"], p["post_norm.bias"], 1e-5), 1e-4)
