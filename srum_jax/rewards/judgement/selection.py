"""Which of the proposed regions are put before the judge."""

from collections.abc import Sequence

from srum_jax.rewards.judgement.verdict import Shows


def select_regions(
    shows: Sequence[Shows], *, max_regions: int, max_background: int = 2, max_unmatched: int = 2
) -> list[int]:
    """Numbers of the chosen regions in the order in which they are shown: matched, background, then unmatched.

    Args:
      shows: of each proposal, largest first; that order is kept within each kind.
      max_regions: in all.
      max_background, max_unmatched: of those kinds.
    """
    chosen: list[int] = []
    limits = {Shows.MATCH: len(shows), Shows.BACKGROUND: max_background, Shows.UNMATCHED: max_unmatched}
    for kind, limit in limits.items():
        chosen += [number for number, found in enumerate(shows) if found is kind][:limit]
    return chosen[:max_regions]
