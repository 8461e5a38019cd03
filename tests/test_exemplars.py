"""Exemplars: what a code means is never a guess, and a class has a name that every file can hold."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from system import nobody

from holotype.errors import ExemplarError
from holotype.pool.exemplars import add, check_class_names, read_folder, resolve
from holotype.pool.pool import Pool, open_pool

Jpeg = Callable[..., bytes]


@pytest.fixture
def pool(make_tar: Callable[..., Path], jpeg: Jpeg) -> Pool:
    """The images 0 (red), 1 (green) and deep/2 (blue) of a tar."""
    colours = {"0.jpg": (200, 0, 0), "1.jpg": (0, 200, 0), "deep/2.jpg": (0, 0, 200)}
    return open_pool(make_tar([(name, jpeg(colour)) for name, colour in colours.items()]))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which is the home folder too."""
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize(("code", "row"), [("0", 0), ("0.jpg", 0), ("deep/2", 2), ("2", 2), ("2.jpg", 2)])
def test_a_bare_code_is_an_id(pool: Pool, here: Path, code: str, row: int) -> None:
    (found,) = resolve(pool, {"red": [code]})
    assert (found.row, found.name, found.data) == (row, pool.ids[row], pool.read(row))


@pytest.mark.parametrize("code", ["{here}/0.jpg", "./0.jpg", "../here/0.jpg", "~/0.jpg", "sub/0.jpg", "other.jpg"])
def test_a_path_is_a_file_although_the_pool_has_the_id(pool: Pool, here: Path, jpeg: Jpeg, code: str) -> None:
    data = jpeg((9, 9, 9))
    for name in ("0.jpg", "sub/0.jpg", "other.jpg"):
        (here / name).write_bytes(data)
    code = code.format(here=here)
    (found,) = resolve(pool, {"red": [code]})
    assert (found.row, found.name, found.data) == (None, code, data)


@pytest.mark.parametrize("code", ["./0.jpg", "../0.jpg", "~/0.jpg", "/0.jpg", "~nobody-has-this-name/0.jpg"])
def test_a_path_without_a_file_is_refused_though_it_ends_in_an_id(pool: Pool, here: Path, code: str) -> None:
    with pytest.raises(ExemplarError, match="there is no file"):
        resolve(pool, {"red": [code]})


def test_a_path_without_a_file_says_how_to_name_the_image_of_the_pool(pool: Pool, here: Path) -> None:
    for code in ("./0.jpg", "./1.jpg"):
        with pytest.raises(ExemplarError, match=r"without './' it would be an image of the pool"):
            resolve(pool, {"red": [code]})


def test_a_code_that_is_an_id_and_another_file_is_refused(pool: Pool, here: Path, jpeg: Jpeg) -> None:
    (here / "0.jpg").write_bytes(jpeg((9, 9, 9)))
    with pytest.raises(ExemplarError, match=r"red=0\.jpg: .*give \./0\.jpg for the file, or 0 for the pool's"):
        resolve(pool, {"red": ["0.jpg"]})
    assert resolve(pool, {"red": ["0"]})[0].row == 0
    assert resolve(pool, {"red": ["./0.jpg"]})[0].row is None


def test_a_file_that_is_the_same_image_is_no_question(pool: Pool, here: Path) -> None:
    (here / "0.jpg").write_bytes(pool.read(0))
    assert resolve(pool, {"red": ["0.jpg"]})[0].row == 0


def test_the_very_id_is_the_pools_whatever_files_there_are(pool: Pool, here: Path, jpeg: Jpeg) -> None:
    (here / "0").write_bytes(jpeg((9, 9, 9)))
    assert resolve(pool, {"red": ["0"]})[0].row == 0


@pytest.mark.parametrize("code", ["nine", "n" * 5000, "a\0b"])
def test_a_code_that_is_neither_is_refused(pool: Pool, here: Path, code: str) -> None:
    with pytest.raises(ExemplarError, match="nor is there a file"):
        resolve(pool, {"red": [code]})


def test_a_file_that_is_no_image_is_refused(pool: Pool, here: Path) -> None:
    (here / "x.jpg").write_text("hello")
    with pytest.raises(ExemplarError, match="unreadable: not an image"):
        resolve(pool, {"red": ["./x.jpg"]})


