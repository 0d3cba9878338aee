"""What the page asks of one checkpoint, without the page: draw, edit, ask, judge, weigh.

All of it is done by what the commands and training use; here it is only put together for one person at a time.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from srum_jax.data.example import Example, Picture
from srum_jax.data.record_reader import RECORD_ERRORS
from srum_jax.data.schema import Region
from srum_jax.demo.proposing import Proposing
from srum_jax.demo.settings import DemoSettings
from srum_jax.errors import BadInput
from srum_jax.families.family import Family
from srum_jax.generation.prompts import Prompt
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.requests import Answer, GeneratedImage, ImageRequest, Question, RequestError
from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.own_model import ModelJudge
from srum_jax.objectives.config import RewardWeighted
from srum_jax.objectives.reward_weighted import reward_weight
from srum_jax.pipeline import Pipeline
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.rewards.judgement.judge_record import Subject, judge_record
from srum_jax.rewards.proposals import Proposal
from srum_jax.rewards.reward_map import VARIANTS, RewardMapConfig
from srum_jax.rewards.token_grid import Grid

NUM_FRAMES = 8  # of the steps of sampling, evenly spaced, that are decoded

# Called while work goes on: what is being done, pictures uint8 [H, W, 3] that are in view meanwhile, and plans that are
# being written, as far as they are. See `watched.watched`.
Tell = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What a model cannot do, and why, in one sentence each; None where it can."""

    draw: str | None
    plan: str | None
    steps: str | None
    edit: str | None
    ask: str | None

    @property
    def judge(self) -> str | None:
        """It judges by answering."""
        return self.ask


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the model had in view at one step of sampling."""

    number: int  # from 0
    time: float  # 1 is noise
    pixels: np.ndarray  # uint8 [H, W, 3]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One picture that was drawn, and how it came about."""

    made: GeneratedImage
    prompt: str
    seed: int
    frames: tuple[Frame, ...] = ()


