"""The tasks of Label Studio: which image each is about, and where its bytes are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from holotype.answers.index import GONE, find_row
from holotype.answers.label_studio import IMAGE, named_image
from holotype.errors import HolotypeError, UnreadableImage
from holotype.model.classifier import MODEL
from holotype.pool.pool import Pool, digest_of
from holotype.runs.folder import RunFolder
from holotype.runs.images import open_images
from holotype.runs.places import find_inputs
from holotype.serve.fetching import LabelStudioFiles
from holotype.serve.models import OfVersion, ServedModel
from holotype.serve.pictures import SentImage

_INLINE = "data:"


@dataclass(frozen=True)
class TaskImage:
    """The image of a task: its row in the pool of the run, if it is of it, and what gives its bytes."""

    row: int | None
    read: Callable[[], bytes]


def find_in_pool(pool: Pool, data: Mapping[str, Any], key: str) -> tuple[int | None, str]:
    """Return the row of the image that a task is about; None and why where it is of no image of `pool`.

    It is the one that answers about the task are about: by the id and the digest that the task has, else by the name of
    its file; what is inline is known by its content. Raises `AnswersError` for an id that none can be.

    key   what `data` has the address of the image under
    """
    address = data.get(key)
    inline = _inline(address)
    code, digest = named_image({**data, IMAGE: None if inline else address if isinstance(address, str) else None})
    if inline and not (code or digest):
        digest = digest_of(inline.content)
    if not (code or digest):
        return None, GONE
    return find_row(pool, code or digest, digest, longer=True)


def _inline(address: object) -> SentImage | None:
    """Return the picture that is written out in an address; None where it is none such."""
    if not isinstance(address, str) or not address.startswith(_INLINE):
        return None
    return SentImage.from_base64("", address)


class TaskImages:
    """Finds the images of tasks: in the pools of the runs that are served, inline, or in the Label Studio `files`."""

    def __init__(self, files: LabelStudioFiles | None) -> None:
        self._files = files
        self._pools = OfVersion(_opened)
        self._turn = Lock()

    def find(self, model: ServedModel, pool: Pool | None, data: Mapping[str, Any], key: str) -> TaskImage:
        """Return the image of a task. Raises `HolotypeError` that says why there is none.

        pool   that of the run under review; None: that of the run that `model` is in, if it is at hand
        """
        address, pool = data.get(key), pool or self._pool(model)
        row, why = (None, GONE) if pool is None else find_in_pool(pool, data, key)
        if row is not None and pool is not None:
            return TaskImage(row, lambda: pool.read(row))
        if inline := _inline(address):
            if inline.error:
                raise UnreadableImage(inline.error)
            return TaskImage(None, lambda: inline.content)
        if self._files is not None and isinstance(address, str) and self._files.has(address):
            return TaskImage(None, lambda: self._read(str(address)))
        raise UnreadableImage(self._explain("" if why == GONE else why, pool))

    def _read(self, address: str) -> bytes:
        assert self._files is not None  # noqa: S101 - it has the address
        return self._files.read(address)

    def _explain(self, why: str, pool: Pool | None) -> str:
        if why:
            return f"the task is {why}"
        of_pool = "the pool of the run is not at hand" if pool is None else f"no image of {pool.source} is called so"
        kept = "no --label-studio was named" if self._files is None else "it is none that the Label Studio keeps"
        return (
            f"expected an image of the run (data.image_id), one inline, or one of Label Studio: {of_pool}, and {kept}"
        )

    def _pool(self, model: ServedModel) -> Pool | None:
        """Return the pool of the run that `model` is in, opened once; None of a model alone, or where it is gone."""
        with self._turn:
            return self._pools.of(model)


def _opened(model: ServedModel) -> Pool | None:
    folder = RunFolder(model.path.parent if model.path.name == MODEL else model.path)
    if not folder.settings.exists():
        return None
    try:
        settings = find_inputs(folder, needed=["images"])
        return open_images(folder, settings)
    except HolotypeError:
        return None
