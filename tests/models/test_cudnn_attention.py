"""NVIDIA's kernel: where it is called can be seen without a GPU, what it computes cannot."""

import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srum_jax import attention_route
from srum_jax.attention_route import AttentionRoute
from srum_jax.errors import BadInput
from srum_jax.models.layers import cudnn_attention
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.layer_stack import REMAT_POLICIES
from srum_jax.models.layers.token_stream import concatenate, earlier_tokens
from tests.models.packs import mesh_of, random_stream

FORWARD, BACKWARD = "__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"


@pytest.fixture(autouse=True)
def lowered_for_a_machine_with_cudnn(monkeypatch):
    """JAX asks the library for its version when it traces, and for nothing else."""
    versions = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", versions)
    cudnn_attention._say_once.cache_clear()


def layout(rows=4, length=200):  # not a multiple of 64
    return random_stream(np.random.default_rng(5), rows, length)


def qkv(rows=4, length=200, keys=None, heads=4, kv_heads=2, width=72, dtype=jnp.bfloat16):
    sizes = ((length, heads), (keys or length, kv_heads), (keys or length, kv_heads))
    return [jax.random.normal(key, (rows, tokens, count, width), dtype)
            for key, (tokens, count) in zip(jax.random.split(jax.random.key(0), 3), sizes, strict=True)]


def loss_of(route, policy="none"):
    def loss(tokens, inputs):
        attention = make_attention(tokens, tokens, route, 64)
        if policy != "none":
            attention = jax.checkpoint(attention, policy=REMAT_POLICIES[policy])
        out = attention(*inputs).astype(jnp.float32)
        return jnp.sum(jnp.where(tokens.real[..., None, None], jnp.sin(out), 0.0))

    return loss


def for_cuda(function, *arguments):
    """The program's text, made on whatever machine this is."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def calls(text):
    """[(kernel, shapes of its arguments)] of a program."""
    found = re.findall(r"custom_call @(__cudnn\$\w+)\(.*?\} : \((.*?)\) ->", text)
    return [(name, [shape.split("x") for shape in re.findall(r"tensor<([^>]*)>", shapes)]) for name, shapes in found]


@pytest.mark.parametrize("width", [16, 72, 80, 128])  # of the tiny models, both vision towers, all language models
def test_the_kernel_is_called_forward_and_backward_with_a_mask_of_padded_tokens(width):
    found = calls(for_cuda(jax.value_and_grad(loss_of("cudnn"), argnums=1), layout(), qkv(width=width)))
    assert [name for name, _ in found] == [FORWARD, BACKWARD]
    query, key, value, mask = found[0][1]
    assert query == ["4", "256", "4", str(width), "bf16"] and key == value == ["4", "256", "2", str(width), "bf16"]
    assert mask == ["4", "1", "256", "256", "bf16"], "one for all heads"


@pytest.mark.parametrize("mesh_shape", [(2, 2, 1, 1), (1, 2, 2, 2)])
def test_on_a_mesh_every_device_calls_it_for_its_rows_queries_and_heads(mesh_shape):
    data, fsdp, seq, tensor = mesh_shape
    with jax.set_mesh(mesh_of(*mesh_shape)):
        found = calls(for_cuda(jax.grad(loss_of("cudnn"), argnums=1), layout(), qkv()))
    assert [name for name, _ in found] == [FORWARD, BACKWARD]
    rows, queries = str(4 // (data * fsdp)), str(256 // seq)
    query, key, _, mask = found[0][1]
    assert query[:3] == [rows, queries, str(4 // tensor)] and key[:3] == [rows, "256", str(2 // tensor)]
    assert mask[:4] == [rows, "1", queries, "256"]


def test_new_tokens_that_also_see_a_context_are_a_query_shorter_than_its_keys():
    tokens, context = layout(), earlier_tokens(jnp.ones((4, 70), bool))

    def drawn(tokens, context, inputs):
        return make_attention(tokens, concatenate([context, tokens]), "cudnn", 64)(*inputs)

    [(name, (query, key, _, mask))] = calls(for_cuda(drawn, tokens, context, qkv(keys=270)))
    assert (name, query[1], key[1], mask[2:4]) == (FORWARD, "256", "320", ["256", "320"])


@pytest.mark.parametrize("remat, runs", [("full", 2), ("attention", 1)])
def test_what_is_kept_of_attention_spares_the_backward_pass_the_forward_kernel(remat, runs):
    found = calls(for_cuda(jax.grad(loss_of("cudnn", remat), argnums=1), layout(), qkv()))
    assert [name for name, _ in found].count(FORWARD) == runs


@pytest.mark.parametrize("problem, given", [
    ("values of float32", {"dtype": jnp.float32}),
    ("heads of 136 values", {"width": 136}),
    ("heads of 12 values", {"width": 12}),
    ("262,144 pairs of tokens on a device, more than 262,143", {}),
])
def test_what_the_kernel_cannot_take_is_computed_by_blocks_and_said_once(problem, given, monkeypatch, caplog):
    monkeypatch.setattr(cudnn_attention, "MAX_PAIRS", 4 * 256 * 256 - 1 if not given else 4 * 256 * 256)
    for _ in range(2):
        text = for_cuda(jax.grad(loss_of("cudnn"), argnums=1), layout(), qkv(**given))
        assert not calls(text) and "stablehlo.while" in text
        jax.clear_caches()
    assert [problem in record.getMessage() for record in caplog.records] == [True]


def test_heads_that_a_mesh_does_not_divide_are_computed_by_blocks(caplog):
    with jax.set_mesh(mesh_of(1, 1, 2, 4)):
        assert not calls(for_cuda(loss_of("cudnn"), layout(), qkv()))
    assert "4 rows and 2 key/value heads" in caplog.text


@pytest.mark.parametrize("mesh_shape", [None, (2, 2, 2, 1), (1, 2, 2, 2)])
def test_what_surrounds_the_kernel_changes_no_value_and_no_gradient(mesh_shape, monkeypatch):
    """Padding, mask and shards, with dense attention at the kernel's place."""
    reference = jax.jit(jax.value_and_grad(loss_of("dense"), argnums=1))(layout(), qkv())
    plain = jax.nn.dot_product_attention

    def at_its_place(*inputs, implementation=None, **settings):
        kernels.append(implementation)
        return plain(*inputs, **settings)

    kernels = []
    monkeypatch.setattr(jax.nn, "dot_product_attention", at_its_place)
    compiled = jax.jit(jax.value_and_grad(loss_of("cudnn"), argnums=1))
    if mesh_shape is None:
        found = compiled(layout(), qkv())
    else:
        with jax.set_mesh(mesh_of(*mesh_shape)):
            found = compiled(layout(), qkv())
    assert set(kernels) == {"cudnn"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        np.asarray(a, np.float32), np.asarray(b, np.float32), atol=2e-2, rtol=2e-2), reference, found)


