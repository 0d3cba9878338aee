"""From noise to latents: Euler steps along the learned flow, on top of a context that does not change.

B rows · R guidance branches · G latent tokens · P values of a token
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.families.bagel.cached_decoder import Reader, Watch, image_tokens, make_reader
from srum_jax.families.bagel.guidance import guided_velocity
from srum_jax.families.bagel.prefill import NUM_MARKERS, image_markers
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.inference.context import Context, stack_branches
from srum_jax.models.bagel.decoder import Hidden
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.flow_path import shift_timestep

# x [B, G, P] and times [] or [B] -> float32 [B, G, P], and what else was computed
Velocity = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LatentLayout:
    """Where the latent tokens of each row lie."""

    position_ids: jax.Array  # int32 [B, G], rows of the latent position table
    num_tokens: jax.Array  # int32 [B]; the rest of G is padding

    @property
    def real(self) -> jax.Array:
        """Bool [B, G]."""
        return jnp.arange(self.position_ids.shape[1])[None] < self.num_tokens[:, None]


def sample_latents(
    model: Bagel,
    contexts: list[Context],
    noise: jax.Array,
    layout: LatentLayout,
    sampler: FlowSampler,
    compute: ComputeConfig,
    trace: bool = False,
) -> tuple[jax.Array, list[dict[str, jax.Array]]]:
    """Integrates from noise (t = 1) to data (t = 0).

    The branches of a guided step are evaluated as one batch. Steps outside the guidance interval evaluate the
    conditional branch alone.

    Args:
      model: any.
      contexts: everything; then, as the guidance asks for them, without the last text, and without images.
      noise: float32 [B, G, P].
      layout: of the latent tokens.
      sampler: steps and guidance.
      compute: precision and attention route.
      trace: whether to return every step's intermediates.

    Returns:
      Latents float32 [B, G, P], zero in padding, and for each run of steps of one kind (before, inside and after the
      guidance interval) what was computed, stacked over its steps: "t", "x_t", "v_cond", "v_text", "v_img", "v", and
      the hidden states of every branch, und and gen; empty dictionaries without `trace`.
    """
    branches = sampler.guidance.branches
    steps = jnp.stack(denoise_schedule(sampler.num_timesteps, sampler.shift), axis=-1)  # [N - 1, 2]
    guided = guided_steps(sampler)
    x = jnp.where(layout.real[..., None], noise, 0.0)
    traces = []
    for start, end in _runs(guided):
        count = branches if guided[start] else 1
        velocity = flow_velocity(model, contexts[:count], layout, sampler.guidance, compute)

        def step(x: jax.Array, now: jax.Array, velocity=velocity) -> tuple[jax.Array, dict[str, jax.Array]]:
            t, dt = now
            v, details = velocity(x, t)
            return x - v * dt, {"t": t, "x_t": x, "v": v, **details} if trace else {}

        x, details = jax.lax.scan(step, x, steps[start:end])
        traces.append(details)
    return x, traces


def flow_step(
    model: Bagel, compute: ComputeConfig, contexts: list[Context], x: jax.Array, layout: LatentLayout, t: jax.Array,
    dt: jax.Array, sampler: FlowSampler,
) -> tuple[jax.Array, jax.Array]:
    """One step of `sample_latents` alone.

    Args:
      model, compute, layout, sampler: see there.
      contexts: of all branches inside the guidance interval, else the conditional one.
      x: float32 [B, G, P], zero in padding.
      t, dt: float32 [], the time and what it falls by; see `denoise_schedule`.

    Returns:
      float32 [B, G, P] each: x after the step, and where it would lead if the velocity stayed what it is: x - t v.
    """
    v, _ = flow_velocity(model, contexts, layout, sampler.guidance, compute)(x, t)
    return x - v * dt, x - v * t


def flow_velocity(
    model: Bagel, contexts: list[Context], layout: LatentLayout, guidance: Guidance, compute: ComputeConfig,
    watch: Watch | None = None,
) -> Velocity:
    """The velocity on top of contexts that do not change, zero in padding; guided where there are several.

    Args:
      model: any.
      contexts: of one, two or three branches; see `sample_latents`.
      layout: of the latent tokens.
      guidance: of several branches.
      compute: precision and attention route.
      watch: see `make_reader`; what it keeps is computed as "watched".
    """
    branches = len(contexts)
    repeat = lambda x: jnp.repeat(x, branches, axis=0)  # noqa: E731
    context = contexts[0] if branches == 1 else stack_branches(contexts)
    real = layout.real
    markers = jnp.ones((real.shape[0], NUM_MARKERS), bool) & (layout.num_tokens[:, None] > 0)
    query = image_tokens(repeat(jnp.concatenate([markers, real], axis=1)), context.next_position)
    read: Reader = make_reader(model.llm, query, NUM_MARKERS, context, compute, watch)
    marker_values = image_markers(model, compute)
    und = jnp.broadcast_to(marker_values, (branches * real.shape[0], *marker_values.shape))

    def velocity(x: jax.Array, t: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        times = jnp.broadcast_to(t[..., None], x.shape[:2])
        gen = model.embed_latents(x, times, layout.position_ids, compute.compute_dtype)
        hidden, _, watched = read(Hidden(und, repeat(gen)))
        predicted = model.llm2vae(hidden.gen).astype(jnp.float32)
        predicted = predicted.reshape(-1, branches, *predicted.shape[1:])
        names = ("v_cond", "v_text", "v_img")[:branches]
        parts = {name: predicted[:, i] for i, name in enumerate(names)}
        v = parts["v_cond"] if branches == 1 else guided_velocity(
            parts["v_cond"], parts["v_text"], parts.get("v_img"), real, guidance
        )
        kept = {} if watch is None else {"watched": watched}
        return jnp.where(real[..., None], v, 0.0), {**parts, "und": hidden.und, "gen": hidden.gen, **kept}

    return velocity


def denoise_schedule(num_timesteps: int, shift: float) -> tuple[jax.Array, jax.Array]:
    """Shifted times from 1 (noise) towards 0 (data), evenly spaced before the shift.

    `num_timesteps` points make `num_timesteps - 1` steps: `x <- x - velocity(x, t) * dt`.

    Args:
      num_timesteps: at least 2; both ends count.
      shift: positive; above 1, more of the steps lie near noise.

    Returns:
      float32 [num_timesteps - 1] times t, falling from exactly 1; float32 [num_timesteps - 1] step sizes dt > 0.

    Raises:
      ValueError: an argument is out of range.
    """
    if num_timesteps < 2:
        raise ValueError(f"num_timesteps: expected at least 2, found {num_timesteps}.")
    if not shift > 0:
        raise ValueError(f"shift: expected a positive number, found {shift}.")
    times = shift_timestep(jnp.linspace(1.0, 0.0, num_timesteps, dtype=jnp.float32), shift)
    return times[:-1], times[:-1] - times[1:]


def guided_steps(sampler: FlowSampler) -> np.ndarray:
    """Bool [num_timesteps - 1]: the steps inside the guidance interval; the others evaluate one branch.

    Which they are is a constant of the program. In NumPy, so that programs can be lowered for devices that are not at
    hand.
    """
    even = np.linspace(1.0, 0.0, sampler.num_timesteps, dtype=np.float32)[:-1]
    times = shift_timestep(even, np.float32(sampler.shift))
    low, high = np.float32(sampler.guidance.interval)
    return (times > low) & (times <= high) & (sampler.guidance.branches > 1)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Ends of the stretches of equal flags."""
    changes = np.flatnonzero(np.diff(flags)) + 1
    bounds = [0, *changes.tolist(), len(flags)]
    return list(itertools.pairwise(bounds))
