"""Measures a model on a benchmark: draws its images, asks a judge about them, computes the numbers.

Three stages, each resumable and usable alone. `score` loads no model, so another rule never asks the judge again.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import set_up_streams, user_path
from srum_jax.errors import BadInput, Incomplete
from srum_jax.evaluation import activation_run
from srum_jax.evaluation.activation_run import ActivationConfig, ActivationRun, ComparedModel
from srum_jax.evaluation.benchmark import OVERALL, Benchmark, EvalItem
from srum_jax.evaluation.folder import GENERATE_SHARDS, EvaluationFolder, Part, read_files
from srum_jax.evaluation.images import keeping_steps, plan_images, prompts_of, write_beside_images
from srum_jax.evaluation.judging import JudgeUnit, extra_images, judge_items, judge_units
from srum_jax.evaluation.per_step import drawn_at
from srum_jax.evaluation.registry import NAMES, open_benchmark
from srum_jax.evaluation.scoring import compare, read_scores, score
from srum_jax.families.registry import family_of, recognise, samplers
from srum_jax.generation.arguments import parse_size
from srum_jax.generation.drawing import draw_missing
from srum_jax.generation.prompt_file import PromptList
from srum_jax.generation.row_checks import check_rows, raise_bad_rows
from srum_jax.generation.run_file import Run
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.judge_arguments import NamedJudge, add_judge_arguments, named_judge
from srum_jax.judges.endpoint import EndpointConfig
from srum_jax.model_arguments import add_model_arguments, checker_of, device_failures, load_pipeline, precision_of
from srum_jax.overrides import add_set_argument, apply_overrides, field_names, together
from srum_jax.stages import noted
from srum_jax.stages.folder import create_once
from srum_jax.stages.interruption import run_command
from srum_jax.stages.processes import add_process_arguments, find_processes
from srum_jax.storage.no_trace import entries_go_if_refused, folder_goes_if_refused
from srum_jax.storage.reading import read_text
from srum_jax.weights.fingerprint import checkpoint_fingerprint, encoder_fingerprint

GENERATE, JUDGE, SCORE, ALL = STAGES = ("generate", "judge", "score", "all")
_EPILOG = """
examples:
  python -m srum_jax.evaluate --benchmark shapes --stage all --dtype float32 --out runs/shapes
  python -m srum_jax.evaluate --benchmark shapes --stage score --out runs/shapes --against runs/other

Give the same command again to go on with a stage that ended early.

exit codes:
  0    done, and the result is complete
  1    failed; what was committed is intact, and the same command goes on
  2    the arguments, files, settings or checkpoint cannot be used
  3    something is missing or failed, so the benchmark has no number; results.json lists what
  130  interrupted; the same command goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m srum_jax.evaluate", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return run_command(lambda: run(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    group = parser.add_argument_group("benchmark")
    group.add_argument("--benchmark", choices=(*NAMES, activation_run.NAME), required=True, help="what is measured")
    group.add_argument("--stage", choices=STAGES, default=ALL, help="what is done (default: %(default)s)")
    group.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new, or begun by the same command")
    group.add_argument("--prompts", type=user_path, nargs="+", metavar="FILE",
                       help="the benchmark's files, or a folder of them; kept in the folder from the first stage on")
    group.add_argument("--protocol", metavar="NAME", help="which of the benchmark's protocols (default: the first)")
    group.add_argument("--judge-template", type=user_path, metavar="FILE", help="the question to the judge")
    group.add_argument("--images", type=user_path, metavar="DIR",
                       help="of another program, in the official layout (default: those of the generate stage)")
    group.add_argument("--model-id", metavar="TEXT", help="what the model is called in the results (default: the "
                                                          "checkpoint's folder)")
    for name, default in (("start", 0), ("end", None), ("step", 1)):
        group.add_argument(f"--{name}", type=int, default=default, metavar="N",
                           help="a slice of each category; the result is then incomplete")
    group.add_argument("--steps", type=_steps, metavar="0,2,4,...", help="of per_step: which are judged; the last is "
                                                                        "the finished picture (default: all)")
    group.add_argument("--failures", metavar="RULE", help="what replies that cannot be read count as, for benchmarks "
                                                          "that have such rules: minus_one, exclude or zero")
    group.add_argument("--allow-partial", action="store_true", help="print means of what there is, as partial")
    group.add_argument("--against", type=user_path, metavar="RESULTS",
                       help="results.json of another model: differences with 95 %% intervals")
    group.add_argument("--repair", action="store_true", help="make and judge again what was changed")
    add_model_arguments(parser, required=False)
    group = parser.add_argument_group("images")
    group.add_argument("--think", action=argparse.BooleanOptionalAction, help="write a plan first (default: as the "
                                                                              "benchmark is run)")
    group.add_argument("--batch-size", type=int, metavar="B", help="images made together (default: the benchmark's)")
    group.add_argument("--base-seed", type=int, default=42, help="every image's seed follows from this and its id "
                                                                 "(default: 42)")
    group.add_argument("--size", type=parse_size, metavar="HxW",
                       help="height and width in pixels (default: the model's)")
    add_judge_arguments(parser)
    add_process_arguments(parser)
    first, *others = samplers().values()
    add_set_argument(parser, _groups(first), *(together(sampler=sampler) for sampler in others))


