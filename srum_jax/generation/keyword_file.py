"""Keywords that the user gives for prompts, in place of those that the rules find."""

import dataclasses
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import PromptList
from srum_jax.rewards.judgement.words import lemma, tokens
from srum_jax.storage.reading import json_lines


def with_keywords(prompts: PromptList, path: epath.PathLike) -> PromptList:
    """The prompts with the keywords of a file; those that it does not name keep theirs.

    Args:
      prompts: of a run.
      path: JSON lines `{"id": ..., "keywords": [...]}`; `id` is that of the prompt file. Keywords are single words;
        they are brought to their base form, as the words of prompts are.

    Raises:
      TextFileError: it cannot be read.
      BadInput: naming the line, the field, what was expected and what was found.
    """
    given = _read(epath.Path(path))
    known = {prompt.source_id for prompt in prompts.rows} | {row.source_id for row in prompts.bad}
    for source_id, (line, _) in given.items():
        if source_id not in known:
            raise BadInput(f"--keywords {path}:{line}: field 'id': expected an id of the prompt file, found "
                                   f"{source_id!r}.")
    rows = [
        dataclasses.replace(prompt, keywords=given[prompt.source_id][1]) if prompt.source_id in given else prompt
        for prompt in prompts.rows
    ]
    return dataclasses.replace(prompts, rows=rows)


def _read(path: epath.Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Id to line number and keywords."""
    given: dict[str, tuple[int, tuple[str, ...]]] = {}
    for number, entry in json_lines(path):
        where = f"--keywords {path}:{number}"
        source_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(source_id, bool) or not isinstance(source_id, int | str):
            raise BadInput(f"{where}: field 'id': expected the id of a prompt, found {source_id!r}.")
        if str(source_id) in given:
            raise BadInput(f"{where}: field 'id': {str(source_id)!r} is also in line {given[str(source_id)][0]}"
                                   ".")
        given[str(source_id)] = number, _keywords(entry.get("keywords"), where)
    return given


def _keywords(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise BadInput(f"{where}: field 'keywords': expected a list of words, found {values!r}.")
    found = []
    for value in values:
        words = tokens(value)
        if len(words) != 1:
            raise BadInput(f"{where}: field 'keywords': expected single words, found {value!r}; a name of two "
                                   "words is two keywords.")
        found.append(lemma(words[0]))
    return tuple(dict.fromkeys(found))
