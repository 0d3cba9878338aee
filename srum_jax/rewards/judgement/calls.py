"""What a judge is asked and what it replies. Who the judge is, is decided elsewhere."""

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True)
class Call:
    """One question about one image."""

    kind: str  # "identify", "local", "region", "global" or "sample"
    attempt: int  # from 1
    text: str
    max_new_tokens: int
    think: bool
    temperature: float | None  # None: greedy
    seed: int
    template_sha256: str
    subject_id: str = ""  # of what is shown: a record, or an item of a benchmark and the number of its image
    history: tuple[tuple[str, str], ...] = ()  # questions about the same image before, and the judge's answers


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the judge said to a call."""

    text: str  # thoughts included
    num_tokens: int
    finished: bool  # False: the token limit was reached
    healthy: bool = True  # False: the model's numbers were none, and the text means nothing


def call_seed(record_id: str, kind: str, attempt: int) -> int:
    """The seed of a sampled attempt: first 8 bytes of SHA-256, top bit cleared."""
    digest = hashlib.sha256(f"srum-judge-v1|{record_id}|{kind}|{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)