@dataclasses.dataclass(frozen=True)
class Weighed:
    """What one reading of the rewards makes of a picture, on the grid of tokens [h, w] that training gives it."""

    alpha: float
    reward_map: np.ndarray  # float32 [h, w]: R
    weight: np.ndarray  # float32 [h, w]: the factor of each token's error in the reward term of the loss
    grid: Grid
    ends: tuple[float, float, float]  # what R is at least, where no region lies, and at most


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a model said of one picture.

    Attributes:
      pixels: uint8 [H, W, 3].
      prompt: that it was judged by.
      provider: of the regions.
      proposals: regions that were proposed, largest first.
      record: see `judge_record`.
      asked: every question and its reply.
      weighed: by the name of the reading; where it makes no weights, why not.
    """

    pixels: np.ndarray
    prompt: str
    provider: str
    proposals: Sequence[Proposal]
    record: Mapping[str, Any]
    asked: Sequence[tuple[Call, Reply]]
    weighed: Mapping[str, Weighed | str] = dataclasses.field(default_factory=dict)

    @property
    def image_width(self) -> int:
        """See `Judged`; pixels."""
        return self.pixels.shape[1]

    @property
    def image_height(self) -> int:
        """See `Judged`; pixels."""
        return self.pixels.shape[0]

    @property
    def regions(self) -> Sequence[Region]:
        """See `Judged`."""
        return [Region(Box(*region["box"]), region["score"]) for region in self.record["regions"]]

    @property
    def global_score(self) -> float | None:
        """See `Judged`."""
        return None if self.record["global"] is None else self.record["global"]["score"]


class Engine:
    """One checkpoint at work."""

    def __init__(self, name: str, family: Family, files: SmallFiles, pipeline: Pipeline, settings: DemoSettings):
        """Puts a loaded model to work.

        Args:
          name: of the checkpoint, to be shown.
          family: that it belongs to.
          files: of the checkpoint.
          pipeline: the model.
          settings: how it draws, judges and would be trained.

        Raises:
          BadInput: the experiment's rows are none of this family.
        """
        if settings.rows is not None and not isinstance(settings.rows, family.rows):
            raise BadInput(f"--experiment: expected one that trains {family.architecture.name}, found rows of another "
                           f"family ({type(settings.rows).__name__}); choose one for the model of --checkpoint.")
        self.name, self.family, self.settings = name, family, settings
        self._files, self._pipeline = files, pipeline
        self.abilities = _abilities(family, pipeline)
        judge = ModelJudge(pipeline, settings.judge_batch_size)
        frame = family.box_frame
        self._box_frame = None if frame is None else lambda height, width: frame(files.config, height, width)
        self.proposing = Proposing(settings, judge, self._box_frame if self.abilities.judge is None else None)
        self._judge = judge

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels of what it draws."""
        return self._pipeline.generator.default_size

    def draw(self, prompt: str, seed: int, count: int, *, plan: bool, steps: bool, tell: Tell) -> list[Candidate]:
        """Pictures with the seeds `seed`, `seed + 1`, ..., all in one batch.

        Args:
          prompt: what they are to show.
          seed: of the first.
          count: how many.
          plan: whether a plan is written first.
          steps: whether to tell every step, and to show and keep what is in view at some of them.
          tell: see `Tell`.

        Raises:
          RequestError: the model cannot draw this.
          Failure: it computed something that is not a number.
        """
        requests = [ImageRequest(prompt, seed + number) for number in range(count)]
        frames: list[list[Frame]] = [[] for _ in requests]

        def on_plan(texts: dict[int, str]) -> None:
            tell("planning", plans=[texts[row] for row in range(count)])

        def on_step(number: int, total: int, time: float, view: Callable[[], dict[int, np.ndarray]]) -> None:
            pictures = view() if number in _evenly(total) else {}
            for row, pixels in pictures.items():
                frames[row].append(Frame(number, time, pixels))
            tell(f"step {number + 1} of {total}", [pictures[row] for row in range(count)] if pictures else ())

        tell("planning" if plan else "drawing")
        made = self._pipeline.generate(requests, plan=self.settings.plan if plan else None,
                                       on_plan=on_plan if plan else None, on_step=on_step if steps else None)
        return [Candidate(image, prompt, request.seed, tuple(of_row))
                for image, request, of_row in zip(made, requests, frames, strict=True)]

    def edit(self, pixels: np.ndarray, prompt: str, seed: int, tell: Tell) -> Candidate:
        """Changes a picture; raises as `draw` does."""
        tell("changing the picture")
        return Candidate(self._pipeline.generate([ImageRequest(prompt, seed, image=pixels)])[0], prompt, seed)

    def ask(self, pixels: np.ndarray | None, question: str, think: bool, tell: Tell) -> Answer:
        """Answers a question, about a picture or none; raises as `draw` does."""
        tell("reading and answering")
        asked = Question(question, () if pixels is None else (pixels,))
        return self._pipeline.answer([asked], sampler=self.settings.answer, think=think)[0]

    def judge(self, pictures: Sequence[np.ndarray], prompt: str, provider: str, tell: Tell) -> list[Judgement]:
        """Regions of pictures, what the model says of each, and what training would make of that.

        Args:
          pictures: uint8 [H, W, 3].
          prompt: that they are judged by.
          provider: of the regions; one of `proposing.names`.
          tell: see `Tell`.

        Raises:
          BadInput: the provider cannot be used. RequestError, Failure: as `draw`.
        """
        row = Prompt(0, "page", "0", prompt)
        tell(f"looking for regions ({provider})")
        proposed = self.proposing.propose(provider, pictures, row)
        listening = [_Listening(self._judge, tell) for _ in pictures]
        judgements = []
        for number, (pixels, proposals) in enumerate(zip(pictures, proposed, strict=True)):
            height, width = pixels.shape[:2]
            frame = None if self._box_frame is None else self._box_frame(height, width)[::-1]
            subject = Subject(row.record_id(number), prompt, width, height, row.keywords, row.has_directive, proposals,
                              frame=frame)
            dialogue = judge_record(subject, self.settings.judge, self.settings.judge_templates)
            record = run_dialogues([(pixels, dialogue)], listening[number])[0]
            judged = Judgement(pixels, prompt, provider, proposals, record, listening[number].asked)
            judgements.append(dataclasses.replace(judged, weighed=self._weigh(judged)))
        return judgements

    def _weigh(self, judged: Judgement) -> dict[str, Weighed | str]:
        weighed: dict[str, Weighed | str] = {}
        for variant in VARIANTS:
            try:
                weighed[variant] = self._weighed(judged, objective_of(self.settings.objective, variant))
            except (BadInput, *RECORD_ERRORS) as error:
                weighed[variant] = str(error)
        return weighed

    def _weighed(self, judged: Judgement, objective: RewardWeighted) -> Weighed:
        """By way of a row, as training lays the picture out."""
        found: dict[str, Any] = {}

        def columns(grid: Grid) -> dict[str, np.ndarray]:
            found["grid"], found["columns"] = grid, objective.columns_of(judged, grid)
            return found["columns"]

        rows = self.family.rows() if self.settings.rows is None else self.settings.rows
        packer = self.family.packer(rows, self._files.config, self._files.tokenizer, objective.columns, None)
        picture = Picture(judged.image_width, judged.image_height, pixels=judged.pixels)
        packer.empty_row().add(Example(judged.prompt, picture, columns), np.random.default_rng(0))
        alpha, reward_map = found["columns"]["alpha"], found["columns"]["reward_map"]
        low, high = objective.reward_map.limits
        return Weighed(float(alpha.flat[0]), reward_map, np.asarray(reward_weight(objective, alpha, reward_map)),
                       found["grid"], (low, objective.reward_map.background, high))


