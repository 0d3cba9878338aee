"""The subcommand `report`."""

import argparse
import collections
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etils import epath
from tqdm import tqdm

from srum_jax.command_line import in_range, user_path
from srum_jax.data.errors import DataError
from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.settings import Parser
from srum_jax.rewards.reward_map import RewardMapError
from srum_jax.stages import EXPORT, GENERATE, JUDGE, SEGMENT
from srum_jax.storage.atomic_file import atomic_write
from tools.make_rewards.report.agreement import OtherRun, Replies, identity
from tools.make_rewards.report.collect import Candidate, CommittedRun
from tools.make_rewards.report.maps import TokenMap, token_maps
from tools.make_rewards.report.page import PageWriter
from tools.make_rewards.report.rows import more, row
from tools.make_rewards.report.statistics import Statistics
from tools.make_rewards.report.thumbnails import Thumbnail, image_path, link, thumbnail
from tools.make_rewards.run_folder import Place

SUMMARY = "write an HTML page that shows every candidate"
PAGE = "index.html"
_AHEAD = 64  # images that are read together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("run", type=user_path, metavar="DIR", help="the folder of a run")
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER", help=f"where {PAGE} is written")
    parser.add_argument("--compare", type=user_path, metavar="DIR",
                        help="a folder with the same images and another judgement of them")
    group = parser.add_argument_group("what is shown")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--limit", type=in_range(int, 1), metavar="N", help="the first N candidates only")
    chosen.add_argument("--sample", type=in_range(int, 1), metavar="N", help="N candidates drawn at random")
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of --sample (default: %(default)s)")
    group.add_argument("--lambda-c", type=in_range(float, 0, 1e6), default=0.5, metavar="X",
                       help="a token has a negative factor where alpha R + X < 0 (default: %(default)s)")
    group.add_argument("--pixels-per-token", type=in_range(int, 1, 4096), default=16, metavar="N",
                       help="of the latent grid that maps are drawn on (default: %(default)s, as in BAGEL)")
    group = parser.add_argument_group("size of the page")
    group.add_argument("--thumbnail-pixels", type=in_range(int, 16, 2048), default=256, metavar="N",
                       help="longer side of the pictures in the page (default: %(default)s)")
    group.add_argument("--thumbnail-quality", type=in_range(int, 1, 100), default=75, metavar="Q",
                       help="of WebP, 1 to 100 (default: %(default)s)")
    group.add_argument("--reply-characters", type=in_range(int, 0), default=4000, metavar="N",
                       help="longer replies are cut (default: %(default)s)")
    group.add_argument("--max-megabytes", type=in_range(int, 1), default=400, metavar="N",
                       help="a larger page is an error (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    folder = CommittedRun(arguments.run)
    other = None if arguments.compare is None else OtherRun(CommittedRun(arguments.compare))
    out = epath.Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, found a file.")
    places = folder.places()
    if not places:
        raise BadInput(f"{folder.root}: expected at least one image that `{GENERATE}` has made, found none.")
    shown = _chosen(places, arguments)
    out.mkdir(parents=True, exist_ok=True)
    page = out / PAGE
    with atomic_write(page) as file:
        writer = PageWriter(file, arguments.max_megabytes * 2**20)
        _write(writer, folder, other, shown, out, arguments, len(places))
    print(f"{page}: {writer.num_records} of {len(places)} candidates, {writer.num_bytes / 2**20:.1f} MiB")
    return 0


def _chosen(places: Sequence[Place], arguments: argparse.Namespace) -> Sequence[Place]:
    if arguments.sample is not None and arguments.sample < len(places):
        return sorted(random.Random(arguments.seed).sample(places, arguments.sample))
    return places if arguments.limit is None else places[: arguments.limit]


def _write(
    writer: PageWriter, folder: CommittedRun, other: OtherRun | None, shown: Sequence[Place], out: epath.Path,
    arguments: argparse.Namespace, num_found: int,
) -> None:
    statistics = Statistics()
    replies = Replies(Parser(_setting(folder, "parser") or Parser.TOLERANT))
    for candidate, path, small in tqdm(_with_pictures(folder, shown, arguments), total=len(shown), unit="image",
                                       disable=None):
        prompt = folder.prompt(candidate.generation)
        entry = row(candidate, prompt)
        maps = _maps(candidate, entry, arguments.pixels_per_token)
        shares = {name: found.share_negative(arguments.lambda_c) for name, found in maps.items()}
        statistics.add(entry, maps, shares)
        replies.add(candidate)
        if other is not None:
            other.add(candidate, entry)
        entry |= {"note": small.note} if small.note else {}
        entry |= {"original": link(path, out)} if path.exists() else {}
        writer.record(entry, more(candidate, prompt, maps, shares, arguments.reply_characters), small.url)
    writer.close({
        "run": _about(folder), "found": num_found, "lambda_c": arguments.lambda_c,
        "pixels_per_token": arguments.pixels_per_token, "statistics": statistics.to_json(),
        "replies": replies.to_json(), "compare": None if other is None else other.to_json(),
    })


def _with_pictures(
    folder: CommittedRun, shown: Sequence[Place], arguments: argparse.Namespace
) -> Iterator[tuple[Candidate, epath.Path, Thumbnail]]:
    """Candidates in order, with their thumbnails; pictures are decoded by several threads."""

    def small(candidate: Candidate) -> tuple[epath.Path, Thumbnail]:
        path = image_path(folder.root, candidate.generation)
        return path, thumbnail(path, candidate.generation.image_sha256, arguments.thumbnail_pixels,
                               arguments.thumbnail_quality)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting: collections.deque = collections.deque()
        for place in shown:
            candidate = folder.candidate(place)
            waiting.append((candidate, pool.submit(small, candidate)))
            if len(waiting) >= _AHEAD:
                done, future = waiting.popleft()
                yield done, *future.result()
        for done, future in waiting:
            yield done, *future.result()


def _maps(candidate: Candidate, entry: dict[str, Any], pixels_per_token: int) -> dict[str, TokenMap]:
    if "status" not in entry:
        return {}
    whole = entry["mode"] == "sample" or candidate.segmentation is None
    try:
        return token_maps(
            entry.get("regions", ()), entry["global"]["score"] if "global" in entry else None,
            width=entry["width"], height=entry["height"], pixels_per_token=pixels_per_token,
            provider="sample" if whole else candidate.segmentation["provider"],
        )
    except RewardMapError as error:
        raise DataError(entry["id"], None, str(error)) from error


def _about(folder: CommittedRun) -> dict[str, Any]:
    """What stands in the title of the page, and how far each stage has come."""
    generate = folder.settings["generate"]
    return {
        "name": folder.root.absolute().name if hasattr(folder.root, "absolute") else folder.root.name,
        "set": folder.settings["prompts"]["set"], "prompts": len(folder.prompts),
        "expected": len(folder.prompts) * folder.num_candidates,
        # Nobody knows whose weights have drawn what was taken over.
        "generator": "imported" if folder.settings.get("imported") else str(generate["checkpoint_sha256"])[:12],
        "segmenter": (folder.settings_of(SEGMENT) or {}).get("provider"), "judge": identity(folder),
        "done": folder.done, "exported": folder.exported,
        "left_out": dict(sorted(folder.prompts_left_out().items())), "mode": _setting(folder, "mode"), "export": EXPORT,
    }


def _setting(folder: CommittedRun, name: str) -> Any:
    return (folder.settings_of(JUDGE) or {}).get("settings", {}).get(name)
