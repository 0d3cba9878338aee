"""How many of a model's captions are right: the oracle looks at the picture that each was said of."""

import json

import numpy as np
from etils import epath

from experiments._tiny_bagel.samples import picture_of
from experiments._tiny_bases.measure import ask, captions_right, load_tiny
from srum_jax.inference.settings import TextSampler
from srum_jax.storage.atomic_file import write_json
from srum_jax.worlds.shapes.questions import CAPTION_QUESTION
from srum_jax.worlds.shapes.records import sample_example

_SEED = 2003
# The second as rounds draw them.
WAYS = {"greedy": TextSampler(max_tokens=40), "sampled": TextSampler(max_tokens=40, temperature=1.0)}


def right_captions(path: epath.Path, checkpoint: epath.PathLike, count: int) -> dict[str, np.ndarray]:
    """Marks of captions of the same drawn held-out pictures, made unless they are there.

    Args:
      path: of the file that keeps them.
      checkpoint: of the model that says them.
      count: of pictures, N.

    Returns:
      By way of WAYS, float64 [N]: 1 where the picture shows all that is said and nothing else.
    """
    found = json.loads(path.read_text()) if path.exists() else {}
    if any(len(found.get(way, ())) != count for way in WAYS):
        pictures = [picture_of(sample_example(_SEED, number, 0.0, held_out=True, tidy=True)) for number in range(count)]
        pipeline = load_tiny(checkpoint)
        for way, sampler in WAYS.items():
            said = ask(pipeline, [CAPTION_QUESTION] * count, pictures, sampler)
            found[way] = [float(bool(right)) for right in captions_right(said, pictures)]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return {way: np.array(found[way]) for way in WAYS}
