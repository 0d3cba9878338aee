"""Scalars, pictures and texts for TensorBoard: a TFRecord file of `tensorflow.Event` messages.

    Event       1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7 session_log
    Summary     1 value, repeated: 1 tag string, 2 simple_value float, 4 image, 8 tensor, 9 metadata
    Image       1 height · 2 width · 3 colorspace, RGB = 3 · 4 encoded_image_string
    TensorProto 1 dtype, string = 7 · 2 tensor_shape: 2 dim: 1 size · 8 string_val
    Metadata    1 plugin_data: 1 plugin_name string
    SessionLog  1 status, START = 1

They are put together here: tensorboardX imports PyTorch wherever it is installed, seconds of every start.
"""

import socket
import struct
import time
from collections.abc import Mapping

import numpy as np
from etils import epath

from srum_jax.data.tfrecord import frame
from srum_jax.generation.image_store import encode_image
from srum_jax.storage.growing_file import GrowingFile

_VERSION = b"\x1a\x0dbrain.Event:2"
_STARTED = b"\x3a\x02\x08\x01"


def new_events(directory: epath.Path, first_step: int) -> GrowingFile:
    """A new event file; `scalars` are appended to it.

    Args:
      directory: that TensorBoard is shown.
      first_step: updates done so far; TensorBoard hides what an earlier start wrote beyond it.
    """
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.from_step_{first_step}"
    return GrowingFile(directory / name, _event(0, _VERSION) + _event(first_step + 1, _STARTED))


def scalars(step: int, values: dict[str, float]) -> bytes:
    """Scalars by name, as bytes of an event file."""
    return _event(step, _message(5, b"".join(_message(1, _scalar(name, value)) for name, value in values.items())))


def shown(step: int, pictures: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> bytes:
    """A whole event file of pictures, uint8 [H, W, 3], and texts (Markdown), by name."""
    values = [_picture(name, pixels) for name, pixels in pictures.items()]
    values += [_text(name, text) for name, text in texts.items()]
    return _event(0, _VERSION) + _event(step, _message(5, b"".join(_message(1, value) for value in values)))


def _event(step: int, content: bytes) -> bytes:
    return frame(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + content)


def _scalar(name: str, value: float) -> bytes:
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        return _message(1, name.encode()) + b"\x15" + np.float32(value).astype("<f4").tobytes()


def _picture(name: str, pixels: np.ndarray) -> bytes:
    height, width = (_varint(size) for size in pixels.shape[:2])
    image = b"\x08" + height + b"\x10" + width + b"\x18\x03" + _message(4, encode_image(pixels, "png", {}))
    return _message(1, name.encode()) + _message(4, image)


def _text(name: str, text: str) -> bytes:
    one = _message(2, _message(2, b"\x08\x01"))
    tensor = b"\x08\x07" + one + _message(8, text.encode())
    return _message(1, name.encode()) + _message(8, tensor) + _message(9, _message(1, _message(1, b"text")))


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
