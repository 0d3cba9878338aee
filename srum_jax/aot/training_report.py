"""What was found about a train step on one slice or several, as plain values and as text."""

import importlib.metadata
from typing import TYPE_CHECKING, Any

from srum_jax.aot.roofline import STEP_ASSUMPTIONS, step_roofline
from srum_jax.aot.topology import Topology

if TYPE_CHECKING:
    from srum_jax.aot.training import TrainPlan, TrainResult

_READING = 3  # of compiled programs; reports of another number are not comparable
_SHOWN = 12  # lines of exchanges; --json has all


def made_with() -> dict[str, Any]:
    """What a report depends on besides what was asked: the compiler, and how its programs are read."""
    return {"reading": _READING, **{name: importlib.metadata.version(name) for name in ("jax", "libtpu")}}


def training_entry(asked: "TrainPlan", topology: Topology, result: "TrainResult") -> dict[str, Any]:
    """All figures.

    Args:
      asked: what was compiled.
      topology: of one slice.
      result: what was found.
    """
    request, memory = asked.request, result.memory
    chips = topology.num_chips * request.num_slices
    limit = topology.chip.hbm_bytes
    experiment = asked.experiment
    entry = {
        "experiment": experiment.name,
        "topology": topology.name,
        "slices": request.num_slices,
        "chips": chips,
        "mesh": asked.mesh,
        "rows": asked.rows,
        "remat": experiment.compute.remat,
        "accumulation_steps": experiment.training.accumulation_steps,
        "layers": asked.config.llm.num_layers,
        "trained_parameters": result.parameters,
        "compiler_options": list(request.compiler_options),
        "fits": memory.fits(limit),
        "refusal": memory.refusal,
        "made_with": made_with(),
        "gib_per_chip": memory.gib_per_chip(limit),
        "padding": result.padding,
        "prompt_tokens": request.prompt_tokens,
        "real_tokens": result.real_tokens,
        "model_flops": result.model_flops,
        "compile_seconds": memory.compile_seconds,
    }
    return entry if memory.refusal else entry | _program(topology, chips, result)


def _program(topology: Topology, chips: int, result: "TrainResult") -> dict[str, Any]:
    time = step_roofline(result.compiled_flops, result.collectives, topology.chip)
    peak = chips * topology.chip.peak_flops
    return {
        "compiled_flops": result.compiled_flops * chips,
        "flops_ratio": result.compiled_flops * chips / result.model_flops,
        "compiled_flops_per_chip": {"attention": result.attention_flops} | result.flops_by_origin,
        "xla_flops_per_chip": result.memory.xla_flops,
        "collectives": result.collectives,
        "unknown_loops": result.unknown_loops,
        "unknown_kernels": result.unknown_kernels,
        "estimate": time | {
            "mfu_at_most": result.model_flops / (time["at_least_seconds"] * peak),
            "mfu_exposed": result.model_flops / (time["exposed_seconds"] * peak),
            "tokens_per_second_at_most": result.real_tokens / time["at_least_seconds"],
            "assumptions": STEP_ASSUMPTIONS,
        },
    }


def as_text(entry: dict[str, Any]) -> str:
    """The figures as lines for a console."""
    return "\n".join([_title(entry), "", *_memory(entry), "", *_flops(entry), *_collectives(entry), *_estimate(entry),
                      *_verdict(entry)])


def mesh_text(entry: dict[str, Any]) -> str:
    """The mesh without axes of size 1."""
    return " ".join(f"{name}={size}" for name, size in entry["mesh"].items() if size > 1) or "one chip"


def _title(entry: dict[str, Any]) -> str:
    slices = "" if entry["slices"] == 1 else f"{entry['slices']} slices of "
    return (f"{entry['experiment']} on {slices}{entry['topology']}: {entry['chips']} chips, mesh {mesh_text(entry)}, "
            f"{entry['rows']} rows a step, remat {entry['remat']}, {entry['trained_parameters'] / 1e9:.3g} billion "
            f"trained values, {entry['layers']} layers")