def run(args: argparse.Namespace) -> int:
    """Does the stages; see `--help` for the arguments. Returns the exit code."""
    set_up_streams()
    out = epath.Path(args.out)
    with (device_failures("If memory ran out, use a smaller --batch-size, or more shards of the weights (--mesh)."),
          folder_goes_if_refused(out), entries_go_if_refused(out, until=lambda: _has_work(out))):
        return _run(args)


def _has_work(out: epath.Path) -> bool:
    return any((out / name).exists() for name in ("run.json", "run-judge.json", "results.json", "models"))


def _run(args: argparse.Namespace) -> int:
    if args.benchmark == activation_run.NAME:
        return _activation(args)
    part = _part(args)
    template = None if args.judge_template is None else read_text(args.judge_template)
    folder = EvaluationFolder(epath.Path(args.out),
                              find_processes(args.process_index, args.num_processes, args.distributed))
    protocol, drawn_as = args.protocol, _drawn_as(args)
    begun = folder.begun_with() if args.stage == SCORE or folder.about.exists() else None
    if begun is not None:
        protocol = protocol or begun["protocol"]
        drawn_as = begun["drawn_as"] if args.steps is None else drawn_as
    if args.stage == SCORE:
        part = Part(**begun["part"])
    if template is None and folder.template.exists():
        template = read_text(folder.template)
    if args.stage in (GENERATE, SCORE) or (args.judge or "").startswith("replay:"):
        template = template or ""  # asks nobody
    benchmark = open_benchmark(args.benchmark, protocol, template, drawn_as)
    args.checkpoint = args.checkpoint or (None if args.images else benchmark.checkpoint)
    items = folder.begin(benchmark, None if args.prompts is None else read_files(args.prompts), part)
    chosen = part.of(items)
    units = judge_units(chosen, args.judge_batch_size if args.stage != SCORE else _noted_batch_size(folder))
    named = _named_judge(args, benchmark) if args.stage in (JUDGE, ALL) else None  # before anything is drawn
    whole = True
    if args.stage in (GENERATE, ALL) and args.images is None and benchmark.drawing is not None:
        whole = _generate(args, benchmark, chosen, folder)
    if args.stage in (JUDGE, ALL):
        absent = _judge(args, benchmark, chosen, units, folder, named)
        whole = folder.judge.summary.exists()
        if not whole:
            print("judge: results of other processes are missing")
        if absent and args.stage == JUDGE:
            raise Incomplete(f"{absent} images are missing or unreadable; `{SCORE}` lists them")
    if args.stage in (SCORE, ALL) and whole:
        return _score(args, benchmark, items, units, folder)
    return 0


