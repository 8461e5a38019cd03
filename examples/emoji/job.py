"""python -m examples.emoji.job DATA OUT: the main job on the demo's data, as one would type it."""

import csv
import shlex
import subprocess
import sys
from pathlib import Path


def command(data: Path, out: Path) -> list[str]:
    """Return the command line of the reference job on the files in `data`, searching both ways."""
    with (data / "exemplars.csv").open(encoding="utf-8", newline="") as file:
        exemplars = [f"{row['class']}={row['index']}" for row in csv.DictReader(file)]
    arguments = ["--images", data / "images.tar", "--embeddings", data / "embeddings.npy", "--search", "both"]
    for exemplar in exemplars:
        arguments += ["--exemplar", exemplar]
    return ["holotype", "run", *map(str, [*arguments, "--test-set", data / "test_set.csv", "--out", out])]


def main() -> int:
    """Show the command, then run it over what an earlier demo left."""
    typed = [*command(Path(sys.argv[1]), Path(sys.argv[2])), "--force"]
    print(shlex.join(typed), flush=True)
    return subprocess.run([Path(sys.executable).with_name("holotype"), *typed[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
