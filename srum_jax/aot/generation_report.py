"""What was found about generation on one slice, as plain values and as text."""

from collections.abc import Sequence
from typing import Any

from srum_jax.aot.drawing_program import DrawingRequest, DrawingResult
from srum_jax.aot.roofline import DRAWING_ASSUMPTIONS, roofline
from srum_jax.aot.topology import Topology
from srum_jax.families.costs import Cost
from srum_jax.families.registry import family


def program_entry(request: DrawingRequest, topology: Topology, axes: dict[str, int], result: DrawingResult) -> dict:
    """One program's figures.

    Args:
      request: what was compiled.
      topology: of the slice.
      axes: sizes of the mesh.
      result: what the compiler said.
    """
    cost = _costs(request)[request.program]
    rows, memory = request.drawing.rows, result.memory
    time = roofline(cost, topology.chip, rows, axes)
    limit = topology.chip.hbm_bytes
    return {
        "program": request.program,
        "rows": rows,
        "fits": memory.fits(limit),
        "gib_per_chip": memory.gib_per_chip(limit),
        "refusal": memory.refusal,
        "collectives": result.collectives,
        "largest_gather_mib": result.largest_gather_bytes / 2**20,
        "host_calls": result.host_calls,
        "compile_seconds": memory.compile_seconds,
        "xla_tflop_per_chip": memory.xla_flops / 1e12,
        "model_tflop_per_row": cost.flops / 1e12,
        "gigabytes_per_row": (cost.activation_bytes + cost.weight_bytes / rows) / 1e9,
        "estimate": time,
    }


def whole_entry(request: DrawingRequest, topology: Topology, axes: dict[str, int], entries: Sequence[dict]) -> dict:
    """The figures of one batch on one slice."""
    drawing, costs = request.drawing, family(request.family).costs
    rows = drawing.rows
    times = {name: roofline(cost, topology.chip, rows, axes)["seconds"] for name, cost in _costs(request).items()}
    image = sum(times[name] for name in costs.image_programs)
    return {
        "topology": topology.name,
        "mesh": axes,
        "rows": rows,
        "height": drawing.height,
        "width": drawing.width,
        "prompt_slots": costs.prompt_slots(drawing),
        "steps": drawing.num_timesteps - 1,
        "plan_tokens": drawing.max_tokens,
        "layers": costs.config(request.checkpoint, request.layers).llm.num_layers,
        "dtype": request.dtype,
        "quantize": request.quantize,
        "fits": all(entry["fits"] for entry in entries),
        "programs": list(entries),
        "estimate": {
            "seconds_per_batch": image,
            "seconds_per_image": image / rows,
            "chip_seconds_per_image": image / rows * topology.num_chips,
            "plan_tokens_per_second": rows * drawing.max_tokens / times[costs.text_program],
            "assumptions": DRAWING_ASSUMPTIONS,
        },
    }


def as_text(report: dict[str, Any]) -> str:
    """The report as lines for a console; Markdown reads it as a table."""
    mesh = " ".join(f"{name}={size}" for name, size in report["mesh"].items() if size > 1) or "one chip"
    lines = [
        f"{report['topology']}, mesh {mesh}: {report['rows']} images of {report['height']} x {report['width']} pixels "
        f"in one batch, prompts of up to {report['prompt_slots']} tokens, {report['steps']} steps, plans of up to "
        f"{report['plan_tokens']} tokens; {report['layers']} layers, {report['dtype']}"
        + (f" with matrices in {report['quantize']}" if report["quantize"] else ""),
        "",
        "| program | arguments | + outputs | temporaries | peak | not read | needed GiB per chip | of | fits | "
        "model TFLOP per image | GB per image | estimate s per batch | bound by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in report["programs"]:
        memory, time = entry["gib_per_chip"], entry["estimate"]
        if entry["refusal"]:
            figures = ["-"] * 5 + ["more than there is"]
        else:
            names = ("arguments", "outputs", "temporaries", "peak", "not_read", "needed")
            figures = [f"{memory[name]:.2f}" for name in names]
        cells = [
            entry["program"], *figures, f"{memory['limit']:.2f}", "yes" if entry["fits"] else "**no**",
            f"{entry['model_tflop_per_row']:,.1f}", f"{entry['gigabytes_per_row']:,.0f}", f"{time['seconds']:.3g}",
            time["bound"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    estimate = report["estimate"]
    lines += [
        "",
        f"{'fits' if report['fits'] else 'does not fit'}; at best {estimate['seconds_per_image']:.3g} s per image "
        f"({estimate['chip_seconds_per_image']:.3g} chip seconds) without a plan, and "
        f"{estimate['plan_tokens_per_second']:,.0f} tokens of plans per second.",
    ]
    return "\n".join(lines)


def _costs(request: DrawingRequest) -> dict[str, Cost]:
    costs = family(request.family).costs
    return costs.drawing_costs(costs.config(request.checkpoint, request.layers), request.drawing)