def objective_of(objective: RewardWeighted, variant: str) -> RewardWeighted:
    """The objective with another reading of the rewards; what both readings know stays as the experiment says."""
    chosen = objective.reward_map
    if chosen.variant != variant:
        chosen = RewardMapConfig(variant, resize=chosen.resize, use_global=chosen.use_global,
                                 use_local=chosen.use_local, binarize=chosen.binarize)
    return dataclasses.replace(objective, reward_map=chosen)


class _Listening:
    """A judge whose questions and replies are kept and told."""

    def __init__(self, judge: ModelJudge, tell: Tell):
        self._judge, self._tell = judge, tell
        self.asked: list[tuple[Call, Reply]] = []

    def answer(self, calls: Sequence[tuple[np.ndarray | None, Call]]) -> list[Reply]:
        """See `Judge`."""
        self._tell(f"judging: question {len(self.asked) + 1} ({calls[0][1].kind})")
        replies = self._judge.answer(calls)
        self.asked += [(call, reply) for (_, call), reply in zip(calls, replies, strict=True)]
        return replies


def _abilities(family: Family, pipeline: Pipeline) -> Abilities:
    name = family.architecture.name
    grey = np.full((*pipeline.generator.default_size, 3), 128, np.uint8)

    def refusal(request: ImageRequest | Question) -> str | None:
        try:
            pipeline.check(request)
        except RequestError as error:
            return str(error)
        return None

    return Abilities(
        draw=refusal(ImageRequest("a", 0)),
        plan=None if family.plans else f"{name} draws without a plan.",
        steps=None if family.steps else f"{name} has no whole picture in view while it draws.",
        edit=None if refusal(ImageRequest("a", 0, image=grey)) is None else f"{name} makes no edits.",
        ask=refusal(Question("a", (grey,))),
    )


def _evenly(total: int) -> set[int]:
    """At most `NUM_FRAMES` of the steps, first and last included."""
    return set(np.linspace(0, total - 1, min(NUM_FRAMES, total)).round().astype(int).tolist())
