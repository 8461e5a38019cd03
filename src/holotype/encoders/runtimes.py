"""Encoders: pixels to vectors. One ONNX file each, two runtimes behind one protocol."""

import errno
import hashlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from holotype import forks
from holotype.errors import EncoderError
from holotype.files import NO_THREADS
from holotype.names import on_any_disk
from holotype.pool.images import MARGIN, Pixels, decode, letterbox

if TYPE_CHECKING:
    from holotype.encoders.hub import Snapshot

BATCH = 4  # images that a network takes at once
MOST_SIDE = 2048  # pixels; an image of 4,096 x 4,096 would already take gigabytes in any network
PREPARATION = (
    "letterbox, JPEG at no less than its size, deep values by what they hold"  # other pixels make other vectors
)

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would number this machine when it is imported


class Encoder(Protocol):
    """What turns images into vectors. `fingerprint` says which network and preprocessing it is.

    content   its ONNX file: a saved model needs nothing else
    source    what its file was made from, where that came from the hub
    """

    name: str
    content: bytes
    fingerprint: str
    dim: int
    size: tuple[int, int]
    fill: tuple[int, int, int]
    runtime: str
    precision: str
    workers: int
    source: "Snapshot | None"

    @property
    def name_on_disk(self) -> str:
        """A folder's name for vectors of this encoder."""

    def prepare(self, source: Any) -> Pixels:
        """Decode and letterbox one image to (height, width, 3) uint8. Raises `UnreadableImage`."""

    def encode(self, pixels: Pixels, *, busy: bool = False) -> NDArray[np.float32]:
        """Return (n, dim) float32 features of (n, height, width, 3) uint8 pixels.

        busy   whether other threads encode, too: then one image alone does not get every core
        """


class OnnxEncoder:
    """An encoder kept as one ONNX file that takes pixels and gives features (see `export`).

    content     the file's bytes, read once: what lies at `path` may be replaced while the encoder is in use
    precision   of its arithmetic: "f32", "bf16", or "int8", which is in its file already (see `quantise`)
    batch       how many images its network takes at once: one, where it was exported so
    workers     how many threads may call `encode` at once, each with a few images, to keep every core busy

    It may be used from many threads, after a fork, and in another process, to which it travels with its content. (Of a
    process that is forked after ONNX Runtime was used, only `os._exit` ends the child, as multiprocessing does it.)
    Raises `EncoderError` where the runtime cannot load it, or it is no network from pixels to features.
    """

    fill = MARGIN

    def __init__(
        self,
        name: str,
        path: Path,
        runtime: str = "openvino",
        precision: str = "f32",
        content: bytes | None = None,
        source: "Snapshot | None" = None,
    ) -> None:
        self.name = name
        self.path = path
        self.content = read_network(path) if content is None else content
        self.source = source
        self.runtime = runtime
        self.precision = "f32" if precision == "bf16" and not runs_bf16(runtime) else precision
        self.workers = cores()
        self.fingerprint = identity(self.content, self.precision)
        self._forget_networks()
        forks.note(self)
        alone = self._network(alone=True)
        self.size = (int(alone.shape[1]), int(alone.shape[2]))
        self.batch = BATCH if isinstance(alone.shape[0], str) else alone.shape[0]
        self.dim = alone.dim
        if self.encode(np.zeros((1, *self.size, 3), np.uint8)).shape != (1, self.dim):
            raise EncoderError(f"{path}: expected {self.dim} features of an image, as its file says")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.path, self.runtime, self.precision, self.content, self.source)

    def begin_in_child(self) -> None:
        """Open the networks anew when they are next used; to take down the parent's would wait for its threads."""
        forks.leave(self.__dict__.get("_networks"))
        self._forget_networks()

    def _forget_networks(self) -> None:
        self._lock = threading.Lock()
        self._networks: dict[bool, Network] = {}

    def _network(self, *, alone: bool) -> "Network":
        with self._lock:
            if alone not in self._networks:
                self._networks[alone] = open_network(
                    self.content, self.path, self.runtime, self.precision, alone=alone, trial=_blank
                )
            return self._networks[alone]

    @property
    def name_on_disk(self) -> str:
        """A folder's name for vectors of this encoder."""
        return f"{on_any_disk(Path(self.name).stem)}-{self.fingerprint[:12]}"

    def prepare(self, source: Any) -> Pixels:
        """Decode and letterbox one image to (height, width, 3) uint8. Raises `UnreadableImage`."""
        return letterbox(decode(source, fit=max(self.size)), self.size, self.fill)

    def encode(self, pixels: Pixels, *, busy: bool = False) -> NDArray[np.float32]:
        """Return (n, dim) float32 features of (n, height, width, 3) uint8 pixels. Raises `EncoderError`.

        busy   whether other threads encode, too: then one image alone does not get every core
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (*self.size, 3):
            raise EncoderError(
                f"expected pixels of 0..255, shape (n, {self.size[0]}, {self.size[1]}, 3), dtype uint8; "
                f"got {pixels.shape} of {pixels.dtype}"
            )
        if not len(pixels):
            return np.zeros((0, self.dim), np.float32)
        network = self._network(alone=len(pixels) == 1 and not busy)  # alone: all cores work on this one
        parts = [pixels[start : start + self.batch] for start in range(0, len(pixels), self.batch)]
        return np.concatenate([self._infer(network, part) for part in parts])

    def _infer(self, network: "Network", pixels: Pixels) -> NDArray[np.float32]:
        features = run_network(network, [pixels], f"{self.path} failed in {self.runtime}")
        if features.shape != (len(pixels), self.dim):
            raise EncoderError(
                f"expected {self.dim} features of each of {len(pixels)} images from {self.path}, got {features.shape}"
            )
        return features


def read_network(path: Path) -> bytes:
    """Return the content of an encoder's file. Raises `EncoderError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderError(f"expected an encoder's ONNX file at {path}: {error.strerror or error}") from None


