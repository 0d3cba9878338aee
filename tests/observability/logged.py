"""What a run has logged, read again."""

import json

from srum_jax.observability.report import METRICS_FILE


def lines(directory):
    return [json.loads(line) for line in (directory / METRICS_FILE).read_text().splitlines()]


def events_of(path):
    """The events of a file, read as TFRecords."""
    from tensorboardX.proto import event_pb2  # takes a second: only those who read events wait for it
    from tensorboardX.record_writer import masked_crc32c

    data, place = path.read_bytes(), 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        payload = data[place + 12 : place + 12 + length]
        assert int.from_bytes(data[place + 12 + length : place + 16 + length], "little") == masked_crc32c(payload)
        yield event_pb2.Event.FromString(payload)
        place += 16 + length


def events(directory):
    """Every scalar of the event files in the order of their names."""
    return [(event.step, value.tag, value.simple_value)
            for path in sorted((directory / "tensorboard").iterdir(), key=str)
            for event in events_of(path) for value in event.summary.value]
