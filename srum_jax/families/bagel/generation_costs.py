"""FLOPs and bytes of generation by formula, and the least time that they take on given chips.

The compiler's own count is of no use for that: it sees the body of a scanned stack of layers, or of a loop over steps,
once, and a Pallas kernel as nothing. Counted here are the matrix products and convolutions of real tokens (2 FLOPs per
multiply-add) and attention over the pairs that the mask allows; padding, norms, softmax and resampling are not.

Bytes are what has to cross between a chip's memory and its units if everything elementwise is fused: weights once
per pass over the layers, keys and values of the context, and inputs and outputs of the matrix products.
"""

import dataclasses
import math

from srum_jax.families.bagel.flow_sampling import guided_steps
from srum_jax.families.bagel.generation_programs import latent_grid, num_patches, sampler_of
from srum_jax.families.bagel.prefill import NUM_MARKERS
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.families.costs import Cost, Drawing
from srum_jax.models.bagel.config import AutoencoderConfig, BagelConfig, LanguageConfig

_TIME_FEATURES = 256
_VALUE_BYTES = 2  # of weights and activations: bfloat16
_SCORES_BYTES = 4


def layer_weights(llm: LanguageConfig) -> int:
    """Values in the matrices of one expert's share of a layer."""
    kv_width = llm.num_kv_heads * llm.head_dim
    return 2 * llm.hidden_size * (llm.hidden_size + kv_width) + 3 * llm.hidden_size * llm.intermediate_size


def layers_cost(llm: LanguageConfig, *, tokens: float, context: float, pairs: float, experts: int) -> Cost:
    """One pass of a row through all layers.

    Args:
      llm: of the language model.
      tokens: new tokens, of both experts together.
      context: tokens whose keys and values are read.
      pairs: (query, key) pairs that the mask allows.
      experts: whose weights are read, 1 or 2.
    """
    kv_width = llm.num_kv_heads * llm.head_dim
    # Inputs and outputs of query, key, value; of attention; of the output projection; of gate, up and down.
    token_values = 6 * llm.hidden_size + 4 * kv_width + 3 * llm.intermediate_size + 2 * llm.hidden_size
    return Cost(
        flops=llm.num_layers * (2 * tokens * layer_weights(llm) + 4 * pairs * llm.hidden_size),
        activation_bytes=llm.num_layers * _VALUE_BYTES * (tokens * token_values + 2 * context * kv_width),
        weight_bytes=llm.num_layers * experts * layer_weights(llm) * _VALUE_BYTES,
        passes=1,
        summed_values=2 * llm.num_layers * tokens * llm.hidden_size,  # behind attention, and behind the MLP
    )


def prefill_cost(config: BagelConfig, tokens: int) -> Cost:
    """A prompt of so many tokens, markers included, into an empty context."""
    return layers_cost(config.llm, tokens=tokens, context=0, pairs=tokens * (tokens + 1) / 2, experts=1)


def decode_cost(config: BagelConfig, context: int, tokens: int) -> Cost:
    """So many tokens, one after the other, on top of a context."""
    llm = config.llm
    head = llm.hidden_size * llm.vocab_size
    mean_context = context + (tokens - 1) / 2
    one = layers_cost(llm, tokens=1, context=mean_context, pairs=mean_context + 1, experts=1)
    return (one + Cost(flops=2 * head, weight_bytes=head * _VALUE_BYTES)) * tokens


def denoise_cost(config: BagelConfig, contexts: tuple[int, ...], latent_tokens: int, sampler: FlowSampler) -> Cost:
    """All steps of sampling one image.

    Args:
      config: of the model.
      contexts: tokens in the context of each branch of guidance, the conditional one first.
      latent_tokens: of the image.
      sampler: steps and guidance.
    """
    llm, width = config.llm, config.llm.hidden_size
    tokens = latent_tokens + NUM_MARKERS

    def branch(context: int) -> Cost:
        layers = layers_cost(llm, tokens=tokens, context=context, pairs=tokens * (context + tokens), experts=2)
        return layers + Cost(flops=2 * latent_tokens * config.latent_values * width)

    def step(branches: list[Cost]) -> Cost:
        # The branches are one batch: what they share of the weights is read once.
        total = sum(branches[1:], branches[0])
        embedding = latent_tokens * (config.latent_values * width + _TIME_FEATURES * width + width * width)
        return dataclasses.replace(total, weight_bytes=branches[0].weight_bytes, passes=1) + Cost(flops=2 * embedding)

    guided = int(guided_steps(sampler).sum())
    branches = [branch(context) for context in contexts]
    return step(branches) * guided + step(branches[:1]) * (sampler.num_timesteps - 1 - guided)


