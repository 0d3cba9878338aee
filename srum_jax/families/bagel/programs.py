"""The compiled programs of one model on one mesh. Each is compiled once per shape."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srum_jax.families.bagel.flow_sampling import LatentLayout, sample_latents
from srum_jax.families.bagel.image_codec import decode_latents, encode_images, initial_noise, posterior_noise, to_uint8
from srum_jax.families.bagel.prefill import prefill_latents, prefill_patches, prefill_text
from srum_jax.inference.context import Context, empty_context
from srum_jax.inference.requests import NonFiniteError
from srum_jax.inference.settings import FlowSampler, TextSampler
from srum_jax.inference.text_decoding import DecodedText, decode_text
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import ROWS


class Programs:
    """What a model can be asked to compute. Arguments named `context` are donated: use what is returned instead."""

    def __init__(self, graphdef: nnx.GraphDef, state: nnx.State, mesh: Mesh, compute: ComputeConfig):
        model = nnx.merge(graphdef, state)
        self.config: BagelConfig = model.config
        self.sees = model.vit is not None
        self.mesh, self.compute = mesh, compute
        self._graphdef, self._state = graphdef, state

        def first(prefill: Callable) -> Callable:
            # A program that does not hand out the hidden states need not compute the last of them.
            return lambda *arguments: prefill(*arguments, compute)[0]

        self._prefill_text = self.compile(first(prefill_text), donate_argnums=1)
        self._prefill_patches = self.compile(first(prefill_patches), donate_argnums=1)
        self._prefill_latents = self.compile(first(prefill_latents), donate_argnums=1)
        self._empty = jax.jit(
            lambda rows, capacity: empty_context(self.config.llm, rows, capacity, compute.compute_dtype),
            static_argnums=(0, 1),
        )
        self._grow = jax.jit(Context.with_room, static_argnums=1)
        self._decode_text = self.compile(
            lambda model, context, keys, active, sampler: decode_text(model, context, keys, active, sampler, compute),
            static_argnums=4,
        )
        self._sample_latents = self.compile(
            lambda model, contexts, keys, layout, sampler: sample_latents(
                model, contexts, initial_noise(keys, layout.position_ids.shape[1], model.config), layout, sampler,
                compute,
            )[0],
            static_argnums=4,
        )
        self._encode = self.compile(
            lambda model, images, keys: encode_images(
                model.vae, images, posterior_noise(keys, *images.shape[1:3], model.config), model.config
            )
        )
        self._decode = self.compile(_finite_pixels, static_argnums=(2, 3))

    @property
    def rows_multiple(self) -> int:
        """Rows of a batch must be a multiple of this: the devices that rows are split over."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

    def place(self, array: np.ndarray | jax.Array) -> jax.Array:
        """Puts an array [B, ...] on the mesh, rows split."""
        return jax.device_put(array, NamedSharding(self.mesh, PartitionSpec(ROWS)))

    def empty_context(self, rows: int, capacity: int) -> Context:
        """See `context.empty_context`."""
        with jax.set_mesh(self.mesh):
            return self._empty(rows, capacity)

    def grow(self, context: Context, slots: int) -> Context:
        """The context with more free slots."""
        with jax.set_mesh(self.mesh):
            return self._grow(context, slots)

    def prefill_text(self, context: Context, token_ids: np.ndarray, num_tokens: np.ndarray) -> Context:
        """See `prefill.prefill_text`."""
        return self.run(self._prefill_text, context, self.place(token_ids), self.place(num_tokens))

    def prefill_patches(
        self, context: Context, patches: np.ndarray, position_ids: np.ndarray, num_patches: np.ndarray
    ) -> Context:
        """See `prefill.prefill_patches`."""
        return self.run(self._prefill_patches, context, *map(self.place, (patches, position_ids, num_patches)))

    def prefill_latents(
        self, context: Context, latent: np.ndarray, position_ids: np.ndarray, num_latents: np.ndarray
    ) -> Context:
        """See `prefill.prefill_latents`."""
        return self.run(self._prefill_latents, context, *map(self.place, (latent, position_ids, num_latents)))

    def decode_text(self, context: Context, keys: jax.Array, active: np.ndarray, sampler: TextSampler) -> DecodedText:
        """See `text_decoding.decode_text`; the context is kept."""
        return self.run(self._decode_text, context, self.place(keys), self.place(active), sampler)

    def sample_latents(
        self, contexts: list[Context], keys: jax.Array, layout: LatentLayout, sampler: FlowSampler
    ) -> jax.Array:
        """Latents float32 [B, G, P] from noise drawn with one key per row; contexts are kept."""
        layout = jax.tree.map(self.place, layout)
        return self.run(self._sample_latents, contexts, self.place(keys), layout, sampler)

    def encode_images(self, images: np.ndarray, keys: jax.Array) -> jax.Array:
        """See `image_codec.encode_images`; posterior noise is drawn with one key per image."""
        return self.run(self._encode, self.place(images), self.place(keys))

    def decode_images(self, latent: jax.Array, rows: int, columns: int) -> jax.Array:
        """Uint8 [N, H, W, 3] from latents float32 [N, rows * columns, P].

        Raises:
          NonFiniteError: a pixel is not a number, of which uint8 would keep no trace.
        """
        pixels, finite = self.run(self._decode, self.place(latent), rows, columns)
        if not finite:
            raise NonFiniteError("The decoded pixels are not finite: expected numbers; the autoencoder's weights are "
                                 "damaged, or the latents too large.")
        return pixels

    def lower(self, name: str, *arguments: Any) -> jax.stages.Lowered:
        """The program behind `prefill_text`, `decode_text`, `sample_latents` and so on, for arrays or descriptions.

        Args:
          name: of the method; "decode" and "encode" for those of the autoencoder.
          arguments: placed on the mesh already.
        """
        return self.run(getattr(self, f"_{name}").lower, *arguments)

    def compile(self, function: Callable, **options: Any) -> Callable:
        """A function of (model, *arguments), jitted with `options`, as one of (state, *arguments); see `run`."""
        graphdef = self._graphdef
        return jax.jit(lambda state, *arguments: function(nnx.merge(graphdef, state), *arguments), **options)

    def run(self, program: Callable, *arguments: Any) -> Any:
        """Calls what `compile` returned, on this model and mesh."""
        with jax.set_mesh(self.mesh):
            return program(self._state, *arguments)


def _finite_pixels(model: Bagel, latent: jax.Array, rows: int, columns: int) -> tuple[jax.Array, jax.Array]:
    """Pixels as uint8, and whether all were numbers before, bool []."""
    pixels = decode_latents(model.vae, latent, rows, columns, model.config)
    return to_uint8(pixels), jnp.isfinite(pixels).all()
