"""Records that are left out, and why."""

import collections
import json

from etils import epath
from PIL import Image

from srum_jax.data.errors import ImageError, ImageModeError
from srum_jax.data.image_transform import decode_image
from srum_jax.storage.atomic_file import write_text

MIN_IMAGE_PIXELS = 32  # of the shorter side


class Reject(Exception):
    """A record is left out: an outcome, not a failure of the command."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def usable_image(encoded: bytes, name: str) -> Image.Image:
    """A decoded image file.

    Raises:
      Reject: it cannot be decoded, has a mode of which no colours follow, or is too small.
    """
    try:
        image = decode_image(encoded)
    except ImageModeError as error:
        raise Reject("bad_image_size", f"{name}: {error}") from error
    except ImageError as error:
        raise Reject("unreadable_image", f"{name}: {error if encoded else 'empty'}") from error
    if min(image.size) < MIN_IMAGE_PIXELS:
        raise Reject("bad_image_size", f"{name}: expected at least {MIN_IMAGE_PIXELS} pixels a side, found "
                                       f"{image.width} x {image.height}")
    return image


class Rejects:
    """Collects the records that were left out, and what was changed in those that were not."""

    def __init__(self):
        self.lines: list[dict] = []
        self.reasons: collections.Counter[str] = collections.Counter()
        self.warnings: collections.Counter[str] = collections.Counter()

    def add(self, record_id: str, stage: str, reject: Reject, **source) -> None:
        """Notes a record that was left out; `source` says where it came from."""
        self.reasons[reject.reason] += 1
        self.lines.append({"record_id": record_id, "stage": stage, "reason": reject.reason, "detail": reject.detail,
                           **source})

    @property
    def total(self) -> int:
        """Records left out."""
        return len(self.lines)

    def write(self, path: epath.Path) -> None:
        """One JSON line a record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in self.lines))
