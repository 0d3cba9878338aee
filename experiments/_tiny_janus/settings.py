"""How the tiny Janus-Pro is trained. Imports no array library: commands show these numbers in `--help`."""

import dataclasses

JANUS_STAGES = ("codes", "pixels", "joint", "export")  # "pixels" and "joint" need "codes" alone


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
    """Of everything else, in one stage."""

    steps: int = 3600
    pictures: int = 14  # to draw, in a step
    questions: int = 18  # to answer, in a step
    learning_rate: float = 3e-3  # after 200 steps of warm-up; falls linearly to 0 over the last fifth of the steps
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
