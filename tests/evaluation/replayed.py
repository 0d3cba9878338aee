"""Recorded replies for made-up items, and the real command on them: no picture is looked at and nobody is asked."""

import json
import os
import pathlib

from srum_jax import evaluate

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = pathlib.Path(os.environ.get("SRUM_DATA", ROOT.parent / "shared" / "data"))  # public prompt files
JUDGE = {"id": "Qwen2.5-VL-72B-Instruct", "revision": "made up"}


def reply(item_id, text, call="score", image=0, attempt=1):
    return {"item_id": item_id, "image": image, "call": call, "attempt": attempt, "text": text,
            "finish_reason": "stop", "judge": JUDGE}


class Evaluation:
    """A folder of an evaluation that replays."""

    def __init__(self, folder, benchmark, **files):
        self.folder, self.benchmark, self.out = folder, benchmark, folder / "out"
        self.paths = []
        for name, content in files.items():
            path = folder / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
            self.paths.append(str(path))

    def run(self, replies, *arguments):
        path = self.folder / "replies.jsonl"
        path.write_text("".join(json.dumps({"benchmark": self.benchmark, **line}) + "\n" for line in replies))
        return self.call("--judge", f"replay:{path}", *arguments)

    def call(self, *arguments):
        prompts = ["--prompts", *self.paths] if self.paths else []
        return evaluate.main(["--benchmark", self.benchmark, *prompts, "--out", str(self.out),
                              "--images", str(self.folder), *map(str, arguments)])

    @property
    def results(self):
        return json.loads((self.out / "results.json").read_text())

    @property
    def means(self):
        return {name: found["mean"] if isinstance(found, dict) else found
                for name, found in self.results["scores"].items()}
