"""Labels as Label Studio imports them: tasks with predictions, and the labelling configuration that they fit."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holotype import files
from holotype.answers.label_studio import chosen, labelling_config, task_data
from holotype.export.filenames import FileNames
from holotype.export.images import ExportedImage, ExportedImages, FilesAs, place

_TASKS, _CONFIG, _PICTURES = "tasks.json", "config.xml", "images"
_LOCAL = "/data/local-files/?d="  # what it calls a file below the folder that it may read


def write_label_studio(
    folder: Path, images: ExportedImages, handed: FilesAs, url: str, name: str, version: str
) -> None:
    """Fill `folder` with the tasks, the configuration and, unless they are only listed, the images.

    url       what the address of an image begins with; "": Label Studio's own for local files
    name      what `folder` will be called: a copied image is at NAME/images/... for who may read the folder around it
    version   of the model that predicted

    A picture that is only listed is at its path within the folder of the pool, and that folder's name before it where
    it is a local file. Raises `OutputError`.
    """
    names, tasks = FileNames(), list[dict[str, Any]]()
    if handed != "list":
        (folder / _PICTURES).mkdir()
    sources: Iterator[tuple[ExportedImage, bytes | Path]] = images.contents() if handed == "copy" else images.files()
    root = Path(images.pool.source).absolute()
    for image, source in sources:
        if handed == "list":
            assert isinstance(source, Path)  # noqa: S101 - as `files` yields them
            within = source.relative_to(root)
            where = within if url else Path(root.name) / within
        else:
            where = Path(_PICTURES) / names.give(image.stem, image.suffix)
            place(source, folder / where)
            where = where if url else Path(name) / where
        digest = "" if images.selected.images is None else images.selected.images.digests[image.before]
        tasks.append(_task(image.about, digest, f"{_before(url)}{quote(where.as_posix())}", version))
    images.write_left_out(folder)
    files.write(folder / _TASKS, json.dumps(tasks, ensure_ascii=False, indent=1).encode(errors="backslashreplace"))
    files.write(folder / _CONFIG, labelling_config(images.selected.classes[:-1]))


def _before(url: str) -> str:
    """Return what the address of an image begins with: a path within it, or what is asked for."""
    return url if url.endswith(("/", "=")) else f"{url}/" if url else _LOCAL


def _task(about: Mapping[str, Any], digest: str, url: str, version: str) -> dict[str, Any]:
    score = {} if about["probability"] is None else {"score": about["probability"]}
    prediction = {"model_version": version, **score, "result": [chosen([about["class"]])]}
    return {"data": task_data(about["id"], digest, url), "predictions": [prediction]}
