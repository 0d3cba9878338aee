"""How images are judged. Two presets: what the paper writes, and what the authors' code does."""

import dataclasses
import enum

from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.score_processing import Severity, Unmatched


class Mode(enum.StrEnum):
    """What is scored."""

    REGION = "region"  # proposed regions, one by one
    SAMPLE = "sample"  # the image as a whole
    QUESTIONS = "questions"  # both, by questions that the prompt is broken down into


class Verify(enum.StrEnum):
    """Whether regions are checked against the prompt."""

    SEPARATE = "separate"  # by a call of its own, before scoring
    SINGLE = "single"  # by the names in the scoring reply
    OFF = "off"


class Parser(enum.StrEnum):
    """Who reads replies."""

    TOLERANT = "tolerant"
    OFFICIAL = "official"


class Retry(enum.StrEnum):
    """What follows a reply that cannot be read."""

    REPAIR = "repair"  # asks again, says what was missing, then samples
    REPEAT = "repeat"  # the same greedy call, which would give the same text: counted, not made


class NeutralBand(enum.StrEnum):
    """What becomes of the layout score of a prompt that asks for no arrangement."""

    CLAMP = "clamp"  # held to [-0.4, 0.4]
    JUDGE = "judge"  # left to the judge


class GlobalUnparsed(enum.StrEnum):
    """What stands for a layout score that could not be read."""

    NONE = "none"
    ZERO = "zero"


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """All that decides a judgement besides judge and templates. The defaults are those of the paper."""

    mode: Mode = Mode.REGION
    use_global: bool | None = None  # None: not for whole images, else yes
    verify: Verify = Verify.SEPARATE
    verify_strict: bool = False
    unmatched: Unmatched = Unmatched.CLIP
    max_regions: int = 10
    max_background: int = 2
    max_unmatched: int = 2
    max_attempts: int = 5
    max_questions: int = 12  # of a prompt, with `Mode.QUESTIONS`
    parser: Parser = Parser.TOLERANT
    retry: Retry = Retry.REPAIR
    severity: Severity = Severity.ON
    neutral_band: NeutralBand = NeutralBand.CLAMP
    global_unparsed: GlobalUnparsed = GlobalUnparsed.NONE
    think: bool = True
    one_by_one: bool = False  # every region is scored in a call of its own, for judges that cannot keep lists apart
    normalised_boxes: bool = False  # boxes are told in thousandths of the image instead of pixels

    def __post_init__(self):
        for name, least in (("max_regions", 1), ("max_background", 0), ("max_unmatched", 0), ("max_attempts", 1),
                            ("max_questions", 1)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise BadInput(f"judge.{name}: expected an integer of at least {least}, found "
                               f"{getattr(self, name)!r}.")
        if self.one_by_one and self.parser is Parser.OFFICIAL:
            raise BadInput("judge.one_by_one: expected the tolerant parser with it; the official one looks for the "
                           "numbers of regions.")

    @property
    def layout(self) -> bool:
        """Whether the layout of the whole image is scored."""
        return self.mode is not Mode.SAMPLE if self.use_global is None else self.use_global


PAPER = JudgeSettings()
OFFICIAL = JudgeSettings(
    verify=Verify.OFF, unmatched=Unmatched.KEEP, parser=Parser.OFFICIAL, retry=Retry.REPEAT, severity=Severity.OFF,
    neutral_band=NeutralBand.JUDGE, global_unparsed=GlobalUnparsed.ZERO,
)
PRESETS = {"paper": PAPER, "official": OFFICIAL}
