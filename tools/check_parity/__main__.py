"""Compares what this project computes with tensors recorded from the reference implementation."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.errors import BadInput, tell
from srum_jax.storage.atomic_file import write_text
from tools.check_parity.result import GroupResult, Unchecked

_EPILOG = """
examples:
  python -m tools.check_parity bagel golden/bagel/tiny_a
  python -m tools.check_parity bagel golden/bagel/units --json report.json
  python -m tools.check_parity blip3o golden/blip3o/tiny_tied
  python -m tools.check_parity janus_pro golden/janus/tiny_a

exit codes:
  0  everything that was compared is within tolerance
  1  something is out of tolerance, or missing
  2  the folder or the arguments cannot be used
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_parity", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", choices=["bagel", "blip3o", "janus_pro"], help="the model that the case belongs to")
    parser.add_argument("case_dir", type=user_path, help="folder of weights and recorded tensors")
    parser.add_argument("--json", type=user_path, metavar="REPORT", help="also write the report to this file")
    args = parser.parse_args(argv)
    # These take seconds to import.
    import jax

    from srum_jax.devices import start_devices
    from tools.check_parity import bagel, blip3o, janus_pro

    check = {"bagel": bagel, "blip3o": blip3o, "janus_pro": janus_pro}[args.model].check
    # The comparison is with float32; on accelerators the default would be less.
    try:
        start_devices()
        with jax.default_matmul_precision("highest"):
            results = check(args.case_dir)
    except BadInput as error:
        return tell(error)
    ok = _print_report(results)
    if args.json:
        _write_report(epath.Path(args.json), args.case_dir, results, ok)
    return 0 if ok else 1


def _print_report(results: Sequence[GroupResult | Unchecked]) -> bool:
    groups = [result for result in results if isinstance(result, GroupResult)]
    width = max([len(result.name) for result in results], default=0)
    print(f"{'group':{width}}  {'tensors':>7}  {'worst abs':>9}  {'worst rel':>9}  {'tolerance':34}  ok")
    for result in groups:
        print(f"{result.name:{width}}  {result.num_compared:7d}  {result.worst_absolute:9.2e}  "
              f"{result.worst_relative:9.2e}  {result.tolerance:34}  {'ok' if result.ok else 'FAIL'}")
        if not result.ok:
            print(f"    {result.detail}")
    for result in results:
        if isinstance(result, Unchecked):
            print(f"{result.name:{width}}  not checked: {result.reason}")
    bad = [result.name for result in groups if not result.ok]
    tensors = sum(result.num_compared for result in groups)
    print(f"\n{len(groups) - len(bad)} of {len(groups)} groups agree ({tensors} tensors or entries compared)."
          + (f" Out of tolerance or missing: {', '.join(bad)}." if bad else ""))
    return bool(groups) and not bad


def _write_report(path: epath.Path, case_dir: str, results: Sequence[GroupResult | Unchecked], ok: bool) -> None:
    def plain(values: dict) -> dict:  # JSON has no infinity
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    report = {
        "case": case_dir,
        "ok": ok,
        "groups": [plain(dataclasses.asdict(r)) for r in results if isinstance(r, GroupResult)],
        "not_checked": [dataclasses.asdict(r) for r in results if isinstance(r, Unchecked)],
    }
    write_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
