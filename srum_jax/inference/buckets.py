"""Widths of chunks: few enough that programs are reused, close enough that little is wasted."""

_SMALLEST = 16


def bucket(count: int, per_octave: int = 4) -> int:
    """The smallest bucket of at least `count`; 0 for 0.

    Buckets are 16 and, between one power of two and the next, `per_octave` evenly spaced widths: at most
    1 / `per_octave` of a width is padding.
    """
    if count <= 0:
        return 0
    if count <= _SMALLEST:
        return _SMALLEST
    step = max(1, 2 ** ((count - 1).bit_length() - 1) // per_octave)
    return -(-count // step) * step
