"""The demo's data: class names, rendering, and the files in the reference shape; without the network."""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from emoji import __main__ as command
from emoji import build, plan, sources
from emoji.archive import write_tar
from emoji.drawings import Drawing, load
from emoji.errors import EmojiError
from emoji.naming import class_of
from emoji.rendering import Sitting, render
from emoji.tables import EXEMPLAR_ARTIST, LOOK_ALIKES, MORE_ARTISTS, choose_exemplars

CIRCLE = '<circle cx="4" cy="4" r="4" fill="red"/>'
SETTINGS = build.Settings("full", seed=0, sides=(16, 32))
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


def drawing(name: str, artist: str = "noto", body: str = CIRCLE) -> Drawing:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">{body}</svg>'
    return Drawing(artist, name, svg, 8, 8)


def few_drawings() -> list[Drawing]:
    """Just enough for the exemplars and the 200 test rows."""
    plain = [drawing(name, artist) for name in plan.CLASSES for artist in (EXEMPLAR_ARTIST, *MORE_ARTISTS)]
    toned = [
        drawing(f"{who}-{name}-{tone}", artist)
        for name in plan.CLASSES
        for artist in ("fluent-emoji", "fluent-emoji-flat", "noto")
        for who in ("man", "woman")
        for tone in TONES
    ]
    alike = [drawing(name, f"artist-{i}") for name in LOOK_ALIKES for i in range(6)]
    return [*plain, *toned, *alike, *(drawing(f"thing-{i}x") for i in range(100))]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mage", "mage"),
        ("woman-mage-dark-skin-tone", "mage"),
        ("man-mage-medium-light", "mage"),
        ("person-mage", "mage"),
        ("woman-mage-tone3", "mage"),
        ("police-officer-medium-dark", "police-officer"),
        ("police-car-light", "police-car-light"),
        ("light-bulb", "light-bulb"),
        ("black-medium-square", "black-medium-square"),
        ("man", "man"),
        ("woman-medium-skin-tone", "woman"),
        ("prince-dark", "prince"),
        ("old-man-light", "older-person"),
        ("pregnant-woman", "pregnant"),
        ("deaf-man-dark-skin-tone", "deaf"),
        ("man-deaf-dark", "deaf"),
        ("man-dark-skin-tone-blond-hair", "blond-hair"),
        ("men-holding-hands-dark-skin-tone-light-skin-tone", "holding-hands"),
        ("man-and-woman-holding-hands", "holding-hands"),
        ("two-women-holding-hands", "holding-hands"),
        ("kiss-woman-man-dark-skin-tone-medium-light-skin-tone", "kiss"),
        ("kiss-mark", "kiss-mark"),
        ("family-man-woman-girl-boy", "family-adult-adult-child-child"),
        ("mermaid-tone1", "merperson"),
        ("man-merpeople-light", "merperson"),
        ("flag-for-flag-isle-of-man", "flag-isle-of-man"),
        ("flag-for-austria", "flag-austria"),
        ("flag-crossed-flags", "crossed-flags"),
        ("medium-dark-skin-tone", "skin-tone"),
        ("bear-face", "bear"),
        ("cat-face", "cat-face"),
        ("brain2", "brain"),
        ("lady-beetle", "lady-beetle"),
        ("female-sign", "female-sign"),
    ],
)
def test_a_class_is_the_name_without_tone_and_gender(name: str, expected: str) -> None:
    assert class_of(name) == expected


def test_a_sitting_always_gives_the_same_bytes_and_another_seed_others() -> None:
    first = render(Sitting(drawing("ball"), seed=0, number=1, sides=(40, 60)))
    assert render(Sitting(drawing("ball"), seed=0, number=1, sides=(40, 60))) == first
    assert render(Sitting(drawing("ball"), seed=1, number=1, sides=(40, 60))) != first
    assert render(Sitting(drawing("ball"), seed=0, number=2, sides=(40, 60))) != first


def test_the_long_side_keeps_its_limits_and_shapes_vary() -> None:
    jpegs = [render(Sitting(drawing("ball"), 0, number, (40, 60))) for number in range(30)]
    sizes = [Image.open(io.BytesIO(jpeg)).size for jpeg in jpegs]
    assert all(40 <= max(size) <= 60 for size in sizes)
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_the_drawing_is_on_the_picture() -> None:
    page = np.asarray(Image.open(io.BytesIO(render(Sitting(drawing("ball"), 0, 0, (64, 64))))))
    red = (page[..., 0] > 200) & (page[..., 1] < 60) & (page[..., 2] < 60)
    assert red.mean() > 0.15


@pytest.mark.parametrize("body", ["", "<circle"])
def test_a_drawing_that_shows_nothing_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        render(Sitting(drawing("nothing", body=body), 0, 0, (16, 32)))


def test_the_tar_is_numbered_and_its_bytes_depend_on_the_images_only(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, iter([b"one", b"two"]))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["0.jpg", "1.jpg"]
        assert {(member.mtime, member.uid, member.gid) for member in tar} == {(0, 0, 0)}


