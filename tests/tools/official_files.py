"""Judged images in the authors' form, and a folder that imports them."""

import json

from srum_jax.data.example_proto import decode_record
from srum_jax.data.records_source import RecordsSource
from tests.data.made_up import image_bytes
from tools.make_rewards.__main__ import main


def training_form(image="a.png", score=0.5, regions=(), **changes):
    rewards = [{"object": "global_layout_reward", "bbox": [0, 0, 48, 40], "score": score, "reason": "fine"}]
    return {"bad_image_file": image, "good_image_file": image, "prompt": "a cup",
            "vlm_rewards": rewards + list(regions)} | changes


def region(box, score=0.25, **changes):
    return {"object": "cup", "bbox": box, "score": score} | changes


class Folder:
    def __init__(self, path):
        self.path, self.images = path, path / "images"
        self.images.mkdir()
        for name, seed in (("a.png", 1), ("b.png", 2), ("c.png", 3)):
            (self.images / name).write_bytes(image_bytes(seed, 48, 40))

    def run(self, entries, *options):
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        (self.path / "in.jsonl").write_text("\n".join(lines) + "\n")
        return main(["import-jsonl", "--jsonl", str(self.path / "in.jsonl"), "--images", str(self.images),
                     "--out", str(self.path / "out"), *options])

    @property
    def records(self):
        source = RecordsSource(self.path / "out")
        return [decode_record(source.read(i)) for i in range(len(source))]

    @property
    def rejects(self):
        text = (self.path / "out" / "rejects" / "import-00000-of-00001.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    @property
    def summary(self):
        return json.loads((self.path / "out" / "summary-import.json").read_text())
