"""The parts of `experiments.tiny_study`: rewards, models, marks, statistics, and what is printed."""
