"""Lays the pages of the site out in a folder: those of docs/, the generated ones, and the sources that they link to."""

import pathlib
import re
import shutil

from tools.build_docs import markdown
from tools.build_docs.command_pages import command_modules, command_page, installed_names
from tools.build_docs.settings_page import settings_page

_FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)\)")


def put_pages(root: pathlib.Path, out: pathlib.Path) -> None:
    """Writes everything that the site is built from.

    Args:
      root: of the checkout.
      out: a folder to be made.
    """
    shutil.copytree(root / "docs", out, ignore=shutil.ignore_patterns("*.md", "*.toml"))
    for page in sorted((root / "docs").glob("*.md")):
        name = "index.md" if page.name == "README.md" else page.name
        (out / name).write_text(_with_sources(page.read_text(), root, out))
    reference = out / "reference"
    reference.mkdir()
    (reference / "settings.md").write_text(settings_page())
    rows, modules = [], command_modules(root)
    names = installed_names(root / "setup.py", modules)
    for module in modules:
        page = command_page(module, names.get(module))
        (reference / f"{module}.md").write_text(page)
        says = page.split("\n\n")[1].partition(". ")[0].removesuffix(".")
        rows.append((f"[{module}]({module}.md)", f"`{names[module]}`" if module in names else "", says))
    (reference / "commands.md").write_text(_COMMANDS + markdown.table(("python -m", "installed as", ""), rows) + "\n")


_COMMANDS = """# All commands

Every command answers `--help` with what stands on its page here. Those without an installed name are run as
`python -m NAME` in a checkout; installed from a wheel, `tools` and `experiments` are `srum_jax.tools` and
`srum_jax.experiments`. Exit codes are the same everywhere: 0 done, 1 failed, 2 bad arguments or input, 3 done
with gaps, 130 interrupted.

"""


def _with_sources(text: str, root: pathlib.Path, out: pathlib.Path) -> str:
    """The page with links to files beside docs/ turned into links to pages that show them, which are written."""

    def shown(link: re.Match) -> str:
        page = out / "source" / f"{link[1]}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        source = root / link[1]
        page.write_text(f"# {link[1]}\n\n" + markdown.block(source.read_text(), source.suffix.lstrip(".")) + "\n")
        return f"](source/{link[1]}.md)"

    parts = _FENCED.split(text)
    return "".join(part if part.startswith("```") else _OUTSIDE.sub(shown, part) for part in parts)
