"""Small copies of the images, and links to the originals."""

import base64
import dataclasses
import hashlib
import io
import os
import urllib.parse
from pathlib import PurePosixPath

from etils import epath
from PIL import Image

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.generation.records import GenerationRecord
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import DamagedError
from srum_jax.storage.atomic_file import is_local

_LOSSLESS_PIXELS = 64


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """What the page shows of an image file."""

    url: str | None  # data URL; None: it cannot be shown
    note: str | None  # what is wrong with the file


def image_path(root: epath.Path, generation: GenerationRecord) -> epath.Path:
    """The image file of a record.

    Raises:
      DamagedError: the record names a file elsewhere.
    """
    name = generation.image
    parts = PurePosixPath(name).parts
    if not parts or parts[0] != "images" or ".." in parts:
        raise DamagedError(f"{generation.record_id}: field 'image': expected a file below {GENERATE}/images, found "
                           f"{name!r}; its chunk was changed.")
    return root / GENERATE / name


def thumbnail(path: epath.Path, sha256: str, pixels: int, quality: int) -> Thumbnail:
    """A WebP copy, or the reason why there is none.

    Args:
      path: image file.
      sha256: of the file, as recorded.
      pixels: of the longer side; smaller images are not enlarged.
      quality: of WebP, 1 to 100.
    """
    if not path.exists():
        return Thumbnail(None, "image file missing")
    encoded = path.read_bytes()
    if not encoded:
        return Thumbnail(None, "image file empty")
    note = None if hashlib.sha256(encoded).hexdigest() == sha256 else "image file is not the one that was generated"
    try:
        image = to_rgb(decode_image(encoded))
    except ImageError as error:
        return Thumbnail(None, str(error))
    # reducing_gap shrinks by whole factors first: three times as fast, and no difference to be seen at this size.
    image.thumbnail((pixels, pixels), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    # What is this small is drawn, or enlarged by the page; lossy compression would show.
    image.save(buffer, format="WEBP", quality=quality, method=2, lossless=max(image.size) <= _LOSSLESS_PIXELS)
    return Thumbnail("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), note)


def link(path: epath.Path, folder: epath.Path) -> str | None:
    """Relative address of a file as seen from a page in `folder`; None where there is no such thing."""
    if not is_local(path) or not is_local(folder):
        return None
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return None
    # "./" so that a name with a colon is no scheme.
    return urllib.parse.quote("./" + PurePosixPath(*relative.split(os.sep)).as_posix())
