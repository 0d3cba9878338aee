"""The parts of `experiments.tiny_methods`: arms, scores to choose by, tables."""