def pixels_cost(vae: AutoencoderConfig, rows: int, columns: int) -> Cost:
    """One image out of a grid of latent cells `rows` x `columns`; float32."""
    total = _Convolutions()
    widths = [vae.ch * multiple for multiple in vae.ch_mult]
    total.convolve(3, vae.z_channels, widths[-1], rows, columns)
    total.residual_block(widths[-1], widths[-1], rows, columns)
    total.attention(widths[-1], rows, columns)
    total.residual_block(widths[-1], widths[-1], rows, columns)
    inputs = [*widths[1:], widths[-1]]
    for level in reversed(range(len(widths))):
        for block in range(vae.num_res_blocks + 1):
            total.residual_block(inputs[level] if block == 0 else widths[level], widths[level], rows, columns)
        if level > 0:
            rows, columns = 2 * rows, 2 * columns
            total.convolve(3, widths[level], widths[level], rows, columns)
    total.convolve(3, widths[0], vae.out_ch, rows, columns)
    return Cost(total.flops, total.num_bytes, 4.0 * total.weights)


def reward_costs(config: BagelConfig, drawing: Drawing) -> dict[str, Cost]:
    """See `Costs.reward_costs`; the autoencoder's encoder, and the words of the request, are left out."""
    prompt, vit = drawing.prompt_tokens + 2, config.vit
    patches = num_patches(config, drawing)
    matrices = vit.num_layers * (4 * vit.hidden_size**2 + 2 * vit.hidden_size * vit.intermediate_size)
    tower = Cost(flops=2.0 * patches * matrices + 4.0 * patches**2 * vit.hidden_size * vit.num_layers,
                 weight_bytes=_VALUE_BYTES * matrices)
    read = patches + NUM_MARKERS
    # A picture's tokens see each other; the prompt behind them sees them and what came before.
    behind = layers_cost(config.llm, tokens=read + prompt, context=0, experts=1,
                         pairs=read**2 + prompt * read + prompt * (prompt + 1) / 2)
    head = config.llm.hidden_size * config.llm.vocab_size
    looks = FlowSampler(num_timesteps=drawing.draws + 1, guidance=Guidance(text_scale=1.0))
    return {
        "pictures": tower + behind + Cost(flops=2.0 * prompt * head, weight_bytes=_VALUE_BYTES * head),
        "captions": prefill_cost(config, prompt) + denoise_cost(
            config, (prompt,), math.prod(latent_grid(config, drawing)), looks),
    }


class _Convolutions:
    """A running sum."""

    def __init__(self):
        self.flops = self.num_bytes = self.weights = 0.0

    def convolve(self, kernel: int, inputs: int, outputs: int, rows: int, columns: int) -> None:
        values = kernel**2 * inputs * outputs
        self.weights += values
        self.flops += 2.0 * values * rows * columns
        self.num_bytes += 4.0 * (inputs + outputs) * rows * columns

    def residual_block(self, inputs: int, outputs: int, rows: int, columns: int) -> None:
        self.convolve(3, inputs, outputs, rows, columns)
        self.convolve(3, outputs, outputs, rows, columns)
        if inputs != outputs:
            self.convolve(1, inputs, outputs, rows, columns)

    def attention(self, width: int, rows: int, columns: int) -> None:
        for _ in range(4):
            self.convolve(1, width, width, rows, columns)
        pixels = rows * columns
        self.flops += 4.0 * pixels**2 * width
        self.num_bytes += 2.0 * _SCORES_BYTES * pixels**2  # scores, written and read


def generation_costs(config: BagelConfig, drawing: Drawing) -> dict[str, Cost]:
    """The cost of every program of `PROGRAMS`, for prompts of the full length and plans of the full limit."""
    prompt, sampler, grid = drawing.prompt_tokens + 2, sampler_of(drawing), latent_grid(config, drawing)
    # Text guidance leaves out the prompt, image guidance the source image; from text alone both start from nothing,
    # but the branch without images keeps the prompt.
    contexts = (prompt, 0, prompt)[: sampler.guidance.branches]
    return {
        "prefill": prefill_cost(config, prompt),
        "decode": decode_cost(config, prompt, drawing.max_tokens),
        "denoise": denoise_cost(config, contexts, math.prod(grid), sampler),
        "pixels": pixels_cost(config.vae, *(side * config.latent_patch_size for side in grid)),
    }
