"""Scalars for TensorBoard: a TFRecord file of `tensorflow.Event` messages.

    Event       1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7 session_log
    Summary     1 value, repeated: 1 tag string, 2 simple_value float
    SessionLog  1 status, START = 1

They are put together here: tensorboardX imports PyTorch wherever it is installed, seconds of every start.
"""

import pathlib
import shutil
import socket
import struct
import tempfile
import time

import numpy as np
from etils import epath

from srum_jax.data.tfrecord import frame
from srum_jax.storage.object_store import is_local, put_file

_VERSION = b"\x1a\x0dbrain.Event:2"
_STARTED = b"\x3a\x02\x08\x01"


class TensorBoardEvents:
    """An event file in a directory. For a directory in a bucket it grows on the disk, and is copied whole."""

    def __init__(self, directory: epath.Path, first_step: int):
        """Begins the file.

        Args:
          directory: that TensorBoard is shown.
          first_step: updates done so far; TensorBoard hides what an earlier start wrote beyond it.
        """
        self._directory = directory
        self._copied_from = None if is_local(directory) else pathlib.Path(tempfile.mkdtemp(prefix="tensorboard-"))
        folder = pathlib.Path(self._copied_from or directory)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.from_step_{first_step}"
        self._file = (folder / name).open("ab")
        self._write(0, _VERSION)
        self._write(first_step + 1, _STARTED)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars by name."""
        self._write(step, _message(5, b"".join(_message(1, _scalar(name, value)) for name, value in values.items())))
        if self._copied_from is None:
            self._file.flush()

    def flush(self) -> None:
        """Copies the file into the bucket."""
        if self._copied_from is not None:
            self._file.flush()
            self._copy()

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()
        if self._copied_from is not None:
            self._copy()
            shutil.rmtree(self._copied_from)

    def _copy(self) -> None:
        for file in self._copied_from.iterdir():
            put_file(self._directory / file.name, file)

    def _write(self, step: int, content: bytes) -> None:
        self._file.write(frame(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + content))


def _scalar(name: str, value: float) -> bytes:
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        return _message(1, name.encode()) + b"\x15" + np.float32(value).astype("<f4").tobytes()


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
