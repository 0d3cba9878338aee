"""Lists of prompts as files, in the form that T2I-CompBench's come in."""

import json
import os
from collections.abc import Sequence

import numpy as np
from etils import epath

from srum_jax.data.atomic_file import write_text
from srum_jax.worlds.shapes.prompts import prompt_text, sample_prompt
from srum_jax.worlds.shapes.scene import CATEGORIES, Prompt

PROMPT_FORMAT = "t2i_compbench"
_TRIES = 200  # for a new sentence


def balanced_prompts(per_category: int, seed: int, *, held_out: bool) -> list[Prompt]:
    """As many prompts of each category, in the order of categories.

    No sentence comes again before its category has hardly a new one left: the smallest, "shape", has about 20 that are
    held out.

    Args:
      per_category: how many.
      seed: of the draw.
      held_out: which of the two sets.
    """
    prompts = []
    for number, category in enumerate(CATEGORIES):
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        seen: set[str] = set()
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


def write_prompt_file(path: epath.PathLike, prompts: Sequence[Prompt]) -> None:
    """Writes prompts as a JSON array with `Question`, `Category` and `Question_id`, unless the same are there.

    Raises:
      ValueError: another list is there.
    """
    path = epath.Path(path)
    rows = [{"Question": prompt_text(prompt), "Category": prompt.category, "Question_id": number}
            for number, prompt in enumerate(prompts, start=1)]
    text = json.dumps(rows, indent=1) + "\n"
    if path.exists():
        if path.read_text() != text:
            raise ValueError(f"{os.fspath(path)}: expected the {len(rows)} prompts of this experiment, found others; "
                             "choose another folder.")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
