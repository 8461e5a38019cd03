"""python -m examples.emoji.job DATA OUT: the main job on the demo's data, and ten questions to its model."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

from .answers import write_pictures
from .build import MARK, Settings
from .vectors import ENCODER


def reference_job(data: Path, out: Path) -> list[str]:
    """Return the command line of the reference job on the files in `data`."""
    with (data / "exemplars.csv").open(encoding="utf-8", newline="") as file:
        exemplars = [f"{row['class']}={row['index']}" for row in csv.DictReader(file)]
    arguments = ["--images", data / "images.tar", "--embeddings", data / "embeddings.npy"]
    arguments += ["--embeddings-encoder", ENCODER]
    for exemplar in exemplars:
        arguments += ["--exemplar", exemplar]
    return ["run", *map(str, [*arguments, "--test-set", data / "test_set.csv", "--out", out, "--force"])]


def holotype(arguments: list[str]) -> None:
    """Show the command, then run it."""
    print(f"\n{shlex.join(['holotype', *arguments])}", flush=True)
    subprocess.run([Path(sys.executable).with_name("holotype"), *arguments], check=True)


def main() -> int:
    """Run the job over what an earlier demo left, then ask about ten pictures."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    variant = json.loads((data / MARK).read_text(encoding="utf-8"))["settings"]
    settings = Settings(variant["variant"], variant["seed"], tuple(variant["size"]))
    try:
        holotype(reference_job(data, out))
        holotype(["predict", str(out), *write_pictures(data, settings), "--format", "table"])
    except subprocess.CalledProcessError as error:
        return error.returncode
    print("\nOne exemplar finds what one artist drew. Two minutes of answers find the others (A looks around one):")
    print(shlex.join(["holotype", "review", str(out), "--open"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
