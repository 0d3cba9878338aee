"""Latents that lie in the records, taken instead of decoding images: only those that belong to this very run."""

import os

import numpy as np

from srum_jax.data.errors import DataError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.image_transform import ImageTransform
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.schema import RewardRecord
from srum_jax.models.bagel.config import AutoencoderConfig

_AGAIN = ("make them with python -m tools.precompute_latents and the data settings of this run, or set "
          "data.latents=images")
_RECORDS_TRIED = 16


class StoredLatents:
    """Takes the moments of records that were made for this run. Can be sent to another process.

    Args:
      transform: how this run resizes images.
      canvas: height and width in pixels of its canvas.
      vae: sizes of the model's autoencoder.
      encoder_sha256: of its encoder, see `srum_jax.weights.encoder`; None where it is not known, and not compared.
    """

    def __init__(
        self, transform: ImageTransform, canvas: tuple[int, int], vae: AutoencoderConfig, encoder_sha256: bytes | None
    ):
        self.transform, self.canvas, self.vae, self.encoder_sha256 = transform, canvas, vae, encoder_sha256

    def moments(self, record: RewardRecord) -> np.ndarray:
        """Float16 [h, w, 2 z] of the resized image; not to be written to.

        Raises:
          SchemaError: the record has none, or those of another size, canvas or autoencoder.
        """
        posterior = record.posterior
        if posterior is None:
            raise SchemaError("posterior/moments", f"stored latents ({_AGAIN})", "nothing")
        width, height = self.transform.target_size(record.image_width, record.image_height)
        expected = {
            "image_height": height, "image_width": width, "canvas_height": self.canvas[0],
            "canvas_width": self.canvas[1], "downsample": self.vae.downsample, "channels": 2 * self.vae.z_channels,
        }
        for name, value in expected.items():
            found = getattr(posterior, name)
            if found != value:
                raise SchemaError(f"posterior/{name}", f"{value}, by the settings of this run ({_AGAIN})", str(found))
        if self.encoder_sha256 is not None and posterior.encoder_sha256 != self.encoder_sha256:
            raise SchemaError("posterior/encoder_sha256",
                              f"{self.encoder_sha256.hex()}, the encoder of model.checkpoint ({_AGAIN}; weights that "
                              "were rounded to another precision are other weights)", posterior.encoder_sha256.hex())
        return posterior.array

    def check_set(self, source: RecordsSource) -> None:
        """Looks at the first record of a set that can be read: what a whole set lacks is noticed before training.

        Raises:
          DataError: its latents are not those of this run.
        """
        for place in range(min(len(source), _RECORDS_TRIED)):
            try:
                record = decode_record(source.read(place))
            except (DataError, SchemaError):
                continue  # told when it is its turn, or counted (data.on_bad_record)
            try:
                self.moments(record)
            except SchemaError as error:
                raise DataError(os.fspath(source.file_of(place)), source.locate(place).record_number,
                                str(error)) from error
            return
