"""The parts of `experiments.tiny_suder`: captions that are marked, tables, and the whole of it."""
