"""Lists of prompts as files, in the form that T2I-CompBench's come in."""

import json
import os
from collections.abc import Collection, Sequence

import numpy as np
from etils import epath

from srum_jax.rewards.judgement.breakdown import as_json
from srum_jax.storage.atomic_file import write_text
from srum_jax.worlds.shapes.prompts import prompt_text, sample_prompt
from srum_jax.worlds.shapes.questions import yes_no_questions
from srum_jax.worlds.shapes.scene import CATEGORIES, Prompt

PROMPT_FORMAT = "t2i_compbench"
_TRIES = 200  # for a new sentence


def balanced_prompts(per_category: int, seed: int, *, held_out: bool, last: Collection[str] = ()) -> list[Prompt]:
    """As many prompts of each category, in the order of categories.

    No sentence comes again before its category has hardly a new one left: the smallest, "shape", has about 20 that are
    held out.

    Args:
      per_category: how many.
      seed: of the draw.
      held_out: which of the two sets.
      last: sentences that come only where a category has hardly another.
    """
    prompts = []
    for number, category in enumerate(CATEGORIES):
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        seen = set(last)
        for _ in range(per_category):
            for _ in range(_TRIES):
                prompt = sample_prompt(rng, category, held_out)
                if prompt_text(prompt) not in seen:
                    break
            else:
                seen.clear()
            seen.add(prompt_text(prompt))
            prompts.append(prompt)
    return prompts


def write_prompt_files(folder: epath.PathLike, prompts: Sequence[Prompt]) -> tuple[epath.Path, epath.Path]:
    """Writes `prompts.json` and `keywords.jsonl` into a folder, unless the same are there.

    The first is a JSON array with `Question`, `Category` and `Question_id`. The second names the shapes that a prompt
    asks for: the rules for English take them for adjectives.

    Returns:
      Both paths.

    Raises:
      ValueError: other lists are there.
    """
    rows = [{"Question": prompt_text(prompt), "Category": prompt.category, "Question_id": number}
            for number, prompt in enumerate(prompts, start=1)]
    words = [{"id": number, "keywords": list(dict.fromkeys(phrase.shape for phrase in prompt.phrases))}
             for number, prompt in enumerate(prompts, start=1)]
    folder = epath.Path(folder)
    return (_write_once(folder / "prompts.json", json.dumps(rows, indent=1) + "\n"),
            _write_once(folder / "keywords.jsonl", "".join(json.dumps(line) + "\n" for line in words)))


def write_questions(folder: epath.PathLike, prompts: Sequence[Prompt]) -> epath.Path:
    """Writes `questions.jsonl`, which `make_rewards judge --mode questions` takes, as `write_prompt_files` writes."""
    lines = {prompt_text(prompt): as_json(yes_no_questions(prompt)) for prompt in prompts}
    return _write_once(epath.Path(folder) / "questions.jsonl", "".join(
        json.dumps({"prompt": text, "questions": questions}) + "\n" for text, questions in lines.items()))


def _write_once(path: epath.Path, text: str) -> epath.Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    elif path.read_text() != text:
        raise ValueError(f"{os.fspath(path)}: expected the prompts of this experiment, found others; choose another "
                         "folder.")
    return path