def _part(args: argparse.Namespace) -> Part:
    if args.start < 0 or args.step < 1 or (args.end is not None and args.end <= args.start):
        raise BadInput(f"--start, --end, --step: expected 0 <= start < end and a positive step, found {args.start}, "
                       f"{args.end} and {args.step}.")
    return Part(args.start, args.end, args.step)


def _drawn_as(args: argparse.Namespace) -> str:
    """Steps and mode, as some official layouts have them in names of folders."""
    sampler = apply_overrides(_groups(_sampler(args)), args.set).sampler
    drawn_as = f"{getattr(sampler, 'num_timesteps', 'given')}_{'think' if args.think else 'no_think'}"
    return drawn_at(drawn_as, args.steps)


def _steps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, found {text!r}") from None


def _sampler(args: argparse.Namespace) -> Any:
    """The published settings of the checkpoint's family; of the first family where there is no checkpoint."""
    return samplers()[recognise(args.checkpoint)] if args.checkpoint else next(iter(samplers().values()))


def _groups(sampler: Any) -> Any:
    return together(sampler=sampler, plan=TextSampler, endpoint=EndpointConfig(),
                    activation=ActivationConfig())


def _activation(args: argparse.Namespace) -> int:
    for option in ("protocol", "judge", "judge_template", "think", "steps", "size", "end", "failures", "against"):
        if getattr(args, option) is not None:
            raise BadInput(f"--{option.replace('_', '-')}: expected none with --benchmark {args.benchmark}.")
    if args.stage == JUDGE or args.start or args.step != 1:
        raise BadInput(f"--stage, --start, --step: expected {GENERATE}, {SCORE} or {ALL} of all samples: in "
                       f"{args.benchmark} nobody is judged.")
    if find_processes(args.process_index, args.num_processes, args.distributed).count > 1:
        raise BadInput(f"--num-processes: expected one process with --benchmark {args.benchmark}; use --mesh.")
    config = apply_overrides(_groups(_sampler(args)), args.set).activation
    out = epath.Path(args.out)
    if args.stage == SCORE:
        return _score_activation(ActivationRun.begun(out, config.clusters))
    measured = ActivationRun(out, None if args.prompts is None else read_files(args.prompts), config)
    _measure(args, measured)
    return 0 if args.stage == GENERATE else _score_activation(measured)


def _measure(args: argparse.Namespace, measured: ActivationRun) -> None:
    for option in ("checkpoint", "images"):
        if getattr(args, option) is None:
            raise BadInput(f"--{option}: expected the " + ("model" if option == "checkpoint" else "folder with the "
                           "pictures of the questions") + ", found nothing.")
    family = family_of(args.checkpoint)
    if family.neurons is None or family.answerer is None:
        raise BadInput(f"--checkpoint {args.checkpoint}: expected a model whose neurons can be looked at, found one of "
                       f"{recognise(args.checkpoint)}.")
    templates, images = Templates.read(args.templates), epath.Path(args.images)
    model = ComparedModel(args.model_id or epath.Path(args.checkpoint).name,
                          checkpoint_fingerprint(args.checkpoint, family.architecture))
    sampler = apply_overrides(_groups(_sampler(args)), args.set).sampler
    drawn = dataclasses.asdict(sampler) if measured.config.experts == activation_run.ALL_EXPERTS else None
    pictures = measured.check(checker_of(args, templates), images)
    measured.begin(model, precision_of(args), pictures, drawn=drawn, only_compare=True)  # before minutes of loading
    pipeline = load_pipeline(args, templates, understanding=True)
    measured.begin(model, precision_of(args), pictures, drawn=drawn)
    neurons = pipeline.neurons if drawn is None else pipeline.neurons.of_all_experts(sampler)
    measured.measure(model, neurons, pipeline.answerer, images, args.batch_size or 8)
    print(f"generate: {model.id} was measured")


