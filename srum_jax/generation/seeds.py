"""The seed of a record, a function of its id: no matter how many processes run, or in which order."""

import hashlib

MAX_BASE_SEED = 2**63 - 1


def record_seed(base_seed: int, record_id: str) -> int:
    """An integer in [0, 2^63) (spec: reward stage, section 4).

    Args:
      base_seed: of the run.
      record_id: of the image.
    """
    digest = hashlib.sha256(f"srum-seed-v1|{base_seed}|{record_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & 0x7FFFFFFFFFFFFFFF
