"""Words in place of exemplars, and beside them: a run, its model, its files, and what is done wrong."""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from colours import colour_towers
from conftest import Holotype, Job, Jpeg, MakeTar, Picture
from PIL import Image

from holotype import Classifier, open_pool
from holotype.answers.records import NewAnswer
from holotype.encoders.registry import load_encoder, load_text_encoder
from holotype.errors import EncoderError, ExemplarError, GroupError, HolotypeError, ModelError
from holotype.grouping.search import search
from holotype.grouping.words import hear
from holotype.pool.descriptions import describe, read_descriptions
from holotype.pool.exemplars import resolve
from holotype.review.review import Review
from holotype.runs.commands import evaluate_run
from holotype.runs.folder import RunFolder
from holotype.runs.lookup import search_pool
from holotype.runs.sweep import repeat, run
from holotype.settings import Settings

WORDS = {"red": ["red"], "green": ["green"], "blue": ["azure"]}


@pytest.fixture
def towers(tmp_path: Path) -> str:
    (tmp_path / "towers").mkdir()
    return colour_towers(tmp_path / "towers")


@pytest.fixture
def told(job: Job, towers: str) -> Settings:
    """The reference job by words alone."""
    return job(exemplars={}, descriptions=WORDS, encoders=[towers], thresholds=["auto"])


def found(out: Path) -> dict[str, list[int]]:
    with (out / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [int(row["id"]) for row in rows if row["class"] == name] for name in {row["class"] for row in rows}}


def right(rows: list[int], k: int) -> float:
    return float(np.mean([row % 10 == k for row in rows]))


def test_words_alone_find_and_teach_classes(told: Settings, tmp_path: Path, picture: Picture, towers: str) -> None:
    result = run(told, tmp_path / "out")
    rows = found(tmp_path / "out")
    for k, name in enumerate(WORDS):
        assert len(rows[name]) > 10
        assert right(rows[name], k) > 0.75
    assert result.evaluation is not None
    assert result.evaluation.macro["f1"].value > 0.7
    assert "They alone describe it" in (tmp_path / "out" / "report.html").read_text()
    shutil.rmtree(Path(towers).parent)  # a model needs no text tower
    model = Classifier.load(tmp_path / "out")
    assert [one.text for one in model.descriptions_] == ["red", "green", "azure"]
    assert model.description_vectors_.shape == (3, 48)
    np.testing.assert_allclose(np.linalg.norm(model.description_vectors_, axis=1), 1, rtol=1e-5)
    assert model.predict([Image.fromarray(picture(row)) for row in (300, 301, 302, 305)]).tolist() == [
        "red",
        "green",
        "blue",
        "none",
    ]
    assert 'nearest exemplar "red"' in next(iter(model.predict_one(Image.fromarray(picture(300))).records()))["reason"]


def test_words_and_pictures_together_say_what_each_found(job: Job, towers: str, tmp_path: Path) -> None:
    described = {"red": ["scarlet"], "blue": ["blue"]}
    settings = job(
        exemplars={"red": ["0"], "green": ["1"]}, descriptions=described, encoders=[towers], thresholds=["auto"]
    )
    result = run(settings, tmp_path / "out")
    red, green, blue = result.ways
    assert green is None
    assert blue is None  # words alone describe it
    assert red is not None
    assert red.agreement > 1
    assert red.heard
    assert red.common > 10
    assert right(red.both.tolist(), 0) > 0.75
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["ways"]["red"] == red.to_json()
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<q><bdi>scarlet</bdi></q>" in text
    assert f"words alone {len(red.words):,}" in text
    assert "The words describe the pictures (agreement" in text
    kept = RunFolder(tmp_path / "out").read_settings()
    assert kept.descriptions == described
    assert list(kept.exemplars) == ["red", "green", "blue"]


