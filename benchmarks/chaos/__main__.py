"""python -m benchmarks.chaos: accidents that happen to every command that writes, and what is lost by them.

    kills       it is killed at a random moment
    crash       it is killed, or the power is lost, at one of its changes to the disk
    io          a call of the system fails, once or from then on
    memory      a piece of memory is refused, once or from then on, or all memory has a limit
    disks       the disk is full at some moment
    writers     two commands write into one folder
    changes     a pool changes while it is embedded
    malformed   a file that is kept is damaged: bits, blocks, cuts, those of another run

After each it is looked whether answers are there, the model predicts, no row has another image's vector, and the same
command goes on to the same results. What came of it once is in benchmarks/results/chaos.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.chaos import calls, changes, crash, disks, kills, malformed, memory, writers
from benchmarks.chaos.house import House, build

Trial = tuple[str, list[str]]
# how many accidents of each part there are within some 15 minutes, and what yields them
PARTS: Mapping[str, tuple[int, Callable[[House, Path, int, int], Iterator[Trial]]]] = {
    "kills": (20, kills.trials),
    "crash": (26, crash.trials),
    "io": (36, calls.trials),
    "memory": (16, memory.trials),
    "disks": (10, disks.trials),
    "writers": (10, writers.trials),
    "changes": (3, changes.trials),
    "malformed": (10, malformed.trials),  # bits of each file
}
IN_NAMESPACE = "HOLOTYPE_CHAOS_MOUNTS"


def main() -> int:
    """Let the accidents happen; the exit code is 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--scale", type=float, default=1, help="times as many accidents (1 takes some 15 minutes)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    given = parser.parse_args()
    if os.environ.get(IN_NAMESPACE) is None and given.only in (None, "disks"):
        return _in_namespace()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        scratch = Path(folder)
        house = build(scratch / "house")
        done = {
            name: _watch(name, trials(house, scratch, max(1, round(count * given.scale)), given.seed))
            for name, (count, trials) in PARTS.items()
            if given.only in (None, name)
        }
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


def _watch(name: str, trials: Iterable[Trial]) -> tuple[int, list[Trial]]:
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


def _table(done: dict[str, tuple[int, list[Trial]]]) -> str:
    rows = [f"| {name} | {count} | {count - len(bad)} | {len(bad)} |" for name, (count, bad) in done.items()]
    told = [f"- {name}, {what}: {'; '.join(wrong)}" for name, (_, bad) in done.items() for what, wrong in bad]
    head = "| accident | tried | survived | lost |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n" + ("\n" + "\n".join(told) + "\n" if told else "")


if __name__ == "__main__":
    raise SystemExit(main())
