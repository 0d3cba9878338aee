"""Compiling ahead of time for TPUs that are not at hand: what fits, and what the work amounts to."""