class _Process:
    """What networks in this process depend on.

    opening    held while OpenVINO opens a network
    started    whether OpenVINO has run here
    core       OpenVINO itself, kept: it gives the thread that starts it a stack for signals, and would take that away
               with its last network, also where another thread lets that go; the next signal then ended the process
    in_place   whether the thread that asks is to compute, see `in_place`
    replaced   whether it had run when this process was forked: its threads are the parent's, and a lock of theirs that
               was held at that moment is held for ever. ONNX Runtime, which keeps no such locks, then takes its place
    """

    def __init__(self, replaced: bool = False) -> None:
        self.opening = threading.Lock()
        self.core: Any = None
        self.started = replaced
        self.in_place = False
        self.replaced = replaced


_process = _Process()


def _after_fork() -> None:
    global _process  # noqa: PLW0603 - a process has one
    forks.leave(_process.core)
    _process = _Process(replaced=_process.started)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def in_place() -> Iterator[None]:
    """Within it, networks in float32 are opened in ONNX Runtime: there the thread that asks computes.

    OpenVINO has threads of its own for that. Where threads that decode ask, and others wait for the same cores, handing
    each batch on and back leaves cores idle (docs/performance.md#serving).
    """
    before, _process.in_place = _process.in_place, True
    try:
        yield
    finally:
        _process.in_place = before


def identity(content: bytes, precision: str) -> str:
    """Return what vectors are known by: the encoder's file, how images are prepared, and what it computes in.

    The file holds network, normalisation and input size.
    """
    arithmetic = " bf16" if precision == "bf16" else ""
    return hashlib.sha256(f"{hashlib.sha256(content).hexdigest()} {PREPARATION}{arithmetic}".encode()).hexdigest()


def cores() -> int:
    """How many cores this process may use, by its affinity; a container's quota of time is not known here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runs_bf16(runtime: str) -> bool:
    """Whether `runtime` can compute in bfloat16 on this CPU."""
    if _at_hand(runtime, "bf16") != "openvino":
        return False
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _at_hand(runtime: str, precision: str) -> str:
    """Return `runtime`, or ONNX Runtime where OpenVINO is not installed, or not to be used in this process."""
    if runtime != "openvino":
        return runtime
    other = _process.in_place and precision == "f32" and find_spec("onnxruntime") is not None
    return "onnxruntime" if other or _process.replaced or find_spec("openvino") is None else runtime


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell its makers of it through the network."""
    name = "openvino_telemetry"
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = cast("Any", None)  # as if it were not installed; OpenVINO goes without
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[name]
    return openvino


