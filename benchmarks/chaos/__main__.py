"""python -m benchmarks.chaos: accidents that happen to every command that writes, and what is lost by them.

Kills at random moments, disks that are full, two writers of one folder, and pools that change while they are embedded;
after each it is looked whether answers are there, the model predicts, no row has another image's vector, and the same
command goes on to the same results. What came of it once is in benchmarks/results/chaos.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.chaos import changes, disks, kills, writers
from benchmarks.chaos.house import build

PARTS = ("kills", "disks", "writers", "changes")
IN_NAMESPACE = "HOLOTYPE_CHAOS_MOUNTS"


def main() -> int:
    """Let the accidents happen; the exit code is 1 where anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=130, help="how many (default 130)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    given = parser.parse_args()
    if os.environ.get(IN_NAMESPACE) is None and given.only in (None, "disks"):
        return _in_namespace()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        scratch = Path(folder)
        house = build(scratch / "house")
        parts = {
            "kills": lambda: kills.trials(house, scratch, given.kills, given.seed),
            "disks": lambda: disks.trials(house, scratch / "disks") if disks.can_mount() else (),
            "writers": lambda: writers.trials(house, scratch),
            "changes": lambda: changes.trials(house, scratch, given.seed),
        }
        done = {name: _watch(name, parts[name]()) for name in PARTS if given.only in (None, name)}
    print(_table(done))
    return int(any(wrong for _, wrong in done.values()))


def _in_namespace() -> int:
    """Start again where disks can be mounted that nobody else sees."""
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    words = [sys.executable, "-m", "benchmarks.chaos", *sys.argv[1:]]
    if shutil.which("unshare") is None:
        raise SystemExit("expected unshare (util-linux) to mount disks of our own with, found none")
    return subprocess.run(
        ["unshare", *become, "--mount", *words], check=False, env=os.environ | {IN_NAMESPACE: "1"}
    ).returncode


def _watch(name: str, trials: Iterable[tuple[str, list[str]]]) -> tuple[int, list[tuple[str, list[str]]]]:
    """Let the accidents of one part happen, and return how many there were and which left anything wrong."""
    count, bad, started = 0, [], time.perf_counter()
    for what, wrong in trials:
        count += 1
        if wrong:
            bad.append((what, wrong))
        print(f"{name} {count}: {what}: {'; '.join(wrong) or 'all there'}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{name}: {count} tried, {count - len(bad)} survived, {seconds:.0f} s", flush=True)
    return count, bad


def _table(done: dict[str, tuple[int, list[tuple[str, list[str]]]]]) -> str:
    rows = [f"| {name} | {count} | {count - len(bad)} | {len(bad)} |" for name, (count, bad) in done.items()]
    told = [f"- {name}, {what}: {'; '.join(wrong)}" for name, (_, bad) in done.items() for what, wrong in bad]
    head = "| accident | tried | survived | not |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n" + ("\n" + "\n".join(told) + "\n" if told else "")


if __name__ == "__main__":
    raise SystemExit(main())
