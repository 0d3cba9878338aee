"""Scalars for TensorBoard."""

import os
import pathlib
import shutil
import tempfile
import time

from etils import epath

from srum_jax.storage.object_store import is_local, put_file


class TensorBoardEvents:
    """An event file in a directory. For a directory in a bucket it grows on the disk, and is copied whole."""

    def __init__(self, directory: epath.Path, first_step: int):
        """Begins the file.

        Args:
          directory: that TensorBoard is shown.
          first_step: updates done so far; TensorBoard hides what an earlier start wrote beyond it.
        """
        # Imports PyTorch where it is installed: seconds that only a run spends.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._directory = directory
        self._copied_from = None if is_local(directory) else pathlib.Path(tempfile.mkdtemp(prefix="tensorboard-"))
        folder = self._copied_from or directory
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(os.path.join(folder, "events"), filename_suffix=f".from_step_{first_step}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._file.write_event(self._event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars by name."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._file.write_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=scalars)))
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
