"""The arms of the study of methods: which records a model is trained on, and by which objective."""

import dataclasses

PROBABILITY, LIKELIHOOD, ORACLE, RANDOM = "probability", "likelihood", "oracle", "random"
SCORES = (PROBABILITY, LIKELIHOOD, ORACLE, RANDOM)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of learning from candidates."""

    variant: str  # of the recipe, `_tiny_recipe.VARIANTS`
    select: tuple[str, ...] = ()  # options of `make_rewards select`; none: all candidates as they were judged
    scores: str | None = None  # what is selected by; None: the judge's word
    after: str | None = None  # the arm whose models draw the candidates and are trained further



BEST = "best"

# All arms read the same candidates, those of a second round excepted.
ARMS = {
    "sft": Arm("sft"),
    "paper": Arm("paper"),
    "official": Arm("official"),
    "relative": Arm("paper", ("--relative",), PROBABILITY),
    "best_random": Arm("sft", ("--best",), RANDOM),
    "best_words": Arm("sft", ("--best",)),
    "best_likelihood": Arm("sft", ("--best",), LIKELIHOOD),
    BEST: Arm("sft", ("--best",), PROBABILITY),
    "best_paper": Arm("paper", ("--best",), PROBABILITY),
    "best_round2": Arm("sft", ("--best",), PROBABILITY, after=BEST),
    "best_oracle": Arm("sft", ("--best",), ORACLE),
    "right_oracle": Arm("sft", ("--least", "1"), ORACLE),
}
QUICK_ARMS = ("sft", BEST)
