"""Measures models: drawing a benchmark's images, asking a judge about them, and the numbers that follow."""
