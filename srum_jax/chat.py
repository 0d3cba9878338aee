"""Answers questions, with or without pictures."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from etils import epath
from PIL import Image

from srum_jax.command_line import set_up_streams, user_path
from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.errors import BadInput, tell
from srum_jax.inference.protocols import Answerer
from srum_jax.inference.requests import Answer, Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import add_model_arguments, checker_of, device_failures, load_pipeline
from srum_jax.stages.interruption import run_command
from srum_jax.storage.reading import why_absent

_EPILOG = """
examples:
  python -m srum_jax.chat --checkpoint BAGEL-7B-MoT --image cat.png --question "What is on the table?"
  python -m srum_jax.chat --checkpoint BAGEL-7B-MoT --image a.png --image b.png --think
  python -m srum_jax.chat --checkpoint BAGEL-7B-MoT --question "Name three primary colours." --json

Without --question, every line that is typed is a new question about the same pictures; Ctrl-D ends.

exit codes:
  0    answered
  1    the model failed
  2    the arguments, a picture, a question or the checkpoint cannot be used
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    set_up_streams()
    return run_command(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Answers what the arguments ask; returns the exit code."""
    sampler = TextSampler(args.max_tokens, args.temperature)
    with device_failures():
        return _run(args, sampler)


def _run(args: argparse.Namespace, sampler: TextSampler) -> int:
    templates = Templates.read(args.templates)
    images = tuple(_read_image(path) for path in args.image)
    # Before the weights are read, which takes long: can these pictures and this question be answered at all?
    checker_of(args, templates).check(Question(args.question or "?", images, args.seed))
    pipeline = load_pipeline(args, templates, understanding=bool(images))

    def answer(text: str) -> Answer:
        return pipeline.answer([Question(text, images, args.seed)], sampler=sampler, think=args.think)[0]

    if args.question is not None:
        _print_answer(args.question, answer(args.question), args.json)
        return 0
    return _converse(answer, pipeline, images, args)


def _converse(answer, pipeline: Answerer, images: tuple[Image.Image, ...], args: argparse.Namespace) -> int:
    """Answers line after line. A person is told what is wrong with a question, and asked again; a file is not."""
    typed = sys.stdin.isatty()
    for line in _lines(typed):
        try:
            pipeline.check(Question(line, images, args.seed))
        except RequestError as error:
            if not typed:
                raise
            tell(error, 2)
            continue
        _print_answer(line, answer(line), args.json)
    return 0


def _lines(typed: bool) -> Iterator[str]:
    """Lines that are not blank, until the end of the input."""
    while True:
        try:
            line = input("> " if typed else "")
        except UnicodeDecodeError as error:
            raise BadInput(f"standard input: expected text in {error.encoding}, found byte "
                           f"0x{error.object[error.start]:02x}; convert it, or set PYTHONIOENCODING.") from error
        except EOFError:
            if typed:
                print()
            return
        if line.strip():
            yield line.strip()


def _print_answer(question: str, answer: Answer, as_json: bool) -> None:
    if as_json:
        fields = {name: getattr(answer, name) for name in ("text", "thought", "truncated", "num_tokens", "raw")}
        print(json.dumps({"question": question, **fields}, ensure_ascii=False), flush=True)
        return
    if answer.thought is not None:
        print("\n".join(f"| {line}" for line in answer.thought.splitlines()) + "\n")
    print(answer.text + (" [cut off: --max-tokens]" if answer.truncated else ""), flush=True)


def _read_image(path: str) -> Image.Image:
    try:
        return to_rgb(decode_image(epath.Path(path).read_bytes()))
    except FileNotFoundError as error:
        raise BadInput(f"--image {path}: {why_absent(path)}.") from error
    except (OSError, ImageError) as error:
        raise BadInput(f"--image {path}: expected a picture, found: "
                              f"{getattr(error, 'strerror', None) or error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m srum_jax.chat", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    group = parser.add_argument_group("question")
    group.add_argument("--image", type=user_path, action="append", default=[], metavar="FILE",
                       help="a picture; repeatable")
    group.add_argument("--question", metavar="TEXT", help="without it, questions are read line by line")
    group.add_argument("--json", action="store_true", help="print every answer as one line of JSON")
    group = parser.add_argument_group("sampling")
    group.add_argument("--think", action="store_true", help="let the model think first")
    group.add_argument("--max-tokens", type=int, default=1000, metavar="N", help="default: 1000")
    group.add_argument("--temperature", type=float, metavar="T", help="default: greedy")
    group.add_argument("--seed", type=int, default=0, help="matters only with --temperature (default: 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
