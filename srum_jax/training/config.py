"""How long a run is, and what it leaves behind."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Steps, intervals, accumulation."""

    steps: int = 1000  # updates
    accumulation_steps: int = 1  # micro-batches per update
    log_every: int = 10  # updates between lines
    save_every: int = 250  # updates between checkpoints; the last update is always saved
    keep: int = 3  # checkpoints that stay
    profile_first_step: int | None = None  # the first update of a profiler trace; None: only when one is asked for
    profile_steps: int = 3  # updates of a trace

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(f"training.{field.name}: expected a positive number, found {value}.")
