"""Builds the documentation as a site: the pages of docs/, and a reference of all commands and settings.

The reference is made from the parsers and dataclasses in the source whenever the site is built. A link or anchor that
leads nowhere is an error. Needs the extra [docs].
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from srum_jax.command_line import set_up_streams, user_path
from srum_jax.errors import BadInput, tell
from tools.build_docs.broken_links import broken_links
from tools.build_docs.pages import put_pages

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_EPILOG = """
examples:
  python -m tools.build_docs --out build/site
  python -m http.server --directory build/site

exit codes:
  0    done
  1    the generator failed, or a link leads nowhere; nothing was written
  2    --out is there already
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_docs", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=user_path, default="build/site", metavar="DIR",
                        help="a new folder for the site (default: %(default)s)")
    out = pathlib.Path(parser.parse_args(argv).out)
    set_up_streams()
    if out.exists():
        return tell(BadInput(f"--out {out}: expected a new folder; remove it, or name another."))
    return build(out)


def build(out: pathlib.Path) -> int:
    """Builds the site.

    Args:
      out: a folder to be made.

    Returns:
      The exit code.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        shutil.copy(_ROOT / "docs" / "zensical.toml", work)
        put_pages(_ROOT, work / "docs")
        found = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        broken = broken_links(work / "site") if found.returncode == 0 else []
        if found.returncode or broken:
            print(found.stdout, *broken, sep="\n", file=sys.stderr)
            return 1
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "site", out)
    print(f"{out}/index.html: {sum(1 for _ in out.rglob('*.html'))} pages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