def test_wrong_words_are_told_and_change_nothing(job: Job, towers: str, tmp_path: Path) -> None:
    pictures = {"red": ["0"], "green": ["1"]}
    more = {"encoders": [towers], "thresholds": ["auto"]}
    run(job(exemplars=pictures, test_set=None, **more), tmp_path / "plain")
    result = run(job(exemplars=pictures, test_set=None, descriptions={"red": ["blue"]}, **more), tmp_path / "wrong")
    assert any("the words for 'red' hardly describe its exemplars" in why for why in result.warnings)
    assert found(tmp_path / "plain") == found(tmp_path / "wrong")
    told = "The words hardly describe the pictures, and do not count (agreement"
    assert told in (tmp_path / "wrong" / "report.html").read_text()
    assert json.loads((tmp_path / "wrong" / "metrics.json").read_text())["ways"]["red"]["heard"] is False


def test_the_same_run_again_takes_what_it_found_and_other_words_do_not(told: Settings, tmp_path: Path) -> None:
    first = run(told, tmp_path / "out").chosen.groups
    again = repeat(tmp_path / "out").chosen.groups
    assert again.premises == first.premises
    other = told.descriptions | {"red": ["rot", "scarlet"]}
    changed = repeat(tmp_path / "out", lambda settings: settings.model_copy(update={"descriptions": other}))
    assert changed.chosen.groups.premises != first.premises
    assert changed.classifier.exemplar_names_ == ['"rot"', '"scarlet"', '"green"', '"azure"']


def test_rows_of_a_test_set_stand_for_no_words(data: Path, towers: str) -> None:
    pool = open_pool(data / "images.tar")
    encoder = load_encoder(towers)
    vectors = Classifier(encoder=towers)
    vectors.fit(pool, descriptions={"red": "red"}, cache=data / "vectors")
    classes, described = describe(None, {"red": ["red"]})
    embeddings = vectors.groups_  # only to say that a text may be given without a list
    assert embeddings.classes == ["red"]
    from holotype.vectors.store import embed

    stored = embed(pool, encoder, data / "vectors" / encoder.name_on_disk)
    held_out = list(range(0, 240, 20))
    searched = search(stored, classes, [], encoder, hear(described, encoder), held_out)
    assert searched.said is not None
    assert len(searched.said.found[0]) > 5
    assert not set(searched.said.found[0].tolist()) & set(held_out)


def test_supplied_vectors_of_a_known_encoder_are_searched_by_words(data: Path, towers: str, holotype: Holotype) -> None:
    assert holotype("embed", data / "images.tar", "--encoder", towers, "--out", data / "v")[0] == 0
    given = ["search", data / "images.tar", "--text", "a photo of something red", "-k", 20, "--embeddings", data / "v"]
    code, out, _ = holotype(*given, "--embeddings-encoder", towers, "--sheet", data / "found.png")
    assert code == 0
    rows = [int(line.split()[-1]) for line in out.splitlines()]
    assert right(rows, 0) > 0.9
    assert (data / "found.png").exists()
    assert holotype(*given)[1] == out  # what made them is noted in their folder
    np.save(data / "bare.npy", np.random.default_rng(0).normal(size=(240, 48)).astype(np.float32))
    code, _, said = holotype("search", data / "images.tar", "--text", "red", "--embeddings", data / "bare.npy")
    assert code == 1
    assert "--embeddings-encoder" in said
    both = holotype("search", data / "images.tar", "--text", "red", "--exemplar", 0, "--encoder", towers, "-k", 20)
    rows = [int(line.split()[-1]) for line in both[1].splitlines()]
    assert 0 not in rows
    assert right(rows, 0) > 0.9


