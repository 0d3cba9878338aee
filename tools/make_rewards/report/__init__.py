"""Writes one HTML page that shows every candidate of a run: image, boxes, scores, reasons, reward maps, rejects.

The page needs no network and no other file. It holds a thumbnail of every image, and links to the originals while they
lie where they lay. A run of which only some stages are finished is shown as far as it has come.
"""

from tools.make_rewards.report.command import SUMMARY, add_arguments, run

__all__ = ["SUMMARY", "add_arguments", "run"]
