"""A model as the hub keeps it: the card that people read first, the saved model, and the one ONNX file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from holotype import files
from holotype.errors import OutputError
from holotype.export.filenames import FileNames
from holotype.export.network import to_onnx
from holotype.export.selection import FOUND
from holotype.model.classifier import Classifier
from holotype.model.promises import PROMISES_FILE, Promises
from holotype.model.saved import DESCRIPTION_FILE, digest_of_model, read_files
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import decode, thumbnail
from holotype.runs.card import CARD, Publication, model_card
from holotype.runs.folder import RunFolder

NETWORK = "model.onnx"  # beside the files of the saved model
PICTURES_OF_CLASSES = "exemplars"
_SIDE = 512  # pixels, of a picture that is shown


def write_hub(
    folder: Path, run: RunFolder, classifier: Classifier, licence: str, exemplars: Sequence[Exemplar]
) -> None:
    """Fill `folder` with what is pushed to a repository of the hub, and read back by `Classifier.load`.

    licence     of the model, by its name in the hub's list; "": nobody said
    exemplars   whose pictures are shown, made small; of none where there are none

    What is promised is what the classifier promises now. Raises `OutputError`.
    """
    contents = read_files(run.model)
    model = digest_of_model(contents[DESCRIPTION_FILE])
    contents.pop(PROMISES_FILE, None)
    for name, content in contents.items():
        files.write(folder / name, content)
    if classifier.promises_:
        files.write(folder / PROMISES_FILE, Promises(model=model, promises=classifier.promises_).to_json())
    files.write(folder / NETWORK, to_onnx(classifier))
    pictures = dict(_pictures(folder, classifier, exemplars))
    images, found = _found(run, classifier)
    publication = Publication(NETWORK, images, found, licence, pictures)
    files.write(folder / CARD, model_card(classifier, run.metrics, publication))


def check_licence(licence: str) -> None:
    """Raise `OutputError` for what can be no name of a licence."""
    if licence and not licence.replace("-", "").replace(".", "").isalnum():
        raise OutputError(f"expected a licence by its name in the hub's list, such as apache-2.0, got {licence!r}")


def _found(run: RunFolder, classifier: Classifier) -> tuple[int, Mapping[str, int]]:
    """How many images the pool had, and how many were found of each class."""
    import pyarrow.parquet as pq

    table = pq.read_table(run.groups, columns=["class", "decision"])
    pairs = zip(table["class"].to_pylist(), table["decision"].to_pylist(), strict=True)
    counts = Counter(label for label, decision in pairs if decision in FOUND)
    return len(table), {name: counts[name] for name in classifier.classes_[:-1]}


def _pictures(folder: Path, classifier: Classifier, exemplars: Sequence[Exemplar]) -> Iterator[tuple[str, str]]:
    names = FileNames()
    for one in exemplars:
        label = classifier.classes_[one.label]
        place = f"{PICTURES_OF_CLASSES}/{names.give(label, '.jpg')}"
        files.write(folder / place, thumbnail(decode(one.data, fit=_SIDE), _SIDE))
        yield f"{label}: {one.name.rpartition('/')[2]}", place