def _score_activation(measured: ActivationRun) -> int:
    results = measured.score()
    for task, found in results["clusters"].items():
        print(f"cluster {task}: {found['size']} neurons, of which two halves agree by {found['jaccard']:.2f}")
    for model, by_data in results["models"].items():
        for data, by_cluster in by_data.items():
            for cluster, found in by_cluster.items():
                print(f"  {model}, samples {data}, cluster {cluster}: {found['strength']:.5f} (standardised "
                      f"{found['standardised']:+.3f}; random neurons {found['null']['low']:.5f} to "
                      f"{found['null']['high']:.5f}; n = {found['samples']})")
    if not results["complete"]:
        raise Incomplete(f"{activation_run.NAME}: samples of {', '.join(results['missing'])} are missing; "
                         "give the same command again")
    return 0


def _settings(args: argparse.Namespace, benchmark: Benchmark) -> GenerationSettings:
    drawing = benchmark.drawing
    groups = _groups(_sampler(args))
    known = {f"sampler.{name}" for name in field_names(groups.sampler)}
    groups = apply_overrides(groups, [f"{name}={value}" for name, value in drawing.settings.items() if name in known])
    chosen = apply_overrides(groups, args.set)
    think = drawing.think if args.think is None else args.think
    if chosen.plan is not None and not think:
        raise BadInput("--set plan.*: expected --think with it, found no --think.")
    height, width = args.size or (None, None)
    try:
        return GenerationSettings(
            num_candidates=drawing.images_per_prompt, base_seed=args.base_seed, height=height, width=width,
            batch_size=args.batch_size or drawing.batch_size, sampler=chosen.sampler,
            plan=(chosen.plan or TextSampler()) if think else None, output=OutputSettings(GENERATE_SHARDS),
            dtype=args.dtype, attention=args.attention, control_tokens=args.control_tokens, quantize=args.quantize)
    except ValueError as error:
        raise BadInput(error) from error


def _generate(args: argparse.Namespace, benchmark: Benchmark, items: Sequence[EvalItem], folder: EvaluationFolder
              ) -> bool:
    """Returns whether the images of all processes are there."""
    if args.checkpoint is None:
        raise BadInput("--checkpoint: expected the model that draws, found nothing; or give --images.")
    settings, templates = _settings(args, benchmark), Templates.read(args.templates)
    rows = PromptList(prompts_of(benchmark, items), [], f"--benchmark {benchmark.name}")
    raise_bad_rows(check_rows(rows, checker_of(args, templates), folder=folder.root, height=settings.height,
                              width=settings.width))
    plan = plan_images(benchmark, items, settings)
    architecture = family_of(args.checkpoint).architecture
    this_run = Run(settings, rows.rows, checkpoint_fingerprint(args.checkpoint, architecture),
                   {"think_generation": templates.checksums()["think_generation"]} if settings.think else {},
                   encoder_fingerprint(args.checkpoint, architecture))
    drawn = draw_missing(
        this_run, plan, folder.generate,
        lambda edits: keeping_steps(load_pipeline(args, templates, understanding=edits, sampler=settings.sampler),
                                    benchmark, items, plan, folder), repair=args.repair)
    _note_model(args, folder)
    print(f"generate: {drawn.written} images now, {drawn.share - drawn.written} were there")
    if drawn.summary is None:
        print("generate: images of other processes are missing")
        return False
    write_beside_images(benchmark, items, plan, folder)
    return True


def _note_model(args: argparse.Namespace, folder: EvaluationFolder) -> None:
    digest = None if args.checkpoint is None else checkpoint_fingerprint(
        args.checkpoint, family_of(args.checkpoint).architecture)
    name = args.model_id or (epath.Path(args.checkpoint).name if args.checkpoint else None)
    noted.note(folder.model, {"id": name, "checkpoint_sha256": digest})


