"""Write the exports that the tests read, with the converter of Label Studio itself.

It needs `label-studio-sdk` (2.1.2 wrote the files here), which is no dependency of this project:

    pip install --no-deps label-studio-sdk
    pip install ijson ujson pillow numpy lxml nltk jwt requests appdirs
    python tests/label_studio/make.py

`ours` is a project that was made from the tasks of `holotype answer --export tasks.json`, with a comment, boxes and
relations added to its configuration; `own` one whose images were uploaded, with a control of another name.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from label_studio_sdk.converter import Converter  # type: ignore[import-not-found]

HERE = Path(__file__).parent
CLASSES = ("red", "green", "blue", "none")
CHOICES = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
OURS = f"""<View>
  <Image name="image" value="$image"/>
  <Choices name="class" toName="image" choice="multiple">{CHOICES}</Choices>
  <TextArea name="comment" toName="image"/>
  <Choices name="quality" toName="image" choice="single"><Choice value="sharp"/><Choice value="soft"/></Choices>
  <RectangleLabels name="box" toName="image"><Label value="thing"/></RectangleLabels>
</View>"""
OWN = f"""<View>
  <Image name="img" value="$image"/>
  <Choices name="choice" toName="img" choice="single-radio">{CHOICES}</Choices>
</View>"""
ADA, BOB = {"id": 1, "email": "ada@example.org", "first_name": "Ada", "last_name": ""}, 2


def chosen(*names: str, control: str = "class", image: str = "image") -> dict[str, Any]:
    value = {"choices": list(names)}
    return {"id": "r1", "from_name": control, "to_name": image, "type": "choices", "origin": "manual", "value": value}


def said(text: str) -> dict[str, Any]:
    value = {"text": [text]}
    return {"id": "r2", "from_name": "comment", "to_name": "image", "type": "textarea", "value": value}


def box() -> list[dict[str, Any]]:
    corners = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["thing"]}
    shape = {"from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": corners}
    size = {"original_width": 48, "original_height": 40, "image_rotation": 0}
    two = [shape | size | {"id": name} for name in ("b1", "b2")]
    return [*two, {"type": "relation", "from_id": "b1", "to_id": "b2", "direction": "right", "labels": []}]


def annotation(
    number: int, result: list[dict[str, Any]], by: object = BOB, day: int = 1, **more: Any
) -> dict[str, Any]:
    when = f"2026-05-{day:02}T12:00:00.000000Z"
    return {
        "id": 1000 + number,
        "completed_by": by,
        "result": result,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": when,
        "updated_at": when,
        "draft_created_at": None,
        "lead_time": 3.25,
        "prediction": {},
        "result_count": len(result),
        "unique_id": f"00000000-0000-4000-8000-{number:012}",
        "import_id": None,
        "last_action": None,
        "task": number,
        "project": 7,
        "updated_by": 1,
        "parent_prediction": None,
        "parent_annotation": None,
        "last_created_by": None,
    } | more


def task(number: int, data: dict[str, Any], *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": "tasks.json",
        "drafts": [],
        "predictions": [],
        "data": data,
        "meta": {},
        "created_at": "2026-04-30T08:00:00.000000Z",
        "updated_at": "2026-05-03T08:00:00.000000Z",
        "inner_id": number,
        "total_annotations": len(annotations),
        "cancelled_annotations": sum(one["was_cancelled"] for one in annotations),
        "total_predictions": 0,
        "comment_count": 0,
        "unresolved_comment_count": 0,
        "last_comment_updated_at": None,
        "project": 7,
        "updated_by": 1,
        "comment_authors": [],
    } | more


def ours(name: str | int, **more: Any) -> dict[str, Any]:
    return {"image": f"https://example.org/{name}.jpg", "id": name, "image_id": name} | more


def tasks_of_ours() -> list[dict[str, Any]]:
    prediction = {"id": 5, "model_version": "v1", "score": 0.9, "result": [chosen("blue")], "task": 10}
    return [
        task(1, ours("10"), annotation(1, [chosen("red")], ADA)),
        task(2, ours("11"), annotation(2, [chosen("green")], ADA, 2), annotation(3, [chosen("red")], BOB, 1)),
        task(3, ours("12")),  # nobody has labelled it
        task(4, ours("13"), annotation(4, [chosen("red")], was_cancelled=True)),
        task(5, ours("14"), annotation(5, [])),  # an empty submission
        task(6, ours("15"), annotation(6, [said("what is this?")])),
        task(7, ours("16"), annotation(7, [chosen("none"), said("neither"), chosen("sharp", control="quality")])),
        task(8, ours(20), annotation(8, [chosen("red"), *box()])),  # a whole number
        task(9, ours("22", audited=["red"]), annotation(9, [chosen("blue")])),
        task(10, ours("30"), annotation(10, [said("unsure")]), predictions=[prediction], total_predictions=1),
        task(11, ours("17"), annotation(11, [chosen("sharp", control="quality")])),
        task(12, ours("18"), annotation(12, [chosen("red", "green")])),  # two choices
        task(
            13,
            ours("21"),
            annotation(13, [chosen("green")], ADA, 1, ground_truth=True),
            annotation(14, [chosen("none")], BOB, 3),
        ),
    ]


def tasks_of_own() -> list[dict[str, Any]]:
    def picture(name: str) -> dict[str, Any]:
        return {"image": f"/data/upload/7/1a2b3c4d-{name}.jpg"}

    def choice(name: str) -> list[dict[str, Any]]:
        return [chosen(name, control="choice", image="img")]

    return [
        task(1, picture("10"), annotation(1, choice("red"), ADA)),
        task(2, picture("11"), annotation(2, choice("green"))),
        task(3, picture("12")),
        task(4, {"image": "/data/local-files/?d=photos/13.jpg"}, annotation(4, choice("none"))),
    ]


def convert(name: str, config: str, tasks: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "tasks.json").write_text(json.dumps(tasks))
        converter = Converter(config, project_dir=scratch, download_resources=False)
        for layout, suffix in (("JSON", "json"), ("JSON_MIN", "min.json"), ("CSV", "csv"), ("TSV", "tsv")):
            converter.convert(str(folder / "tasks.json"), str(folder / layout), layout, is_dir=False)
            (made,) = (folder / layout).iterdir()
            shutil.copy(made, HERE / f"{name}.{suffix}")


if __name__ == "__main__":
    convert("ours", OURS, tasks_of_ours())
    convert("own", OWN, tasks_of_own())