Shape = tuple[int | str, ...]  # of the first input of a network; text for what is free
Trial = Callable[[Shape], Sequence[NDArray[Any]]]  # the inputs that a network of that shape is tried with


class Network(Protocol):
    """A network in a runtime. `shape` is that of its first input, `dim` how many features it gives."""

    shape: Shape
    dim: int

    def infer(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return features (n, dim) of n rows of each input; many threads may ask at once."""


def open_network(content: bytes, path: Path, runtime: str, precision: str, *, alone: bool, trial: Trial) -> Network:
    """Load the network: for one row at a time on all cores (`alone`), or for as many at once as there are cores.

    Raises `EncoderError`, which names `path`.
    """
    check_runtime(runtime)
    try:
        return RUNTIMES[_at_hand(runtime, precision)](content, precision, alone, trial)
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from error
    except Exception as error:  # each runtime raises types of its own
        if os.strerror(errno.EAGAIN) in str(error):
            raise EncoderError(f"{runtime} cannot load {path}: {NO_THREADS}") from error
        others = " or ".join(name for name in RUNTIMES if name != runtime)
        raise EncoderError(
            f"{runtime} cannot load {path}: {_last_line(error)}. If the file is damaged, delete it; else try the "
            f"runtime {others}"
        ) from error


def run_network(network: Network, inputs: Sequence[NDArray[Any]], failed: str) -> NDArray[np.float32]:
    """Return what `network` gives. Raises `EncoderError`, which begins with `failed`."""
    try:
        return network.infer(*inputs)
    except Exception as error:  # each runtime raises types of its own
        raise EncoderError(f"{failed}: {_last_line(error)}") from error


def check_runtime(runtime: str) -> None:
    """Raise `EncoderError` for a runtime that there is not."""
    if runtime not in RUNTIMES:
        raise EncoderError(f"expected a runtime of {', '.join(RUNTIMES)}, got {runtime!r}")


def _last_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[-1]


def _blank(shape: Shape) -> Sequence[Pixels]:
    """One image (1, height, width, 3) to try a network with."""
    size = shape[1:3]
    if not all(isinstance(side, int) and 0 < side <= MOST_SIDE for side in size):
        raise EncoderError(
            f"expected a network for images of a fixed height and width, at most {MOST_SIDE} pixels each, got {size}"
        )
    return [np.zeros((1, *map(int, size), 3), np.uint8)]


class _OpenVino:
    def __init__(self, content: bytes, precision: str, alone: bool, trial: Trial) -> None:
        openvino = _openvino()
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
        with _process.opening:
            _process.started = True
            _process.core = _process.core or openvino.Core()
            core = _process.core
            network = core.read_model(content)
            sides = list(network.input(0).partial_shape)
            self.shape: Shape = tuple(side.get_length() if side.is_static else str(side) for side in sides)
            inputs = trial(self.shape)
            model = core.compile_model(network, "CPU", options)
            for _ in range(streams):
                self._free.put(model.create_infer_request())
            self.dim = self.infer(*inputs).shape[-1]

    def infer(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        request = self._free.get()
        try:
            request.infer(dict(enumerate(inputs)), share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            self._free.put(request)


class _OnnxRuntime:
    def __init__(self, content: bytes, precision: str, alone: bool, trial: Trial) -> None:  # noqa: ARG002 - always f32
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its remarks on a foreign graph are no help to anybody here
        options.intra_op_num_threads = cores() if alone else 1
        self._session = onnxruntime.InferenceSession(content, options, providers=onnxruntime.get_available_providers())
        inputs = self._session.get_inputs()
        self._names = [value.name for value in inputs]
        self.shape: Shape = tuple(side if isinstance(side, int) else str(side) for side in inputs[0].shape)
        self.dim = self.infer(*trial(self.shape)).shape[-1]

    def infer(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        given = dict(zip(self._names, inputs, strict=True))
        return np.asarray(self._session.run(None, given)[0], dtype=np.float32)


RUNTIMES: dict[str, Callable[[bytes, str, bool, Trial], Network]] = {"openvino": _OpenVino, "onnxruntime": _OnnxRuntime}
