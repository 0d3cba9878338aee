"""What decides the weights of the tiny SAM."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """How pictures and prompts are drawn; shares lie in [0, 1]."""

    pictures: int = 12  # of a batch
    prompts: int = 8  # of each picture
    free: float = 0.35  # share of the pictures with objects anywhere
    overlapping: float = 0.25  # share of the others with two objects one of which covers a part of the other
    warped: float = 0.3  # share whose shapes are bent
    crisp: float = 0.25  # share that is not spoilt at all
    anywhere: float = 0.35  # share of the points that lie anywhere; the others lie on objects
    border: float = 0.4  # share of the points on objects that lie beside their border


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the weights."""

    start: str = ""  # SHA-256 of the weights that it starts from; empty: random ones
    steps: int = 3200
    seed: int = 0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup: int = 100  # steps
    average: float = 0.995  # share of the running mean of the weights that a step keeps
    iou_weight: float = 1.0
    sharpness: float = 2.0  # mask logits are multiplied by it after training
    samples: SampleSettings = dataclasses.field(default_factory=SampleSettings)
