"""python -m examples.emoji --variant small --out DIR: the demo's data."""

import argparse
import json
import sys
from pathlib import Path

from holotype import HolotypeError

from .build import MARK, Settings, build
from .errors import EmojiError
from .plan import VARIANTS
from .vectors import write_embeddings


def main(arguments: list[str] | None = None) -> int:
    """Build what the arguments ask for; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        made = build(given.out, Settings(given.variant, given.seed, given.size))
        if not given.no_embeddings:
            write_embeddings(given.out)
    except (EmojiError, HolotypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped: {given.out} is not finished; give the same command again", file=sys.stderr)
        return 130
    _report(given.out, made)
    return 0


def _report(out: Path, made: bool) -> None:
    mark = json.loads((out / MARK).read_text(encoding="utf-8"))
    for line in mark["unrendered"]:
        print(f"not rendered: {line}", file=sys.stderr)
    state = "built" if made else "already there"
    print(f"{out}: {state}, {mark['images']:,} images, {len(mark['unrendered'])} drawings not rendered")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.emoji", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, required=True, help="6,000, 24,173 or 92,350 images")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to fill")
    parser.add_argument("--seed", type=_natural, default=0, help="another seed, other images (default 0)")
    parser.add_argument(
        "--size",
        type=_sides,
        default=(128, 320),
        metavar="MIN:MAX",
        help="long side of an image in pixels (default 128:320)",
    )
    parser.add_argument("--no-embeddings", action="store_true", help="leave out embeddings.npy")
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 up, got {text!r}")
    return int(text)


def _sides(text: str) -> tuple[int, int]:
    least, _, greatest = text.partition(":")
    if not (least.isdecimal() and greatest.isdecimal() and 16 <= int(least) <= int(greatest) <= 8192):
        raise argparse.ArgumentTypeError(f"expected MIN:MAX pixels, 16 <= MIN <= MAX <= 8192, got {text!r}")
    return int(least), int(greatest)


if __name__ == "__main__":
    sys.exit(main())