def test_a_tar_that_fails_midway_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_tar(tmp_path / "a.tar", (bytes(1 // n) for n in (1, 0)))
    assert list(tmp_path.iterdir()) == []


def test_a_build_has_the_reference_shape_and_a_failed_drawing_shifts_no_row(tmp_path: Path) -> None:
    (tmp_path / "embeddings.npy").write_bytes(b"of an older build")
    chosen = plan.choose([*few_drawings(), drawing("nothing", body="")], "full", seed=0)
    build.build_from(chosen, tmp_path, SETTINGS)

    labels = rows(tmp_path / "labels.csv")
    with tarfile.open(tmp_path / "images.tar") as tar:
        assert tar.getnames() == [f"{row['index']}.jpg" for row in labels]
        assert len(labels) == len(chosen) - 1
        for i, row in enumerate(labels):  # each image is the sitting of the drawing that its row names
            at = next(k for k, d in enumerate(chosen) if (d.artist, d.name) == (row["artist"], row["drawing"]))
            member = tar.extractfile(f"{i}.jpg")
            assert member is not None
            assert member.read() == render(Sitting(chosen[at], SETTINGS.seed, at, SETTINGS.sides))
    mark = json.loads((tmp_path / "build.json").read_text())
    assert mark["unrendered"] == ["noto:nothing: the drawing shows nothing"]
    assert not (tmp_path / "embeddings.npy").exists()
    assert build.is_built(tmp_path, SETTINGS)
    assert not build.is_built(tmp_path, build.Settings("full", seed=1, sides=(16, 32)))
    for torn in ("", "{}", "[]"):
        (tmp_path / "build.json").write_text(torn)
        assert not build.is_built(tmp_path, SETTINGS)

    exemplars = {row["class"]: int(row["index"]) for row in rows(tmp_path / "exemplars.csv")}
    assert {name: (labels[i]["artist"], labels[i]["drawing"]) for name, i in exemplars.items()} == {
        name: ("noto", name) for name in plan.CLASSES
    }
    test_rows = rows(tmp_path / "test_set.csv")
    assert len({row["index"] for row in test_rows}) == 200
    more = rows(tmp_path / "more_exemplars.csv")
    assert {
        (row["class"], labels[int(row["index"])]["artist"], labels[int(row["index"])]["drawing"]) for row in more
    } == {(name, artist, name) for name in plan.CLASSES for artist in MORE_ARTISTS}
    given = {*exemplars.values(), *(int(row["index"]) for row in more)}
    assert not {int(row["index"]) for row in test_rows} & given
    assert {name: sum(int(row[name]) for row in test_rows) for name in plan.CLASSES} == {
        "mage": 30,
        "vampire": 25,
        "superhero": 0,
    }
    for row in test_rows:
        truth = labels[int(row["index"])]["class"]
        assert truth != "superhero"
        assert [row[name] for name in plan.CLASSES] == [str(int(truth == name)) for name in plan.CLASSES]


def test_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = few_drawings()
    monkeypatch.setattr(plan, "SMALL_COUNT", 150)
    monkeypatch.setattr(plan, "REFERENCE_COUNT", 700)
    small = plan.choose(drawings, "small", seed=0)
    assert len(small) == len(set(small)) == 150
    assert {d for d in drawings if d.class_name in plan.CLASSES} <= set(small)
    assert small == plan.choose(drawings, "small", seed=0) != plan.choose(drawings, "small", seed=1)
    reference = plan.choose(drawings, "reference", seed=0)
    assert len(reference) == 700
    assert {reference.count(d) for d in drawings} == {700 // len(drawings), 700 // len(drawings) + 1}


def test_without_its_plain_drawing_a_class_has_no_exemplar() -> None:
    with pytest.raises(EmojiError, match=r"there is no vampire"):
        choose_exemplars([drawing("mage"), drawing("superhero"), drawing("man-vampire")])


def test_packages_give_every_icon_with_its_own_size(tmp_path: Path) -> None:
    icons = {
        "prefix": "noto",
        "icons": {"b": {"body": CIRCLE, "hidden": True}, "a": {"body": CIRCLE, "height": 33}},
        "aliases": {"c": {"parent": "a"}},
        "width": 32,
        "height": 32,
    }
    content = json.dumps(icons).encode()
    with tarfile.open(tmp_path / "noto.tgz", "w:gz") as package:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        package.addfile(member, io.BytesIO(content))
    loaded = load([tmp_path / "noto.tgz"])
    assert [(d.artist, d.name, d.width, d.height) for d in loaded] == [
        ("noto", "a", 32, 33),
        ("noto", "b", 32, 32),
    ]
    (tmp_path / "torn.tgz").write_bytes((tmp_path / "noto.tgz").read_bytes()[:40])
    with pytest.raises(EmojiError, match=r"torn\.tgz.*delete it and repeat"):
        load([tmp_path / "torn.tgz"])


def test_without_npm_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["--variant", "small", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: expected {len(sources.SOURCES)} packages in {tmp_path / 'cache' / 'emoji'}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["128", "320:128", "0:10", "a:b", "-1:20"])
def test_a_size_that_is_none_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--variant", "small", "--out", "anywhere", f"--size={size}"])
    assert "expected MIN:MAX pixels" in capsys.readouterr().err
