"""Labels as FiftyOne imports them: a FiftyOneImageClassificationDataset, with the images or where they are."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holotype import files
from holotype.export.filenames import FileNames
from holotype.export.images import ExportedImage, ExportedImages, FilesAs, place
from holotype.export.tables import without_nulls

_DATA, MANIFEST_OF_FIFTYONE, _LABELS = "data", "data.json", "labels.json"
_OWN = ("class", "probability")  # what a label has fields of its own for
_RENAMED = {"id": "image_id"}  # as each label has an `id` of FiftyOne's


def write_fiftyone(folder: Path, images: ExportedImages, handed: FilesAs) -> None:
    """Fill `folder` with `labels.json` and, in `data`, the images; as a list, `data.json` says where they are.

    A label has the class, the probability as its confidence, and all else that is known as attributes. Raises
    `OutputError`.
    """
    names, labels, paths = FileNames(), dict[str, dict[str, Any]](), dict[str, str]()
    if handed != "list":
        (folder / _DATA).mkdir()
    sources: Iterator[tuple[ExportedImage, bytes | Path]] = images.contents() if handed == "copy" else images.files()
    for image, source in sources:
        name = names.give(image.stem)
        if handed == "list":
            paths[f"{name}{image.suffix}"] = str(source)
        else:
            place(source, folder / _DATA / f"{name}{image.suffix}")
        labels[name] = _label(image.about)
    images.write_left_out(folder)
    if handed == "list":
        files.write(folder / MANIFEST_OF_FIFTYONE, _json(paths))
    files.write(folder / _LABELS, _json({"classes": list(images.selected.classes), "labels": labels}))


def _label(about: Mapping[str, Any]) -> dict[str, Any]:
    known = without_nulls(about)
    more = {_RENAMED.get(name, name): value for name, value in known.items() if name not in _OWN}
    confidence = {"confidence": known["probability"]} if "probability" in known else {}
    return {"label": about["class"], **confidence, "attributes": more}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
