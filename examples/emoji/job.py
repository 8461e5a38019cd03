"""python -m examples.emoji.job DATA OUT: vectors for the demo's pool, then the main job on it."""

import csv
import sys
from pathlib import Path

import numpy as np

from holotype import HolotypeError, Settings, load_encoder, open_pool, run
from holotype.embeddings import embed
from holotype.files import write
from holotype.progress import Terminal

SEARCH_ENCODER = "efficientnet_lite1"  # another than the classifier's, as in the reference job


def write_embeddings(data: Path) -> None:
    """Write `data`/embeddings.npy: row `i` belongs to `<i>.jpg` of images.tar."""
    target = data / "embeddings.npy"
    if target.exists():
        return
    pool = open_pool(data / "images.tar")
    embeddings = embed(pool, load_encoder(SEARCH_ENCODER), data / "vectors", Terminal())
    rows = [pool.row(str(number)) for number in range(len(pool))]
    write(target, lambda file: np.save(file, embeddings.take(rows)))


def main() -> int:
    """Run the reference job on the data of the first argument into the folder of the second."""
    data, out = map(Path, sys.argv[1:])
    with (data / "exemplars.csv").open() as file:
        codes = {row["class"]: [row["index"]] for row in csv.DictReader(file)}
    try:
        write_embeddings(data)
        settings = Settings.parse(
            {
                "images": str(data / "images.tar"),
                "embeddings": str(data / "embeddings.npy"),
                "exemplars": codes,
                "test_set": str(data / "test_set.csv"),
            }
        )
        run(settings, out, force=True, progress=Terminal())
    except HolotypeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"report       {out / 'report.html'}\nmodel        {out / 'model'}\npredictions  {out / 'predictions.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
