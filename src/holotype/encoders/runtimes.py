"""Encoders: pixels to vectors. One ONNX file each, two runtimes behind one protocol."""

import hashlib
import os
import queue
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holotype.errors import EncoderError
from holotype.files import atomic
from holotype.pool.images import Pixels, decode, letterbox

BATCH = 4  # images that a network takes at once
PREPARATION = "letterbox, JPEG at no less than its size"  # other pixels make other vectors


class Encoder(Protocol):
    """What turns images into vectors. `fingerprint` says which network and preprocessing it is."""

    name: str
    fingerprint: str
    dim: int
    size: tuple[int, int]
    fill: tuple[int, int, int]
    runtime: str
    precision: str
    workers: int

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
    """An encoder kept as one ONNX file that takes pixels and gives features (see `export`).

    precision   of its arithmetic: "f32", "bf16", or "int8", which is in its file already (see `quantise`)
    workers     how many threads may call `encode` at once, each with a few images, to keep every core busy
    """

    fill = (127, 127, 127)  # of the letterbox's margins: close to every network's mean

    def __init__(self, name: str, path: Path, runtime: str = "openvino", precision: str = "f32") -> None:
        self.name = name
        self.path = path
        self.runtime = runtime
        self.precision = "f32" if precision == "bf16" and not runs_bf16(runtime) else precision
        self.workers = cores()
        self.fingerprint = identity(path, self.precision)
        self._lock = threading.Lock()
        self._alone = _open(path, runtime, self.precision, alone=True)
        self._many: Network | None = None
        self.size = self._alone.size
        self.dim = self._alone.dim or self.encode(np.zeros((1, *self.size, 3), np.uint8)).shape[1]

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
        if len(pixels) == 1:
            return self._alone.infer(pixels)  # all cores work on this one
        with self._lock:
            if self._many is None:
                self._many = _open(self.path, self.runtime, self.precision, alone=False)
        parts = [self._many.infer(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def save(self, target: Path) -> None:
        """Write the encoder's ONNX file to `target`, so that a saved model needs nothing else."""
        with atomic(target) as temporary:
            shutil.copyfile(self.path, temporary)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of an encoder's file; the file holds network, normalisation and input size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: Path, precision: str) -> str:
    """Return what vectors are known by: the encoder's file, how images are prepared, and what it computes in."""
    arithmetic = " bf16" if precision == "bf16" else ""
    return hashlib.sha256(f"{fingerprint(path)} {PREPARATION}{arithmetic}".encode()).hexdigest()


def cores() -> int:
    """How many cores this process may use, by its affinity; a container's quota of time is not known here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runs_bf16(runtime: str) -> bool:
    """Whether `runtime` can compute in bfloat16 on this CPU."""
    import openvino

    return runtime == "openvino" and "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Network(Protocol):
    """A network in a runtime. `dim` is None where its file does not say it."""

    size: tuple[int, int]
    dim: int | None

    def infer(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (n, dim) of pixels (n, height, width, 3); many threads may ask at once."""


def _open(path: Path, runtime: str, precision: str, *, alone: bool) -> Network:
    """Load the network: for one image at a time on all cores (`alone`), or for as many at once as there are cores."""
    if runtime not in RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")
    try:
        return RUNTIMES[runtime](path, precision, alone)
    except Exception as error:  # each runtime raises types of its own
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        others = " or ".join(name for name in RUNTIMES if name != runtime)
        raise EncoderError(
            f"{runtime} cannot load {path}: {reason}. If the file is damaged, delete it; else try the runtime {others}"
        ) from error


_opening = threading.Lock()


class _OpenVino:
    def __init__(self, path: Path, precision: str, alone: bool) -> None:
        import openvino

        streams = 1 if alone else cores()
        options = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "ENABLE_CPU_PINNING": False,  # decoding goes on beside it on the same cores
        }
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The first tensors that a process makes must not be made in two threads at once: OpenVINO's binding then waits
        # for itself, for ever.
        with _opening:
            model = openvino.Core().compile_model(str(path), "CPU", options)
            shape, last = model.input(0).partial_shape, model.output(0).partial_shape[1]
            self.size = (shape[1].get_length(), shape[2].get_length())
            self.dim = last.get_length() if last.is_static else None
            for _ in range(streams):
                self._free.put(model.create_infer_request())
            self.infer(np.zeros((1, *self.size, 3), np.uint8))

    def infer(self, pixels: Pixels) -> NDArray[np.float32]:
        request = self._free.get()
        try:
            request.infer({0: pixels}, share_inputs=True)
            return np.array(request.get_output_tensor().data)
        finally:
            self._free.put(request)


class _OnnxRuntime:
    def __init__(self, path: Path, precision: str, alone: bool) -> None:  # noqa: ARG002 - it always computes in float32
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its remarks on a foreign graph are no help to anybody here
        options.intra_op_num_threads = cores() if alone else 1
        self._session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
        _, height, width, _ = self._session.get_inputs()[0].shape
        dim = self._session.get_outputs()[0].shape[1]
        self.size, self.dim = (height, width), dim if isinstance(dim, int) else None

    def infer(self, pixels: Pixels) -> NDArray[np.float32]:
        return np.asarray(self._session.run(None, {"pixels": pixels})[0], dtype=np.float32)


RUNTIMES: dict[str, Callable[[Path, str, bool], Network]] = {"openvino": _OpenVino, "onnxruntime": _OnnxRuntime}
