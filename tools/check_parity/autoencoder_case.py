"""Recomputes `vae.safetensors`: posterior, samples, decoded images."""

import jax.numpy as jnp
import numpy as np

from srum_jax.models.bagel.vae import Autoencoder, Posterior
from tools.check_parity.result import GroupResult, Unchecked, compare_floats
from tools.check_parity.tensors import Tensors
from tools.check_parity.training_case import FORWARD

_GIVEN = ("image", "posterior_noise", "decode_in")


def check(vae: Autoencoder, tensors: Tensors) -> list[GroupResult | Unchecked]:
    """Compares every tensor of the file; images and latents are (n, channels, height, width) there."""
    found = _recompute(vae, {name: jnp.asarray(np.moveaxis(tensors[name], 1, -1)) for name in _GIVEN})
    results: list[GroupResult | Unchecked] = []
    for name in sorted({*tensors, *(name for name in found if not name.startswith("mid."))}):
        if name in _GIVEN:
            results.append(Unchecked(f"vae/{name}", "an input of the case, used as it is"))
        else:
            value = found.get(name)
            value = None if value is None else np.moveaxis(np.asarray(value), -1, 1)
            results.append(compare_floats(f"vae/{name}", [(name, tensors.get(name), value)], **FORWARD))
    return results


def _recompute(vae: Autoencoder, given: dict) -> dict:
    found = {}
    posterior = vae.posterior(given["image"], lambda name, value: found.update({f"mid.enc.{name}": value}))
    mean_only = vae.sample(Posterior(posterior.mean, posterior.logvar), jnp.zeros_like(posterior.mean))
    found |= {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "latent_sample": vae.sample(posterior, given["posterior_noise"]),
        "latent_mean": mean_only,
        "decode_out": vae.decode(given["decode_in"]),
        # The recorded intermediate of the decoder belongs to this call.
        "decode_of_latent_mean": vae.decode(mean_only, lambda name, value: found.update({f"mid.dec.{name}": value})),
    }
    return found
