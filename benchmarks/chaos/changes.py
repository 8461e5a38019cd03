"""Pools that change while they are embedded: no row has another image's vector, and the next command sets all right."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.chaos.house import House, end, picture, write_tar

COUNT = 2500  # images: a few seconds of work, and more than two shards
SAME = 0.999  # cosine of two computations of one vector
WORDS = ("--out", "vectors")

Pictures = Mapping[str, bytes]


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield `count` changes of a pool, drawn from all, and what was wrong with the vectors after each."""
    dice = random.Random(seed)
    old = {f"{number:05d}": picture(number) for number in range(COUNT)}
    new = {f"{number:05d}": picture(number, version=1) for number in range(COUNT)}
    less = {name: content for name, content in old.items() if int(name) % 10}
    known = _known(house, scratch, old, new)
    happening = [*_of_tars(old, new, less), *_of_folders(old, new, less)]
    dice.shuffle(happening)
    for what, after, change in happening[:count]:
        here = House(scratch / "changing")
        shutil.rmtree(here.root, ignore_errors=True)
        shutil.copytree(house.root / "cache", here.root / "cache", symlinks=True)
        pool = _write(here.root / ("pool.tar" if what.startswith("tar") else "pool"), old)
        process = here.start(["embed", pool.name, *WORDS])
        time.sleep(dice.uniform(1, 6))
        change(pool)
        first = end(process)
        wrong = [first.wrong] if first.wrong else []
        wrong += _strangers(here.root / "vectors", known)
        again = here.do(["embed", pool.name, *WORDS])
        if again.code:
            wrong.append(f"the same command again: exit {again.code}, {again.errors.strip()[-300:]}")
        else:
            wrong += _search(here, pool, after)
        yield what, wrong


def _known(house: House, scratch: Path, *versions: Pictures) -> dict[str, list[np.ndarray]]:
    """The vectors that an id may have: those of each of its pictures."""
    known: dict[str, list[np.ndarray]] = {}
    for number, pictures in enumerate(versions):
        here = House(scratch / f"version{number}")
        shutil.rmtree(here.root, ignore_errors=True)
        shutil.copytree(house.root / "cache", here.root / "cache", symlinks=True)
        _write(here.root / "pool.tar", pictures)
        ended = here.do(["embed", "pool.tar", *WORDS])
        if ended.code:
            raise SystemExit(ended.errors)
        for name, vector in vectors(here.root / "vectors"):
            known.setdefault(name, []).append(vector)
    return known


def vectors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield id and vector of what is in `folder`, as others read clip-retrieval's layout."""
    for path in sorted((folder / "img_emb").glob("*.npy")):
        number = path.stem.removeprefix("img_emb_")
        ids = pq.read_table(folder / "metadata" / f"metadata_{number}.parquet")["id"].to_pylist()
        yield from zip(ids, np.load(path).astype(np.float32), strict=True)


def _strangers(folder: Path, known: Mapping[str, list[np.ndarray]]) -> list[str]:
    wrong = [name for name, vector in vectors(folder) if max(map(_cosine(vector), known[name])) < SAME]
    return [f"{len(wrong)} rows have another image's vector ({wrong[:3]})"] if wrong else []


def _cosine(vector: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda other: float(vector @ other / max(np.linalg.norm(vector) * np.linalg.norm(other), 1e-9))


def _search(here: House, pool: Path, after: Pictures) -> list[str]:
    """Whether every image of the pool as it is now is found: the list of all of them has each once."""
    name = next(iter(after))
    listed = here.start(["search", pool.name, "--exemplar", name, "--vectors", "vectors", "-k", str(2 * COUNT)])
    printed, errors = listed.communicate()
    if listed.returncode:
        return [f"search fails: {errors.strip()[-300:]}"]
    found = {line.split()[-1] for line in printed.splitlines()}
    missing = set(after) - found - {name}
    return [f"{len(missing)} images are not found ({sorted(missing)[:3]})"] if missing else []


def _write(pool: Path, pictures: Pictures) -> Path:
    if pool.suffix == ".tar":
        write_tar(pool, pictures)
        return pool
    pool.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        (pool / f"{name}.jpg").write_bytes(content)
    return pool


def _of_tars(old: Pictures, new: Pictures, less: Pictures) -> list[tuple[str, Pictures, Callable[[Path], object]]]:
    def replace(pictures: Pictures) -> Callable[[Path], object]:
        return lambda pool: _write(pool.with_name("other.tar"), pictures).replace(pool)

    def cut_and_whole(pool: Path) -> None:
        content = pool.read_bytes()
        pool.write_bytes(content[: len(content) // 2])
        time.sleep(0.5)
        pool.write_bytes(content)

    return [
        ("tar, written over with other pictures", new, lambda pool: _write(pool, new)),
        ("tar, replaced by one of other pictures", new, replace(new)),
        ("tar, replaced by a shorter one", less, replace(less)),
        ("tar, cut for half a second", old, cut_and_whole),
    ]


def _of_folders(old: Pictures, new: Pictures, less: Pictures) -> list[tuple[str, Pictures, Callable[[Path], object]]]:
    def take_out(pool: Path) -> None:
        for name in set(old) - set(less):
            (pool / f"{name}.jpg").unlink()

    def away_and_back(pool: Path) -> None:
        pool.rename(pool.with_name("away"))
        time.sleep(0.5)
        pool.with_name("away").rename(pool)

    return [
        ("folder, other pictures under the same names", new, lambda pool: _write(pool, new)),
        ("folder, one in ten taken out", less, take_out),
        ("folder, gone for half a second", old, away_and_back),
        ("folder, a picture added", old, lambda pool: _write(pool, {"more": picture(7, 7)})),
    ]
