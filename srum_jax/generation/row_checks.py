"""Finding out before anything is generated which rows the model cannot serve. Needs no weights."""

import dataclasses
import hashlib
from collections.abc import Callable

from etils import epath
from PIL import Image

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import BadRow, PromptList
from srum_jax.generation.prompts import Prompt
from srum_jax.inference.protocols import Checker
from srum_jax.inference.requests import ImageRequest, RequestError
from srum_jax.storage.reading import why_absent

_MOST_LISTED = 20


def read_source_image(folder: epath.Path, prompt: Prompt) -> tuple[Image.Image, str]:
    """The picture that a prompt edits, RGB, and the SHA-256 of its file.

    Raises:
      FileNotFoundError, OSError: it cannot be read.
      ImageError: it is damaged.
    """
    encoded = (folder / prompt.image).read_bytes()
    return to_rgb(decode_image(encoded)), hashlib.sha256(encoded).hexdigest()


def check_rows(
    prompts: PromptList,
    checker: Checker,
    *,
    folder: epath.Path,
    height: int | None,
    width: int | None,
    on_checked: Callable[[], object] = lambda: None,
) -> PromptList:
    """Sorts out rows that cannot be served; adds the checksums of source images.

    Args:
      prompts: as read.
      checker: knows the model.
      folder: that image paths are relative to.
      height: pixels, of rows that do not say; None for the model's own size.
      width: likewise.
      on_checked: called for every row.
    """

    def check(prompt: Prompt) -> Prompt | BadRow:
        image = None
        on_checked()

        def bad(reason: str, detail: str) -> BadRow:
            return BadRow(prompt.index, prompt.line, reason, detail, prompt.source_id)

        if prompt.image is not None:
            try:
                image, digest = read_source_image(folder, prompt)
            except FileNotFoundError:
                return bad("missing_image", f"field 'image': {prompt.image}: {why_absent(folder / prompt.image)}; "
                                            "paths are relative to the prompt file")
            except (OSError, ImageError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                return bad("unreadable_image", f"field 'image': {prompt.image}: expected an image, found: {reason}")
            prompt = dataclasses.replace(prompt, image_sha256=digest)
        try:
            checker.check(request_of(prompt, seed=0, image=image, height=height, width=width))
        except RequestError as error:
            return bad(_reason(str(error)), str(error))
        return prompt

    return prompts.checked(check)


def request_of(
    prompt: Prompt, *, seed: int, image: Image.Image | None, height: int | None, width: int | None
) -> ImageRequest:
    """What the model is asked for; the size of the run holds for prompts without their own, but not for edits."""
    if prompt.height is not None:
        height, width = prompt.height, prompt.width
    elif image is not None:
        height = width = None  # that of the picture
    return ImageRequest(prompt.prompt, seed, height, width, image)


def raise_bad_rows(prompts: PromptList) -> None:
    """Says what is wrong with the rows that cannot be used.

    Raises:
      BadInput: listing them by file and line; returns if there are none.
    """
    bad = prompts.bad
    if not bad:
        return
    lines = [f"{prompts.source}:{row.line}: {row.detail}" for row in bad[:_MOST_LISTED]]
    if len(bad) == 1:
        raise BadInput(f"{lines[0]} (--on-error skip leaves such rows out)")
    if len(bad) > _MOST_LISTED:
        lines.append(f"... and {len(bad) - _MOST_LISTED} more")
    raise BadInput("\n  ".join([f"{len(bad)} rows cannot be used (--on-error skip leaves them out):", *lines]))


def _reason(message: str) -> str:
    field = message.partition(":")[0]
    return {"prompt": "bad_prompt", "image": "unusable_image"}.get(field, "bad_size")
