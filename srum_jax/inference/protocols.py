"""What generation, judges and stages need of a model, whatever its family."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from srum_jax.inference.requests import Answer, GeneratedImage, ImageRequest, Question
from srum_jax.inference.settings import TextSampler

if TYPE_CHECKING:
    from flax import nnx

# Called after each step of sampling, when it has been computed, with its number, from 0, and how many there are; its
# time, falling from 1; and a function that gives the images that the model has in view there, uint8 [H, W, 3] by number
# of the request. Requests that cannot share a batch are sampled one batch after another, each from step 0.
OnStep = Callable[[int, int, float, Callable[[], dict[int, np.ndarray]]], None]
# Called while plans are written, every few tokens, with what is there of each, by number of the request.
OnPlan = Callable[[dict[int, str]], None]


class Checker(Protocol):
    """Says whether a request can be served, without computing anything."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels of images whose request names none, and has no picture."""

    def check(self, request: ImageRequest | Question) -> None:
        """Raises RequestError, naming the field, what was expected and what was found."""


class Generator(Checker, Protocol):
    """Makes images."""

    @property
    def rows_multiple(self) -> int:
        """Batches are filled up to a multiple of this many rows."""

    def generate(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, on_step: OnStep | None = None,
        on_plan: OnPlan | None = None,
    ) -> list[GeneratedImage]:
        """One image per request, which does not depend on the other requests.

        Args:
          requests: prompts of any lengths, images of any sizes; edits and plain requests may be mixed.
          plan: how to write the plan that precedes the image in think mode; None for no plan.
          on_step: see `OnStep`; without it nothing waits for a step.
          on_plan: see `OnPlan`; likewise.

        Raises:
          RequestError: a request cannot be served; says which.
          Failure: the model computed something that is not a number.
        """

    def with_parameters(self, parameters: "nnx.State") -> "Generator":
        """The same with other weights, cast like those that they replace; nothing is compiled again.

        Args:
          parameters: some or all arrays of the model.

        Raises:
          ValueError: the model has no such parameter, or one of another shape.
        """


class Scorer(Protocol):
    """Says how likely the model makes what it is given: the dual rewards (`rewards.dual_likelihood`).

    Attributes:
      exact: whether the score of a picture is a log likelihood; otherwise errors stand in its place.
    """

    exact: bool

    def texts(
        self, questions: Sequence[Question], answers: Sequence[str], *, count_end: bool = False, total: bool = False
    ) -> np.ndarray:
        """Mean log probability per token of each answer, at temperature 1; float32 [N]. See `dual_likelihood`: R_G.

        Args:
          questions: with the pictures that they are about.
          answers: as many; texts.
          count_end: whether the marker that ends an answer is one of its tokens.
          total: the sum over tokens instead of the mean, to compare answers as a whole.

        Raises:
          RequestError: one of them cannot be read; says which.
        """

    def pictures(
        self, requests: Sequence[ImageRequest], pictures: Sequence[np.ndarray], times: np.ndarray
    ) -> np.ndarray:
        """What R_U is the mean of, float32 [N, K]: minus the velocity error at each time; [N, 1] where `exact`.

        Args:
          requests: prompts, and seeds of the noise; where two seeds are equal, so is everything that is drawn.
          pictures: uint8 [H, W, 3], as many.
          times: float32 [N, K] on the flow's path; a model of codes has no use for them.

        Raises:
          RequestError: as for `texts`.
        """


class Neurons(Protocol):
    """Says what neurons of the language model's gated MLPs do: those that see tokens of both tasks, or all.

    A neuron is a channel of a layer; its value for a sample is the mean over the sample's tokens that pass through its
    MLP of silu(W_gate h), or, `gated`, of |silu(W_gate h) (W_up h)| (SRUM, Algorithm 1). A sample's value does not
    depend on the others.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and channels; of all experts: those of the understanding expert first."""

    def of_all_experts(self, sampler: Any) -> "Neurons":
        """Those of the experts that only make pictures too; a neuron whose expert gets no token of a sample is 0.

        While a prompt is read, their value is the mean over the noised tokens of the model's own picture, at times
        0.25, 0.5, 0.75 and 0.95, under noise that follows from the request's seed.

        Args:
          sampler: of the pictures, of the family's kind.
        """

    def answering(self, questions: Sequence[Question], answers: Sequence[str], *, gated: bool = False) -> np.ndarray:
        """While a question is read, and an answer after it; float32 [N, layers, channels].

        Args:
          questions: with the pictures that they are about.
          answers: as many; an empty one is left out.
          gated: which of the values.

        Raises:
          RequestError: one of them cannot be read; says which.
        """

    def drawing(
        self, requests: Sequence[ImageRequest], *, plan: TextSampler | None = None, gated: bool = False
    ) -> np.ndarray:
        """While the prompt of a picture to be made is read, and the plan that the model writes; else as `answering`.

        Args:
          requests: without pictures of their own.
          plan: how to write the plan; None for no plan.
          gated: which of the values.
        """


class Answerer(Checker, Protocol):
    """Answers questions."""

    def answer(
        self,
        questions: Sequence[Question],
        *,
        sampler: TextSampler | None = None,
        think: bool = False,
        allow_non_finite: bool = False,
    ) -> list[Answer]:
        """Answers every question, all in one batch; an answer does not depend on the other questions.

        Args:
          questions: with any number of images each.
          sampler: None for greedy decoding with the default limit.
          think: whether to ask for reasoning first; it is split from the answer.
          allow_non_finite: whether answers of numbers that are none are marked as not `healthy` instead of raised.

        Raises:
          RequestError: a question cannot be answered; says which.
          Failure: the model computed something that is not a number.
        """