def test_a_command_takes_words_and_a_table_of_them(data: Path, towers: str, holotype: Holotype) -> None:
    (data / "words.csv").write_text('class;text\nred;"scarlet; or red"\ngreen;green\n')
    options = ["--images", data / "images.tar", "--encoder", towers, "--out", data / "out"]
    code, out, said = holotype("run", *options, "--describe-file", data / "words.csv", "--describe", "blue=azure")
    assert code == 0, said
    assert 'words for red: "scarlet; or red"' in said
    assert {line.split(":")[0] for line in out.splitlines()[:3]} == {"red", "green", "blue"}
    assert holotype("run", data / "out")[0] == 0  # again, with the settings that it kept


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--describe", "red= "], "expected NAME=TEXT"),
        (["--describe", "red"], "expected NAME=TEXT"),
        (["--describe", "none=red"], '"none" is the name of the rejected class'),
        (["--describe", "a=red", "--describe", "b=Red"], "the same words ('red') describe 'a' and 'b'|'Red'"),
        (["--describe", f"red={'red ' * 40}"], "40 tokens"),
        (["--describe-file", "nothing.csv"], "nothing.csv"),
    ],
)
def test_words_that_cannot_be_used_are_an_error(
    words: list[str], error: str, data: Path, towers: str, holotype: Holotype
) -> None:
    options = ["--images", data / "images.tar", "--encoder", towers, "--out", data / "out"]
    code, _, said = holotype("run", *options, *words)
    assert code in (1, 2)
    assert any(part in said for part in error.split("|")), said
    assert not (data / "out" / "model").exists()


