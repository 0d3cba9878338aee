"""Settings of the dual rewards (`dual_likelihood.py`). Imports no array library."""

import dataclasses

DEFAULT_REQUEST = "Describe the image in detail."


@dataclasses.dataclass(frozen=True)
class DualRewards:
    """How both rewards are computed. The defaults are ours: the paper's are not known."""

    request: str = DEFAULT_REQUEST  # what a picture is captioned to, and a prompt is the answer to
    count_end: bool = False  # whether the marker that ends a prompt is one of its tokens
    draws: int = 8  # of noise, for the R_U of a flow model; a model of codes needs none
    low: float = 0.5  # times of the draws lie from here
    high: float = 1.0  # to here, one in each of equal parts

    def __post_init__(self):
        if not self.request.strip():
            raise ValueError(f"request: expected a text, found {self.request!r}.")
        if self.draws < 1:
            raise ValueError(f"draws: expected a positive number, found {self.draws}.")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low, high: expected times 0 <= low < high <= 1, found {self.low} and {self.high}.")