def gpu():
    """The first GPU, if JAX was let have one: `JAX_PLATFORMS=cuda pytest tests/models/test_cudnn_attention.py`."""
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        return None


@pytest.mark.skipif(gpu() is None, reason="needs an NVIDIA GPU, and JAX_PLATFORMS=cuda")
@pytest.mark.parametrize("length, width", [(200, 72), (1100, 80), (2048, 128)])
def test_on_a_gpu_values_and_gradients_are_those_of_dense_attention_within_bfloat16(length, width, monkeypatch):
    monkeypatch.undo()  # the library itself says its version
    tokens, inputs = layout(2, length), qkv(2, length, width=width)
    exact = jax.jit(jax.value_and_grad(loss_of("dense"), argnums=1))(tokens, [x.astype(jnp.float32) for x in inputs])
    found = jax.jit(jax.value_and_grad(loss_of("cudnn"), argnums=1))(tokens, inputs)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= 2e-2 * np.linalg.norm(a)
    assert attention_route.attention_route("auto", gpu(), "bfloat16", setting="attention") == AttentionRoute("cudnn")


@dataclasses.dataclass
class Device:
    platform: str
    process_index: int = 0


def route(asked, platform, dtype="bfloat16"):
    return attention_route.attention_route(asked, Device(platform), dtype, setting="compute.attention")


@pytest.mark.parametrize("platform, error, found", [
    ("tpu", None, AttentionRoute("splash")),
    ("cpu", None, AttentionRoute("chunked")),
    ("gpu", 0.004, AttentionRoute("cudnn")),
    ("gpu", 0.4, AttentionRoute("chunked", "not cudnn: its values are off by 0.4 of the largest")),
    ("gpu", NotImplementedError("The head dim.\nMore."), AttentionRoute("chunked", "not cudnn: The head dim")),
    ("gpu", RuntimeError(), AttentionRoute("chunked", "not cudnn: RuntimeError")),
])
def test_auto_takes_the_kernel_of_the_device_only_if_it_computes_what_it_should(platform, error, found, monkeypatch):
    def tried(name):
        assert name == "cudnn"
        if isinstance(error, Exception):
            raise error
        return error

    monkeypatch.setattr(attention_route, "_error_of", tried)
    monkeypatch.setattr(jax, "default_device", lambda device: jax.named_scope(device.platform))
    assert route("auto", platform) == found


def test_auto_computes_float32_without_the_kernel():
    assert route("auto", "gpu", "float32") == AttentionRoute("chunked", "not cudnn: it computes in bfloat16, asked for "
                                                                        "is float32")


def test_the_trial_measures_the_difference_of_values_and_gradients():
    assert attention_route._error_of("chunked") < 0.02


def test_the_trial_ends_in_words_where_there_is_no_kernel():
    """A GPU of another process is tried on one of this process: a CPU, which fails as a card does that is too old."""
    found = attention_route.attention_route("auto", Device("gpu", process_index=1), "bfloat16", setting="attention")
    assert found.name == "chunked" and found.because.startswith("not cudnn: ") and "\n" not in str(found)


@pytest.mark.parametrize("asked, platform", [("splash", "gpu"), ("splash", "cpu"), ("cudnn", "cpu"), ("cudnn", "tpu")])
def test_a_kernel_that_is_asked_for_by_name_and_is_not_there_is_refused(asked, platform):
    with pytest.raises(BadInput, match=f"compute.attention: '{asked}'.*{platform}"):
        route(asked, platform)


@pytest.mark.parametrize("asked", ["dense", "chunked"])
def test_what_runs_everywhere_is_taken_as_asked(asked):
    assert {route(asked, platform) for platform in ("cpu", "gpu", "tpu")} == {AttentionRoute(asked)}
