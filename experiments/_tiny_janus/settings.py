"""How the tiny Janus-Pro is trained. Imports no array library: commands show these numbers in `--help`."""

import dataclasses

JANUS_STAGES = ("codes", "pixels", "joint", "judge", "export")  # "pixels" and "joint" need "codes" alone


@dataclasses.dataclass(frozen=True)
class CodesSettings:
    """Of the encoder of the picture tokenizer and its codebook."""

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3  # highest; falls to 0 by a cosine after 3 % of warm-up
    commitment: float = 0.25  # weight of the distance to the chosen row
    keep: float = 0.98  # share of a row's running mean that a step keeps
    rare: float = 0.05  # cells of a step's mean below which a row is given to a cell that fits badly
    average: float = 0.99  # share of the running mean of the weights that a step keeps


@dataclasses.dataclass(frozen=True)
class PixelsSettings:
    """Of the decoder of the picture tokenizer."""

    steps: int = 3000
    batch_size: int = 8
    learning_rate: float = 2e-3  # as above
    average: float = 0.998


@dataclasses.dataclass(frozen=True)
class JanusJointSettings:
    """Of everything else at once."""

    steps: int = 3600
    pictures: int = 14  # to draw, in a step
    questions: int = 18  # to answer, in a step
    learning_rate: float = 3e-3  # falls linearly to 0 over the last fifth of the steps
    warmup: int = 200  # steps
    weight_decay: float = 0.01
    average: float = 0.995  # share of the running mean of the weights that a step keeps
    wrong_captions: float = 0.35  # share of pictures to draw with a mistake that their caption does not tell
    text_dropout: float = 0.1  # share of pictures to draw without caption
    wrong_pictures: float = 0.5  # share of pictures to judge with a mistake
    strange_prompts: float = 0.12  # share of pictures to judge by the prompt of another picture
    tidy: float = 0.7  # share of pictures to read whose places and sizes follow from the prompt
    drawings: int = 20000  # pictures that the drawn ones are chosen from, and likewise
    readings: int = 18000
    shares: tuple[float, float, float, float] = (0.1, 0.35, 0.25, 0.3)  # of questions: seen, whole, region, caption


@dataclasses.dataclass(frozen=True)
class JanusJudgeSettings:
    """Of more questions for the judge, while drawing goes on."""

    steps: int = 2400
    pictures: int = 6  # to draw, in a step
    questions: int = 48  # to answer, in a step
    learning_rate: float = 2e-3  # falls linearly to 0 over the last fifth of the steps
    warmup: int = 200  # steps
    weight_decay: float = 0.01
    average: float = 0.995  # share of the running mean of the weights that a step keeps
    wrong_captions: float = 0.35  # share of pictures to draw with a mistake that their caption does not tell
    text_dropout: float = 0.1  # share of pictures to draw without caption
    drawings: int = 6000  # pictures that the drawn ones are chosen from
    views: int = 10000  # pictures that are asked about, each with one caption or list of objects, and with
    wholes: int = 2  # questions about the whole, and
    regions: int = 3  # about an object, each with a sentence of its own:
    near_prompts: float = 0.4  # share of sentences that say one thing differently, and
    strange_prompts: float = 0.1  # share of sentences of other pictures
    wrong_pictures: float = 0.3  # share of pictures that were drawn with a mistake
    wrong_regions: float = 0.65  # share of questions about objects that are wrong, where both kinds are seen
    tidy: float = 0.7  # share of these pictures whose places and sizes follow from the prompt
    score_weight: float = 3.0  # of the token that states a score, times that of the others of its answer
