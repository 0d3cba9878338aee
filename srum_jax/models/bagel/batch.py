"""A packed, static-shape training batch.

Every row holds several samples. Its tokens lie in three buffers of fixed capacity, each padded at its end:

    text    Ct   words and all special tokens, the markers around images included   -> und expert
    vit     Cv   patches of images to be understood                                 -> und expert
    latent  Cg   latent tokens of images to be generated or conditioned on          -> gen expert

The logical order of a row (which token follows which) is carried by integers beside each token, so that no expert
ever touches a token of the other, and nothing is gathered or scattered inside the layers.

B rows · C capacity of a buffer · M images in a row · P values of a latent token · h, w latent cells
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from srum_jax.models.layers.token_stream import TokenStream

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedBatch:
    """One training batch. Integers are int32, floats float32, unless said otherwise."""

    text: TokenStream  # [B, Ct]
    text_ids: Array  # [B, Ct] token ids; 0 for padding
    vit: TokenStream  # [B, Cv]; each image is a split of its own together with its two markers
    vit_patches: Array  # [B, Cv, patch values] pixels in [-1, 1], row-major inside a patch, channel fastest
    vit_position_ids: Array  # [B, Cv] rows of the vision position tables
    latent: TokenStream  # [B, Cg]
    latent_position_ids: Array  # [B, Cg] rows of the latent position table
    latent_index: Array  # [B, Cg] which token of the row's images: (m * rows + row) * columns + column
    timestep_logit: Array  # [B, Cg] raw time, the same for all tokens of an image; -inf for clean images
    images: Array  # [B, M, H, W, 3] uint8 pixels, or float32 in [-1, 1]; padded at the bottom and right
    image_size: Array  # [B, M, 2] height and width in pixels of the part that is not padding; 0 for no image
    image_columns: dict[str, Array]  # float32 [B, Cg] each, what the objective wants beside each latent token
    ce_index: Array  # [B, Cc] places in the text buffer whose next token is to be predicted
    ce_labels: Array  # [B, Cc] token ids to be predicted
    ce_weights: Array  # [B, Cc] weight of each prediction; 0 for padding
    text_columns: dict[str, Array]  # float32 [B, Cc] each, the same beside each prediction
    posterior_moments: Array | None = None  # float16 [B, M, h, w, 2 z] instead of `images`, whose H and W are 0 then
    noise_index: Array | None = None  # [B, Cg] whose noise each latent token sees; None: its own
    reference_images: Array | None = None  # as `images`; None: the reference is the image itself, sampled anew
    num_samples: int = dataclasses.field(default=1, metadata={"static": True})  # that a row has room for

    @property
    def loss_mask(self) -> Array:
        """Bool [B, Cg]: latent tokens that enter the flow-matching loss, which are those that have a time."""
        return self.latent.real & jnp.isfinite(self.timestep_logit)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepNoise:
    """Every random number that one step uses. All float32, standard normal."""

    flow: jax.Array  # [B, Cg, P]
    posterior: jax.Array  # [B, M, H/8, W/8, z]
    reference_posterior: jax.Array  # [B, M, H/8, W/8, z]