def test_one_image_stands_for_one_class(pool: Pool, here: Path) -> None:
    (here / "copy.jpg").write_bytes(pool.read(0))
    with pytest.raises(ExemplarError, match="one class only"):
        resolve(pool, {"red": ["0"], "green": ["copy.jpg"]})


def test_a_class_without_an_exemplar_is_named(pool: Pool) -> None:
    with pytest.raises(ExemplarError, match="class 'green' has no exemplar"):
        resolve(pool, {"red": ["0"], "green": []})
    with pytest.raises(ExemplarError, match="at least one class"):
        resolve(pool, {})


def test_a_folder_is_classes_of_paths_and_what_is_hidden_does_not_count(pool: Pool, here: Path, jpeg: Jpeg) -> None:
    for name in ("red/0.jpg", "red/.0.jpg", "red/._0.jpg", "red/b.PNG", "red/notes.txt", "blue/1.jpg"):
        path = here / "exemplars" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    (here / "exemplars/.ipynb_checkpoints").mkdir()
    (here / "exemplars/.ipynb_checkpoints/0.jpg").write_bytes(jpeg())
    (here / "exemplars/README.md").write_text("")
    assert read_folder(Path("exemplars")) == {
        "blue": ["./exemplars/blue/1.jpg"],
        "red": ["./exemplars/red/0.jpg", "./exemplars/red/b.PNG"],
    }
    assert read_folder(here / "exemplars")["blue"] == [f"{here}/exemplars/blue/1.jpg"]


def test_the_paths_of_a_folder_are_never_ids(here: Path, make_tar: Callable[..., Path], jpeg: Jpeg) -> None:
    pool = open_pool(make_tar([("ex/red/0.jpg", jpeg((200, 0, 0)))]))
    (here / "ex/red").mkdir(parents=True)
    (here / "ex/red/0.jpg").write_bytes(jpeg((9, 9, 9)))
    assert resolve(pool, read_folder(Path("ex")))[0].row is None


def test_a_class_folder_without_an_image_is_named(here: Path, jpeg: Jpeg) -> None:
    for name in ("red", "empty"):
        (here / "ex" / name).mkdir(parents=True)
    (here / "ex/red/0.jpg").write_bytes(jpeg())
    (here / "ex/empty/notes.txt").write_text("")
    with pytest.raises(ExemplarError, match=r"class 'empty' in ex/empty, found none"):
        read_folder(Path("ex"))


@pytest.mark.parametrize("folder", ["nothing", ".", "file"])
def test_a_folder_without_classes_is_refused(here: Path, folder: str) -> None:
    (here / "sub").rmdir()
    (here / "file").touch()
    with pytest.raises(ExemplarError, match="found none"):
        read_folder(Path(folder))


def test_a_class_folder_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as folder:
        monkeypatch.chdir(folder)
        Path("sub").mkdir(mode=0)
        with pytest.raises(ExemplarError, match="can be listed at sub"):
            read_folder(Path())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("\u3000", "empty"),
        (" cat", "spaces"),
        ("cat ", "spaces"),
        ("cat\u00a0", "spaces"),
        ("c\nat", "line end"),
        ("cat\r", "line end"),
        ("c\tat", "control character"),
        ("c\x1b[2Jat", "control character"),
        ("c\u2028at", "line end"),
        ("c\udce9t", "broken character"),
        ("none", '"none" is the name of the rejected class'),
        ("None", "rejected class"),
        ("NONE", "rejected class"),
        ("id", "column id"),
        ("index", "column index"),
        ("label", "column label"),
        ("margin", "column margin"),
        ("reason", "column reason"),
        ("p_none", "probabilities of 'none'"),
        ("p_dog", "probabilities of 'dog'"),
    ],
)
def test_a_name_that_no_class_can_have_is_refused(pool: Pool, name: str, why: str) -> None:
    with pytest.raises(ExemplarError, match=why) as error:
        check_class_names(["dog", name])
    assert repr(name) in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(ExemplarError, match=why):
        resolve(pool, {"dog": ["0"], name: ["1"]})


def test_other_names_are_fine() -> None:
    names = ["Lae'zel", "p_cat", "P_dog", "dog", "p_", "Ids", "labels", "non", "猫", "👩\u200d👩\u200d👧", 'a, "b"']
    names += ["a b", "1", "_x", "=1+1"]
    check_class_names(names)
    check_class_names(iter(names))


def test_a_name_that_is_not_text_is_refused() -> None:
    with pytest.raises(ExemplarError, match="expected text, got int"):
        check_class_names([1])  # type: ignore[list-item]


