"""A round of SUDER for a slice that is only described: what draws, writes and scores, beside the state of training."""

import dataclasses
import math
from typing import Any

from srum_jax.aot.compiling import Compiling
from srum_jax.aot.drawing_program import DrawingRequest, chosen
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.roofline import DRAWING_ASSUMPTIONS, roofline
from srum_jax.aot.topology import GIB, Topology
from srum_jax.aot.training import TrainPlan, TrainResult
from srum_jax.errors import BadInput
from srum_jax.families.costs import Drawing
from srum_jax.rollouts.config import GENERATION, UNDERSTANDING


def check_round(asked: TrainPlan, programs: str | None) -> tuple[str, ...]:
    """The programs that are meant, see `chosen`.

    Raises:
      BadInput: the experiment has no rounds, or not one slice for them; or there is no such program.
    """
    name = asked.experiment.name
    if asked.experiment.rollouts is None:
        raise BadInput(f"--round: expected an experiment with rollouts, as suder_janus; found {name}.")
    if asked.family.scorer is None:
        raise BadInput(f"--round: models of the family {asked.family.architecture.name} cannot be asked how likely a "
                       "text is, so they have no rounds.")
    if asked.request.num_slices != 1 or asked.mesh["seq"] != 1:
        raise BadInput(f"--round: expected one slice and seq=1, as rollouts do not split the tokens of a row; found "
                       f"{asked.request.num_slices} and seq={asked.mesh['seq']}.")
    return chosen(programs, (*asked.family.costs.drawn_by, *asked.family.costs.rewarded_by))


def round_entry(asked: TrainPlan, topology: Topology, step: TrainResult, step_seconds: float | None,
                compiling: Compiling, programs: tuple[str, ...], *, largest: bool = False, most: int | None = None
                ) -> dict[str, Any]:
    """All figures of a round.

    Args:
      asked: the train step, of an experiment that `check_round` lets pass.
      topology: of the slice.
      step: what was found of it.
      step_seconds: estimate for an update; None where the step does not fit.
      compiling: of programs that draw and score.
      programs: those that are compiled.
      largest: whether to find out how many outputs at once fit, in place of the experiment's number.
      most: try no more at once; None: as many as a round has.
    """
    experiment, costs = asked.experiment, asked.family.costs
    config, axes, limit = experiment.rollouts, asked.mesh, topology.chip.hbm_bytes
    multiple = axes["data"] * axes["fsdp"]
    counts = {GENERATION: config.prompts_per_round * config.group_size if config.draws(GENERATION) else 0,
              UNDERSTANDING: config.pictures_per_round * config.group_size if config.draws(UNDERSTANDING) else 0}

    def rounded(rows: int) -> int:
        return -(-rows // multiple) * multiple

    def needed(program: str, rows: int) -> float:
        request = _request(asked, topology, program, rows)
        return compiling.needed_bytes(request, f"{topology.name} {program:14} {rows:5} outputs") + step.resident_bytes

    rows, limited_by = rounded(config.batch_size), None
    if largest:
        found, limited_by = largest_batch(
            [name for name in (*costs.search_order, *costs.rewarded_by) if name in programs], needed, limit,
            multiple, rounded(most or max(counts.values())), rows)
        rows = found or multiple  # if nothing fits, the report says by how much
    drawing = _drawing(asked, rows)
    work = costs.drawing_costs(asked.config, drawing)
    writing = costs.drawing_costs(asked.config, _drawing(asked, rows, costs.text_program))[costs.text_program]
    rewards = costs.reward_costs(asked.config, drawing)

    def seconds(cost, outputs: int) -> float:
        return roofline(cost, topology.chip, rows, axes)["seconds"] * math.ceil(outputs / rows)

    entries = [{"program": program, "needed_gib": needed(program, rows) / GIB,
                "fits": needed(program, rows) <= limit} for program in programs]
    parts = {
        "pictures": sum(seconds(work[program], counts[GENERATION]) for program in costs.image_programs),
        "captions": seconds(writing, counts[UNDERSTANDING]),
        "rewards of pictures": seconds(rewards["pictures"], counts[GENERATION]),
        "rewards of captions": seconds(rewards["captions"], counts[UNDERSTANDING]),
    }
    if step_seconds is not None:
        parts["updates"] = step_seconds * config.steps_per_round
    return {
        "outputs": counts, "at_once": rows, "largest_limited_by": limited_by, "largest": largest,
        "resident_gib": step.resident_bytes / GIB, "limit_gib": limit / GIB, "programs": entries,
        "fits": all(entry["fits"] for entry in entries),
        "estimate": {"seconds": parts, "seconds_per_round": sum(parts.values()), "assumptions": DRAWING_ASSUMPTIONS},
    }


def as_text(entry: dict[str, Any]) -> str:
    """The figures of `round_entry` as lines for a console."""
    outputs, estimate = entry["outputs"], entry["estimate"]
    lines = [
        f"a round: {outputs[GENERATION]} pictures and {outputs[UNDERSTANDING]} captions, {entry['at_once']} at once, "
        f"beside {entry['resident_gib']:.2f} GiB of state and initial weights",
        *(f"  {program['program']:18}  needed {_gib(program['needed_gib'])} of {entry['limit_gib']:.2f}, "
          f"{'fits' if program['fits'] else 'does not fit'}" for program in entry["programs"]),
    ]
    if entry["largest"]:
        lines.append(f"  {entry['at_once']} are the most that fit at once; "
                     f"{entry['largest_limited_by'] or 'the number of a round'} sets the limit"
                     if entry["fits"] else "  not even so few fit")
    terms = ", ".join(f"{name} {seconds:.3g}" for name, seconds in estimate["seconds"].items())
    return "\n".join([*lines, f"estimate, s a round   {terms}; in all {estimate['seconds_per_round']:.3g}"])


def _gib(size: float) -> str:
    return f"{size:.2f} GiB" if math.isfinite(size) else "more than there is"


def _request(asked: TrainPlan, topology: Topology, program: str, rows: int) -> DrawingRequest:
    experiment = asked.experiment
    return DrawingRequest(
        topology.name, experiment.mesh, asked.family.architecture.name, program, _drawing(asked, rows, program),
        asked.request.checkpoint or experiment.model.checkpoint, asked.request.layers, experiment.compute.dtype,
        experiment.compute.attention, experiment.model.quantize,
    )


def _drawing(asked: TrainPlan, rows: int, program: str = "") -> Drawing:
    """What a program works on: captions follow a question about a picture, all else has to do with prompts."""
    config, costs = asked.experiment.rollouts, asked.family.costs
    side = costs.side(asked.config)
    drawing = Drawing(rows, prompt_tokens=asked.request.prompt_tokens, height=config.height or side,
                      width=config.width or side, max_tokens=config.caption.max_tokens, sampler=config.sampler,
                      draws=config.rewards.draws)
    costs.check(asked.config, drawing)
    if program != costs.text_program:
        return drawing
    return dataclasses.replace(drawing, prompt_tokens=costs.question_tokens(asked.config, drawing))
