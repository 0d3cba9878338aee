"""What the page says of a model and of a judgement, as HTML. Texts of visitors and models are shown as they are."""

import html
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from srum_jax.demo.engine import Abilities, Candidate, Engine, Judgement, Weighed
from srum_jax.demo.pictures import css_colour
from srum_jax.objectives.config import RewardWeighted

CSS = """
.gradio-container { max-width: min(1180px, 100vw) !important; width: 100% !important; margin: auto !important; }
.facts { color: var(--body-text-color-subdued); font-size: 0.95em; }
.facts li { margin: 0.15em 0; list-style: none; }
ul.facts { padding: 0; margin: 0; }
#candidates .grid-wrap, [id^=compared] .grid-wrap { min-height: 0; }
.status { min-height: 1.6em; padding: 0.2em 0; }
.status.bad { color: #b3261e; font-weight: 600; }
.region { display: grid; grid-template-columns: 2.2em 1fr auto; gap: 0.1em 0.7em; padding: 0.5em 0;
  border-bottom: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.region .badge { grid-row: span 2; align-self: start; color: white; font-weight: 700; text-align: center;
  border-radius: 6px; padding: 0.15em 0; }
.region .score { font-weight: 700; font-variant-numeric: tabular-nums; }
.region .why { grid-column: 2 / 4; color: var(--body-text-color-subdued); font-size: 0.92em; }
.asked pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85em; margin: 0.2em 0 0.9em; padding: 0.5em;
  background: var(--background-fill-secondary); border-radius: 6px; }
.above { font-size: 0.92em; margin: 0 0 -0.9em; }
.numbers { font-size: 0.92em; }
.caption-label { max-width: calc(100% - 8px) !important; font-size: 0.8em !important; }
@media (max-width: 640px) {
  .gradio-container .main { padding: 8px 12px !important; max-width: 100vw; }
  #candidates .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""


def facts(engines: Sequence[Engine]) -> str:
    """Which models these are, where they run, and what they cannot do."""
    devices = jax.local_devices()
    height, width = engines[0].default_size
    names = " and ".join(f"<b>{html.escape(engine.name)}</b>" for engine in engines)
    kind = html.escape(engines[0].family.architecture.name)
    lines = [f"{names} ({kind}), {len(devices)} {html.escape(devices[0].device_kind)}, pictures of {width} x {height} "
             "pixels"]
    for ability, reason in missing(engines[0].abilities).items():
        lines.append(f"It cannot {ability}: {html.escape(reason)}")
    return f"<ul class='facts'>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def missing(abilities: Abilities) -> Mapping[str, str]:
    """What a model cannot do, in words, and why."""
    words = {"draw": "draw", "plan": "plan before it draws", "steps": "show how a picture comes about",
             "edit": "edit pictures", "ask": "be asked about pictures, nor judge them"}
    return {said: getattr(abilities, name) for name, said in words.items() if getattr(abilities, name) is not None}


def status(text: str, *, bad: bool = False) -> str:
    """A line beside a button."""
    return f"<div class='status{' bad' if bad else ''}'>{html.escape(text)}</div>"


def plans(candidates: Sequence[Candidate]) -> str:
    """What was planned before each picture; nothing where nothing was."""
    said = [(number, candidate.made) for number, candidate in enumerate(candidates, 1)
            if candidate.made.plan is not None]
    parts = [f"<b>Plan of picture {number}</b>{' (cut off)' if made.plan_truncated else ''}"
             f"<pre>{html.escape(made.plan)}</pre>" for number, made in said]
    return f"<div class='asked'>{''.join(parts)}</div>"


def plans_so_far(texts: Sequence[str]) -> str:
    """Plans that are being written."""
    parts = (f"<b>Plan of picture {number}</b><pre>{html.escape(text)} …</pre>" for number, text in enumerate(texts, 1))
    return f"<div class='asked'>{''.join(parts)}</div>"


def verdicts(judgement: Judgement) -> str:
    """Each region: what the model sees in it, whether that belongs there, its score and the reason."""
    record = judgement.record
    rows = [_region(number, region) for number, region in enumerate(record["regions"], 1)]
    if not rows:
        rows = [f"<p>No region has a score: {len(judgement.proposals)} were proposed, and no reply about one could be "
                "read or kept.</p>"]
    layout = record["global"]
    if layout is None:
        whole = "<p><b>The whole picture</b> has no score: no reply could be read.</p>"
    else:
        whole = _row("all", layout["score"], "the whole picture", "", layout["reason"], layout["flags"])
    count = len(record["dropped"])
    more = f"{count} more region{'s were' if count > 1 else ' was'} left out."
    dropped = f"<p class='facts'>{more}</p>" if count and record["regions"] else ""
    return whole + "".join(rows) + dropped


def asked(judgement: Judgement) -> str:
    """Every question of a judgement with its reply."""
    parts = [f"<b>{html.escape(call.kind)}</b>, attempt {call.attempt}<pre>{html.escape(call.text)}</pre>"
             f"<pre>{html.escape(reply.text) or '(nothing)'}</pre>" for call, reply in judgement.asked]
    return f"<div class='asked'>{''.join(parts)}</div>"


def map_caption(weighed: Weighed | str, objective: RewardWeighted) -> str:
    """The numbers of one reading of the rewards."""
    if isinstance(weighed, str):
        return f"<div class='numbers'>No weights: {html.escape(weighed)}</div>"
    weight, reference = weighed.weight, objective.reference_coefficient
    negative = float(np.mean(weight + np.float32(reference) < 0))
    return (f"<div class='numbers'>alpha <b>{weighed.alpha:.2f}</b>; R {weighed.reward_map.min():.2f} to "
            f"{weighed.reward_map.max():.2f}; weights {weight.min():.2f} to {weight.max():.2f}, their mean "
            f"{weight.mean():.2f}, of {weighed.grid.rows} x {weighed.grid.columns} tokens. With the reference term "
            f"({reference:g}) added, the factor of {negative:.0%} of the tokens is below 0.</div>")


def summary(judgement: Judgement) -> str:
    """A judgement in a few words."""
    scores = [region.score for region in judgement.regions]
    whole = "no score" if judgement.global_score is None else f"{judgement.global_score:+.2f}"
    parts = f", regions {np.mean(scores):+.2f}" if scores else ", no region"
    return f"whole {whole}{parts}"


def _region(number: int, region: Mapping) -> str:
    verdict = (region["verdict"] or "not verified").replace("_", " ")
    keyword = f", for “{region['keyword']}”" if region["keyword"] else ""
    return _row(str(number), region["score"], region["object"] or "(not named)", f"{verdict}{keyword}",
                region["reason"], region["flags"])


def _row(badge: str, score: float, title: str, verdict: str, reason: str, flags: Sequence[str]) -> str:
    said = " · ".join(filter(None, (verdict, reason, ", ".join(flags).replace("_", " "))))
    colour = f"background:{css_colour(score)}"
    return (f"<div class='region'><span class='badge' style='{colour}'>{html.escape(badge)}</span>"
            f"<span>{html.escape(title)}</span><span class='score'>{score:+.2f}</span>"
            f"<span class='why'>{html.escape(said)}</span></div>")
