"""Broken tars and odd names: a pool whose every row is read or has a reason, or one sentence."""

import io
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from mutations import TEXTS, budget, mutated, one_sentence
from pictures import blurred, encoded

from holotype import open_pool
from holotype.errors import HolotypeError, UnreadableImage

JPEG = encoded(blurred(1, (16, 12)))
NAMES = st.sampled_from(["0.jpg", "./0.jpg", "a/0.jpg", "a.png", "a.webp", "b.jpg.webp", "b.jpg", "._0.jpg", "x.txt"])
ODD = st.sampled_from([text.replace("\0", "") + ".jpg" for text in TEXTS if "\ud800" not in text])
KINDS = st.sampled_from((tarfile.REGTYPE, *tarfile.SUPPORTED_TYPES, b"D", b"V", b"M", b"N", b"Z"))
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def tar(members: list[tuple[str, bytes]], layout: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout, errors="surrogateescape") as archive:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.jpg"
            member.size = len(JPEG) if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0
            archive.addfile(member, io.BytesIO(JPEG))
    return buffer.getvalue()


PLAIN = [(f"{number}.jpg", tarfile.REGTYPE) for number in range(3)]
LONG = [(f"{'long' * 60}{number}.jpg", tarfile.REGTYPE) for number in range(3)]
SEEDS = [tar(names, layout) for names in (PLAIN, LONG) for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def check(source: Path) -> None:
    for allow in (False, True):
        with one_sentence(HolotypeError):
            pool = open_pool(source, allow_truncated=allow)
            assert len(set(pool.ids)) == len(pool) == len(pool.sizes)
            for row, name in enumerate(pool.ids):
                name.encode()
                assert pool.rows[name] == row
                with one_sentence(UnreadableImage):
                    assert len(pool.read(row)) == pool.sizes[row]


@budget(300)
@given(mutated(SEEDS))
def test_a_broken_tar_is_a_pool_or_a_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pool.tar")
        path.write_bytes(content)
        check(path)


@budget(150)
@given(st.lists(st.tuples(NAMES | ODD, KINDS), max_size=8), FORMATS, st.binary(max_size=20) | st.just(SEEDS[0]))
def test_members_of_every_kind_and_name(members: list[tuple[str, bytes]], layout: int, behind: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pool.tar")
        try:
            path.write_bytes(tar(members, layout) + behind)
        except (ValueError, UnicodeError):  # a name that this layout cannot hold
            return
        check(path)


@budget(150)
@given(st.lists(st.binary(min_size=1, max_size=12) | ODD.map(str.encode), max_size=6))
def test_files_of_every_name(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = folder.encode() + b"/" + name.replace(b"/", b"_").replace(b"\0", b"")[:200] + b".jpg"
            with open(path, "wb") as file:  # noqa: PTH123 - pathlib has no bytes
                file.write(JPEG)
        check(Path(folder))


@budget(200)
@given(st.text(max_size=12) | st.sampled_from(TEXTS))
def test_every_code_is_an_image_or_a_sentence(code: str) -> None:
    with tempfile.TemporaryDirectory() as folder, one_sentence(HolotypeError):
        path = Path(folder, "pool.tar")
        path.write_bytes(SEEDS[0])
        pool = open_pool(path)
        assert pool.row(code) == pool.find(code)
