"""A shuffled order that needs no memory: each place is computed from the key alone.

A Feistel network permutes [0, 4^b); places outside the wanted range are sent through it again until they fall inside,
which makes it a permutation of any range. It is the same on every machine and does not depend on a library's version.
"""

_MASK = (1 << 64) - 1
_ROUNDS = 8


def mix(value: int) -> int:
    """A 64-bit value that looks unrelated to its 64-bit argument (the finaliser of SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def shuffled_index(place: int, size: int, seed: int, epoch: int) -> int:
    """Which of `size` items stands at `place` of the order that belongs to (seed, epoch).

    Args:
      place: 0 <= place < size.
      size: positive.
      seed: any 64-bit integer.
      epoch: number of the pass over the items; every pass has its own order.

    Raises:
      IndexError: the place lies outside.
    """
    if not 0 <= place < size:
        raise IndexError(f"place {place} of an order of {size} items")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    half_mask = (1 << half_bits) - 1
    key = mix(mix(seed & _MASK) ^ epoch)
    keys = [mix(key + number) for number in range(_ROUNDS)]
    value = place
    while True:
        left, right = value >> half_bits, value & half_mask
        for round_key in keys:
            left, right = right, left ^ (mix(right ^ round_key) & half_mask)
        value = (left << half_bits) | right
        if value < size:
            return value