def test_an_encoder_without_words_names_those_that_know_some(job: Job, network: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"knows no words.*clip-vit-b32"):
        run(job(exemplars={}, descriptions=WORDS, encoders=[network]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_tokenizer_is_an_error(told: Settings, towers: str, tmp_path: Path) -> None:
    (Path(towers).parent / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json"):
        run(told, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("klass,text\nred,red\n", "no class"),
        ("class,text\n", "found no line"),
        ("class,text\nred,\n", "line 2"),
        ("class,text\nred,a,b\n", "in quotes"),
    ],
)
def test_a_table_of_words_that_is_none_is_an_error(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text(text)
    with pytest.raises(ExemplarError, match=error):
        read_descriptions(tmp_path / "words.csv")


def test_a_class_needs_an_exemplar_or_words(data: Path) -> None:
    pool = open_pool(data / "images.tar")
    with pytest.raises(ExemplarError, match="or words that describe it"):
        resolve(pool, {"red": []})
    with pytest.raises(HolotypeError, match="exemplars"):
        Settings.parse({"images": "x", "exemplars": {}})
    with pytest.raises(ExemplarError, match=r'as \{"cat": \["a cat"\]\}'):
        describe(None, ["a cat"])  # type: ignore[arg-type]


def test_a_text_of_several_words_is_one_vector_and_templates_are_averaged(towers: str, data: Path) -> None:
    text = load_text_encoder(towers)
    red, scarlet, blue = text.encode(["red", "a scarlet thing", "blue"])
    assert red @ scarlet > 0.99
    assert red @ blue < 0.5


def test_a_class_of_words_alone_is_reviewed_like_any_other(told: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(told, out)
    with Review.open(out) as opened:
        assert opened.exemplars("red") == []
        questions = list(opened.form(10, ["red"]))
        assert len(questions) > 5
        before = list(opened.summary())
        pool = opened.pool
        reds = [pool.ids[row] for row in range(240) if row % 10 == 0][:12]
        opened.record([NewAnswer(name, "red", "yes") for name in reds])
        opened.record([NewAnswer("0", "red", "exemplar")])
        assert [one.name for one in opened.exemplars("red")] == ["0"]
        opened.refit()
        assert list(opened.summary()) != before
        result = opened.apply()
    assert len(result.classifier.exemplar_names_) == 4
    assert RunFolder(out).read_settings().descriptions == told.descriptions
    red = result.ways[0]
    assert red is not None  # it has a picture and words now
    assert red.agreement > 1


def test_a_finished_run_is_evaluated_without_its_text_tower(told: Settings, tmp_path: Path, towers: str) -> None:
    run(told, tmp_path / "out")
    (Path(towers).parent / "text_model.onnx").unlink()
    assert evaluate_run(tmp_path / "out", tmp_path / "test.csv").macro["f1"].value > 0.7


@pytest.mark.parametrize("described", [{"red": ["red"], "blue": []}, {"red": [], "blue": ["blue"]}])
def test_a_class_that_nothing_defines_is_an_error(
    described: dict[str, list[str]], job: Job, data: Path, towers: str
) -> None:
    with pytest.raises(ExemplarError, match="has no exemplar and no words"):
        run(job(exemplars={}, descriptions=described, encoders=[towers]), data / "out")
    with pytest.raises(ExemplarError, match="has no exemplar and no words"):
        Classifier(encoder=towers).fit(data / "images.tar", descriptions=described)


@pytest.mark.parametrize("described", [{"red": None}, {"red": 3}, {"red": [3]}, {"red": [" "]}])
def test_words_that_are_no_text_are_an_error(described: dict[str, list[str]]) -> None:
    with pytest.raises(ExemplarError, match="expected words that say what 'red' looks like"):
        describe(None, described)


def test_a_class_has_one_name_in_whichever_form_of_unicode(data: Path, towers: str, holotype: Holotype) -> None:
    apart, composed = "cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    options = ["--images", data / "images.tar", "--encoder", towers, "--out", data / "out"]
    code, out, said = holotype("run", *options, "--exemplar", f"{composed}=0", "--describe", f"{apart}=red")
    assert code == 0, said
    assert out.startswith(composed)
    assert list(RunFolder(data / "out").read_settings().descriptions) == [composed]


def test_towers_that_do_not_belong_together_are_an_error(data: Path, towers: str, network: str) -> None:
    import onnx

    table = onnx.load(Path(towers).parent / "text_model.onnx")
    weights = onnx.numpy_helper.to_array(table.graph.initializer[0])[:, :20]
    table.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(weights), "table"))
    del table.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(table, Path(towers).parent / "text_model.onnx")
    with pytest.raises(EncoderError, match="20 dimensions and its images 48"):
        search_pool(str(data / "images.tar"), [], towers, texts=["red"])
    assert not list((data / "cache").rglob("*.npy"))  # nothing was encoded for it


def test_words_that_find_nothing_are_an_error(data: Path, towers: str, make_tar: MakeTar, jpeg: Jpeg) -> None:
    alike = make_tar([(f"{n}.jpg", jpeg((10, 200, 10))) for n in range(30)], "alike.tar")
    with pytest.raises(GroupError, match="no image stands out by the words 'red'"):
        search_pool(str(alike), [], towers, texts=["red"])


def test_images_that_words_find_and_nobody_can_read_are_an_error(data: Path, towers: str, make_tar: MakeTar) -> None:
    with tarfile.open(data / "images.tar") as tar:
        kept = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    encoder = load_encoder(towers)
    vectors = np.stack(
        [np.ones(48) if n == 7 else encoder.encode(encoder.prepare(kept[f"{n}.jpg"])[None])[0] for n in range(240)]
    )
    np.save(data / "v.npy", vectors.astype(np.float32))
    broken = make_tar([(name, b"no image" if int(name[:-4]) % 10 == 0 else kept[name]) for name in kept], "broken.tar")
    values = {"images": str(broken), "descriptions": {"red": ["red"]}, "embeddings": str(data / "v.npy")}
    settings = Settings.parse(values | {"embeddings_encoder": towers, "encoders": [towers]})
    with pytest.raises(HolotypeError, match="none of the 20 images that the words 'red' find can be read"):
        run(settings, data / "out")


def test_the_last_picture_of_a_class_that_words_describe_can_be_withdrawn(told: Settings, tmp_path: Path) -> None:
    run(told, tmp_path / "out")
    with Review.open(tmp_path / "out") as opened:
        opened.record([NewAnswer("0", "red", "exemplar")])
        opened.refit()
        opened.record([NewAnswer("0", "red", "withdrawn")])
        opened.refit()
        assert opened.exemplars("red") == []
        assert opened.apply().classifier.exemplar_names_ == ['"red"', '"green"', '"azure"']


def test_a_saved_model_with_other_vectors_of_words_is_refused(told: Settings, tmp_path: Path) -> None:
    run(told, tmp_path / "out")
    model = Classifier.load(tmp_path / "out")
    model.description_vectors_ = model.description_vectors_[:1]
    model.save(tmp_path / "damaged")
    with pytest.raises(ModelError, match="descriptions of shape"):
        Classifier.load(tmp_path / "damaged")
