"""Lays the images of a generated folder out on one sheet: a column per prompt, a row per candidate.

  python -m tools.contact_sheet --run pictures --out sheet.png
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageDraw

from srum_jax.command_line import user_path
from srum_jax.storage.atomic_file import atomic_write
from srum_jax.storage.reading import is_hidden

_MARGIN, _LINE = 6, 12  # pixels
_CHARACTER = 6  # pixels, of the built-in font


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 2 if the folder holds no images."""
    parser = argparse.ArgumentParser(prog="python -m tools.contact_sheet", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=user_path, required=True, metavar="DIR", help="the --out of srum_jax.generate")
    parser.add_argument("--out", type=user_path, required=True, metavar="FILE", help="a .png to be written")
    parser.add_argument("--columns", type=int, default=8, metavar="N", help="prompts shown (default: %(default)s)")
    parser.add_argument("--side", type=int, default=96, metavar="PIXELS", help="of each image (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.columns < 1 or args.side < 8:
        parser.error(f"--columns, --side: expected at least 1 and 8, found {args.columns} and {args.side}")
    run = epath.Path(args.run)
    chunks = sorted(path for path in run.glob("generate/chunks/*/*.jsonl") if not is_hidden(path.name))
    records = [json.loads(line) for chunk in chunks for line in chunk.read_text().splitlines()]
    if not records:
        print(f"error: --run {run}: expected a folder that srum_jax.generate has made, found no images.",
              file=sys.stderr)
        return 2
    sheet = _sheet(run, records, args.columns, args.side)
    with atomic_write(args.out) as file:
        sheet.save(file, format="PNG", optimize=True)
    return 0


def _sheet(run: epath.Path, records: list[dict], columns: int, side: int) -> Image.Image:
    shown = sorted({record["index"] for record in records})[:columns]
    rows = 1 + max(record["candidate"] for record in records)
    texts = {record["index"]: textwrap.wrap(record["prompt"], (side + _MARGIN) // _CHARACTER) for record in records}
    top = _MARGIN + _LINE * max(len(texts[index]) for index in shown)
    step = side + _MARGIN
    sheet = Image.fromarray(np.full((top + rows * step, _MARGIN + len(shown) * step, 3), 255, np.uint8))
    draw = ImageDraw.Draw(sheet)
    for column, index in enumerate(shown):
        for line, text in enumerate(texts[index]):
            draw.text((_MARGIN + column * step, _MARGIN // 2 + line * _LINE), text, fill=(40, 40, 40))
    for record in records:
        if record["index"] in shown:
            with (run / "generate" / record["image"]).open("rb") as file:
                image = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(image, (_MARGIN + shown.index(record["index"]) * step, top + record["candidate"] * step))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