def test_a_class_in_two_forms_of_unicode_is_one(tmp_path: Path, pool: Pool, jpeg: Jpeg) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "Pokémon") for form in ("NFC", "NFD"))
    (tmp_path / "ex" / taken_apart).mkdir(parents=True)
    (tmp_path / "ex" / taken_apart / "a.jpg").write_bytes(jpeg())
    found = read_folder(tmp_path / "ex")
    add(found, composed, "0")
    assert found == {taken_apart: [f"{tmp_path}/ex/{taken_apart}/a.jpg", "0"]}
    with pytest.raises(ExemplarError, match=r"two forms of Unicode, Pok\\xe9mon and Poke\\u0301mon; write it in one"):
        resolve(pool, {composed: ["0"], taken_apart: ["1"]})


@pytest.mark.parametrize("code", [" 0 ", "./0", "0.JPG", r"deep\2.jpg", "02", "./deep/2"])
def test_codes_as_people_write_them(pool: Pool, here: Path, code: str) -> None:
    (found,) = resolve(pool, {"red": [code]})
    assert found.row == (0 if "0" in code and "2" not in code else 2)


def test_a_path_is_never_taken_for_an_id_that_it_ends_in(pool: Pool, here: Path) -> None:
    with pytest.raises(ExemplarError, match=r"no image 'exemplars/0\.jpg'"):
        resolve(pool, {"red": ["exemplars/0.jpg"]})


def test_a_code_that_is_one_images_name_and_anothers_file(make_tar: Callable[..., Path], jpeg: Jpeg) -> None:
    members = [("banner.jpg", jpeg((200, 0, 0))), ("banner.jpg.webp", jpeg((0, 200, 0)))]
    pool = open_pool(make_tar(members))
    with pytest.raises(ExemplarError, match=r"'banner\.jpg' means 2 images .*; give the whole id"):
        resolve(pool, {"red": ["banner.jpg"]})
    assert [resolve(pool, {"red": [code]})[0].row for code in ("banner", "banner.jpg.webp")] == [0, 1]


@pytest.mark.parametrize("name", ["/data/a/0", "../a/0", "~/a/0"])
def test_the_very_id_is_an_id_though_it_looks_like_a_path(
    here: Path, make_tar: Callable[..., Path], jpeg: Jpeg, name: str
) -> None:
    """`tar -P` keeps the paths as they were given; what a run wrote into its settings must be read again."""
    (here / "a").mkdir()
    pool = open_pool(make_tar([(f"{name}.jpg", jpeg((9, 9, 9))), (f"{name.replace('a/', 'b/')}.jpg", jpeg((0, 0, 9)))]))
    for code in (name, f"{name}.jpg"):
        (found,) = resolve(pool, {"red": [code]})
        assert (found.row, found.name) == (0, name)
    with pytest.raises(ExemplarError, match="there is no file"):
        resolve(pool, {"red": [f"{name}.png"]})
    path = Path(name).expanduser().with_suffix(".jpg")
    if name.startswith("~"):  # a file that is there goes before
        path.write_bytes(jpeg((1, 2, 3)))
        (found,) = resolve(pool, {"red": [f"{name}.jpg"]})
        assert (found.row, found.data) == (None, path.read_bytes())


@pytest.mark.parametrize("code", ["pool/sub/0.jpg", "./pool/sub/0.jpg", "{}/pool/sub/0.jpg", "pool/../pool/sub/0.jpg"])
def test_the_path_of_a_file_in_the_pool_is_that_image(
    code: str, tmp_path: Path, jpeg: Jpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool" / "sub").mkdir(parents=True)
    for row in range(2):
        (tmp_path / "pool" / "sub" / f"{row}.jpg").write_bytes(jpeg((row * 90, 20, 20)))
    monkeypatch.chdir(tmp_path)
    (found,) = resolve(open_pool("pool"), {"red": [code.format(tmp_path)]})
    assert (found.name, found.row) == ("sub/0", 0)


@pytest.mark.parametrize("code", ["sub", "./sub", "{}/sub"])
def test_a_folder_as_an_exemplar_says_how_folders_are_given(code: str, pool: Pool, here: Path) -> None:
    with pytest.raises(ExemplarError, match=r"sub is a folder: name a picture in it, .* with --exemplars"):
        resolve(pool, {"red": [code.format(here)]})