def _named_judge(args: argparse.Namespace, benchmark: Benchmark) -> NamedJudge:
    who = args.judge or benchmark.judge
    if who is None:
        raise BadInput("--judge: expected who judges, found nothing.")
    if args.images is None and benchmark.drawing is None:
        raise BadInput(f"--images: expected the folder with the pictures of {benchmark.name}, found nothing.")
    return named_judge(who, benchmark.name, args, apply_overrides(_groups(_sampler(args)), args.set).endpoint)


def _judge(args: argparse.Namespace, benchmark: Benchmark, items: Sequence[EvalItem], units: Sequence[JudgeUnit],
           folder: EvaluationFolder, named: NamedJudge) -> int:
    """Returns how many images are missing or unreadable."""
    images = (epath.Path(args.images) if args.images else folder.images) if named.looks else None
    begun_with = {"protocol": benchmark.protocol, "judge": named.identity, "judge_batch_size": args.judge_batch_size,
                  "template_sha256": benchmark.template.sha256}
    noted.compare(folder.judge.settings, begun_with)
    judge = named.open()
    noted.note(folder.judge.settings, begun_with)
    create_once(folder.template, benchmark.template.text.encode())
    if not folder.model.exists():
        _note_model(args, folder)
    absent = judge_items(benchmark, units, folder, images, judge, repair=args.repair)
    extra = extra_images(benchmark, items, images) if images is not None else 0
    print(f"judge: {len(items)} items" + (f", {absent} images missing or unreadable" if absent else "") +
          (f", {extra} other images ignored" if extra else ""))
    return absent


def _noted_batch_size(folder: EvaluationFolder) -> int:
    if not folder.judge.settings.exists():
        raise BadInput(f"--out {folder.root}: expected replies of a judge, found none; run --stage judge first.")
    return noted.read(folder.judge.settings)["judge_batch_size"]


def _score(args: argparse.Namespace, benchmark: Benchmark, items: Sequence[EvalItem], units: Sequence[JudgeUnit],
           folder: EvaluationFolder) -> int:
    results = score(benchmark, items, units, folder, args.failures)
    _print_scores(results, args.allow_partial)
    if args.against is not None and results["complete"]:
        differences = compare(benchmark, items, results, read_scores(folder.root), args.against)
        print(f"against {args.against} (95 % interval, paired over items)")
        for name, found in differences.items():
            print(f"  {name}: " + ("nothing to compare" if found is None else
                  f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"))
    if not results["complete"]:
        raise Incomplete(
            f"{args.benchmark}: {len(results['missing_items'])} of {results['num_items']} items are missing and "
            f"{results['num_failed']} failed, so there is no overall number; {folder.results} lists them")
    return 0


def _print_scores(results: dict[str, Any], allow_partial: bool) -> None:
    if results["other_prompts"]:
        print(f"these are not the prompts of {results['benchmark']}, so this is not its number: found and expected of "
              + ", ".join(f"{name} {found} and {count}" for name, (found, count) in results["other_prompts"].items()))
    print(f"{results['benchmark']} ({results['protocol']}), judged by {(results['judge'] or {}).get('id')}, "
          f"{results['num_judged']} of {results['num_items']} items, {results['num_failed']} failed")
    for name, found in results["scores"].items():
        if isinstance(found, dict):
            spread = "" if found["stderr"] is None else f" +- {found['stderr']:.4f}"
            print(f"  {name}: {found['mean']:.4f}{spread} (n = {found['n']})")
    if results["scores"][OVERALL] is not None:
        print(f"  {OVERALL}: {results['scores'][OVERALL]:.4f}")
    if allow_partial and not results["complete"]:
        for name, found in results["partial"].items():
            print(f"  partial {name}: {found['mean']:.4f} (n = {found['n']})")


if __name__ == "__main__":
    sys.exit(main())
