"""How the tiny BAGELs are trained. Imports no array library: commands show these numbers in `--help`."""

import dataclasses

PRETRAINING_STAGES = ("encoder", "decoder", "joint", "generator", "export")  # each needs those before it


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """What is learned from."""

    wrong_captions: float = 0.35  # share of pictures to generate with a mistake that their caption does not tell
    wrong_pictures: float = 0.5  # share of pictures to judge with a mistake
    strange_prompts: float = 0.12  # share of pictures to judge by the prompt of another picture
    shares: tuple[float, float, float] = (0.3, 0.4, 0.3)  # of questions: seen, whole, region
    text_dropout: float = 0.1  # share of pictures to generate without caption
    shaken_boxes: float = 0.3  # share of boxes with each side moved by up to a pixel


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """Settings of one stage."""

    steps: int
    batch_size: int
    learning_rate: float  # highest; falls to 0 by a cosine after 3 % of warm-up
    strongest_noise: float
    penalty: float = 0.0
    average: float = 0.998  # share of the running mean of the weights that a step keeps


ENCODER_STAGE = StageSettings(steps=5000, batch_size=32, learning_rate=2e-3, strongest_noise=0.6, penalty=1e-3)
DECODER_STAGE = StageSettings(steps=6000, batch_size=8, learning_rate=2e-3, strongest_noise=0.7)


@dataclasses.dataclass(frozen=True)
class JointSettings:
    """Settings of the run."""

    steps: int = 8000
    pictures: int = 48  # to generate, in a step
    questions: int = 48  # to answer, in a step
    learning_rate: float = 1.5e-3  # after 200 steps of warm-up; falls linearly to 0 over the last fifth of the steps
    weight_decay: float = 0.01
    average: float = 0.998  # share of the running mean of the weights that a step keeps
    timestep_shift: float = 1.0  # of the training times


@dataclasses.dataclass(frozen=True)
class GeneratorSettings:
    """Settings of the stage."""

    steps: int = 10000
    pictures: int = 64  # in a step
    learning_rate: float = 1.5e-3  # after 200 steps of warm-up; falls linearly to 0 over the last fifth of the steps
    weight_decay: float = 0.01
    average: float = 0.998  # share of the running mean of the weights that a step keeps
    timestep_shift: float = 3.0  # of the training times
    tidy: bool = True  # places and sizes follow from the prompt


@dataclasses.dataclass(frozen=True)
class ThinkSettings:
    """Settings of the training."""

    plans: bool = True  # False: the control
    steps: int = 1000
    planned: int = 32  # pictures with a plan, in a step
    pictures: int = 16  # without one
    questions: int = 16
    learning_rate: float = 1e-3  # after a tenth of the steps; falls linearly to 0 over the last fifth
    weight_decay: float = 0.01
    average: float = 0.99  # share of the running mean of the weights that a step keeps