def _memory(entry: dict[str, Any]) -> list[str]:
    memory = entry["gib_per_chip"]
    if entry["refusal"]:
        return [f"memory per chip       more than the {memory['limit']:.2f} GiB that there are",
                f"  {entry['refusal']}"]
    return [
        f"memory per chip       needed {memory['needed']:.2f} GiB of {memory['limit']:.2f}",
        f"  arguments           {memory['arguments']:.2f} GiB: state, frozen weights, batch",
        f"  temporaries         {memory['temporaries']:.2f} GiB in all, not all of it at the same time",
        f"  peak                {memory['peak']:.2f} GiB at one moment, arguments included",
        f"  beside it           {memory['not_read']:.2f} GiB that the step does not read, {memory['program']:.2f} GiB "
        "of program",
    ]


def _flops(entry: dict[str, Any]) -> list[str]:
    lines = [
        f"padding               {entry['padding']:.1%} of token slots, with {entry['prompt_tokens']} tokens a prompt "
        "and images that fill the canvas",
        f"model FLOPs           {entry['model_flops'] / 1e12:,.1f} TFLOP a step",
    ]
    if entry["refusal"]:
        return lines
    lines.append(f"compiled FLOPs        {entry['compiled_flops'] / 1e12:,.1f} TFLOP a step, "
                 f"{entry['flops_ratio']:.3f} x model FLOPs; TFLOP of one chip:")
    lines += [f"  {name:20}{flops / 1e12:10.2f}" for name, flops in entry["compiled_flops_per_chip"].items()]
    for name, what in (("unknown_loops", "trips of these loops are not known, they count once"),
                       ("unknown_kernels", "FLOPs of these kernels are not known, they do not count")):
        if entry[name]:
            lines.append(f"  {what}: {', '.join(entry[name])}")
    return lines


def _collectives(entry: dict[str, Any]) -> list[str]:
    if entry["refusal"]:
        return []
    rows = entry["collectives"]
    lines = ["", "exchanges between chips, per chip and step:",
             "  received GB  kind                 MiB each    times  chips  over             where      hidden"]
    for row in rows[:_SHOWN]:
        over = "+".join(row["over"]) + (" (slices)" if row["crosses_slices"] else "")
        lines.append(
            f"  {row['received_bytes'] / 1e9:11.3f}  {row['kind']:18}{row['bytes'] / 2**20:11.2f}{row['executions']:9}"
            f"{row['group']:7}  {over:15}  {'in a loop' if row['in_loop'] else 'once':9}  "
            f"{'by compute' if row['hidden'] else 'no'}")
    rest = sum(row["received_bytes"] for row in rows[_SHOWN:])
    return lines + ([f"  {rest / 1e9:11.3f}  in {len(rows) - _SHOWN} further lines"] if rest else [])


def _estimate(entry: dict[str, Any]) -> list[str]:
    if entry["refusal"]:
        return []
    time = entry["estimate"]
    terms = ", ".join(f"{name} {seconds:.3f}" for name, seconds in time["seconds"].items() if seconds)
    return [
        "",
        f"estimate, s a step    {terms}",
        f"  at least            {time['at_least_seconds']:.3f} s, MFU at most {time['mfu_at_most']:.0%}, "
        f"{time['tokens_per_second_at_most']:,.0f} tokens/s",
        f"  exposed             {time['exposed_seconds']:.3f} s, MFU {time['mfu_exposed']:.0%}: exchanges that nothing "
        f"hides take {time['waiting_seconds']:.3f} s",
    ]


def _verdict(entry: dict[str, Any]) -> list[str]:
    lines = ["", "fits" if entry["fits"] else "does not fit"]
    if "largest" in entry:
        found = entry["largest"]
        lines.append(f"the largest batch that fits has {found['rows']} rows" if found["rows"] else
                     f"not even the smallest batch fits, of {found['step']} rows")
        if found["rows"] and not found["limited_by_memory"]:
            lines.append("  larger ones were not tried")
    return lines
