"""The arithmetic of an encoder: float32, bfloat16 where the CPU has it, or int8 calibrated on the pool.

Less than float32 is taken only where a sample of the pool shows that it is faster and gives nearly the same vectors.
"""

import glob
import json
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders.cached import kept
from holotype.encoders.encode import in_order, l2_normalize
from holotype.encoders.pooling import COVERED
from holotype.encoders.runtimes import BATCH, OnnxEncoder, identity, runs_bf16
from holotype.errors import EncoderError, OutputError, UnreadableImage
from holotype.pool.images import Pixels
from holotype.pool.pool import Pool, spread
from holotype.progress import Progress
from holotype.settings import Arithmetic
from holotype.stale import mark_used, remove_stale

if TYPE_CHECKING:
    import onnx

_CALIBRATION, _COMPARISON = 128, 256  # images of the pool, no image in both
_LEAST_IMAGES = 2 * (_CALIBRATION + _COMPARISON)  # a smaller pool is not worth a look
_FORMAT = 1  # of what is kept in the cache; raise it when the calibration or the judgement changes
_NOTES = r".+-[0-9a-f]{12}-v\d+-[a-z0-9-]+\.json"  # what is noted of a pool, in any format
_TRIED = 32  # images that tell how long the pool will take
_WORTH = 300.0  # seconds in float32 from which on it is worth looking for something faster
_MOST_NOISE = 0.05
_LEAST_GAIN = 1.2


@dataclass(frozen=True)
class PrecisionCheck:
    """What an arithmetic was worth on a sample of the pool, beside float32.

    gain     how many times faster the network alone is, on all cores
    noise    squared change of the unit vectors, as a share of their variance over the sample
    cosine   median, and lowest hundredth, between both vectors of an image
    """

    precision: str
    gain: float
    noise: float
    cosine: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether it may take the place of float32."""
        return self.noise <= _MOST_NOISE and self.gain >= _LEAST_GAIN

    def __str__(self) -> str:
        return (
            f"{self.precision}: {self.gain:.2f} times as fast as f32, noise {self.noise:.3f}, "
            f"cosine {self.cosine[0]:.4f} (lowest hundredth {self.cosine[1]:.4f})"
        )


def choose_arithmetic(
    encoder: OnnxEncoder,
    pool: Pool,
    wanted: Arithmetic,
    progress: Progress,
    *,
    made: Collection[str] = (),
    elsewhere: Callable[[], Collection[str]] = tuple,
    whole: bool = True,
) -> OnnxEncoder:
    """Return the encoder in the arithmetic `wanted`; with "auto" in the fastest that holds for `pool`.

    made        fingerprints of what made the vectors that are there: with some of this encoder, "auto" goes on as they
                were
    elsewhere   gives those of what else is on this machine: where the pool is there in float32, "auto" is float32, as
                nothing is as fast as what need not be computed
    whole       whether the whole pool is to be encoded; else "auto" is float32

    What "auto" finds is kept in the cache, so the same pool gets the same answer. Raises `EncoderError` where the CPU
    has no bfloat16, or the network cannot be quantised.
    """
    if wanted == "f32":
        return encoder
    before = _as_made(encoder, pool, made)
    if wanted != "auto":
        if before is not None and before.precision == wanted:
            return before
        faster = _in_arithmetic(encoder, pool, wanted, progress)
        progress.say(str(_compare(encoder, faster, _sample(encoder, pool, _rows(pool)[1]))))
        return faster
    if before is not None:
        return before
    found = _noted(encoder, pool) if whole and encoder.fingerprint not in elsewhere() else "f32"
    if found is None:
        found, checks = _choose(encoder, pool, progress)
        note = {"chosen": found, "trials": [asdict(check) for check in checks]}
        with suppress(OutputError):  # a cache that can only be read: it is found again the next time
            files.write(_note(encoder, pool), json.dumps(note, indent=1))
            remove_stale(_note(encoder, pool).parent, _NOTES)
    return encoder if found == "f32" else _in_arithmetic(encoder, pool, found, progress)


def _as_made(encoder: OnnxEncoder, pool: Pool, made: Collection[str]) -> OnnxEncoder | None:
    """The encoder in the arithmetic of vectors that are there, if any are of it; int8 as it was calibrated then."""
    if not made:
        return None
    if encoder.fingerprint in made:
        return encoder
    if runs_bf16(encoder.runtime) and identity(encoder.content, "bf16") in made:
        return OnnxEncoder(encoder.name, encoder.path, encoder.runtime, "bf16", encoder.content, encoder.source)
    beside = sorted(
        _int8_file(encoder, pool).parent.glob(f"{glob.escape(encoder.name_on_disk)}-*-v{_FORMAT}-int8.onnx")
    )
    int8 = next((path for path in beside if identity(path.read_bytes(), "int8") in made), None)
    return None if int8 is None else _in_int8(encoder, int8)


def _noted(encoder: OnnxEncoder, pool: Pool) -> Arithmetic | None:
    """What was found earlier; None where there is no note, or none that can be read."""
    try:
        found: Arithmetic = json.loads(_note(encoder, pool).read_text())["chosen"]
    except (OSError, RecursionError, ValueError, TypeError, KeyError):
        return None
    mark_used(_note(encoder, pool))
    return found if found in ("f32", "bf16", "int8") else None


def _note(encoder: OnnxEncoder, pool: Pool) -> Path:
    """It holds for this runtime and this kind of CPU."""
    kind = f"{encoder.runtime}{'-bf16' if runs_bf16(encoder.runtime) else ''}"
    return files.cache_folder() / "encoders" / f"{_key(encoder, pool)}-{kind}.json"


def _choose(encoder: OnnxEncoder, pool: Pool, progress: Progress) -> tuple[Arithmetic, list[PrecisionCheck]]:
    if len(pool) < _LEAST_IMAGES:
        return "f32", []
    tried = _images(encoder, pool, spread(len(pool), _TRIED))
    if not len(tried) or len(pool) / _encode(encoder, tried)[1] < _WORTH:
        return "f32", []
    pixels = _sample(encoder, pool, _rows(pool)[1])
    names: list[Arithmetic] = ["bf16"] if runs_bf16(encoder.runtime) else []
    found: dict[Arithmetic, PrecisionCheck] = {}
    for name in [*names, "int8"]:
        try:
            found[name] = _compare(encoder, _in_arithmetic(encoder, pool, name, progress), pixels)
        except EncoderError as error:
            progress.say(f"{name} is left out: {error}")
            continue
        progress.say(f"{found[name]}: {'holds' if found[name].holds else 'is left out'}")
    holding = [name for name, check in found.items() if check.holds]
    return max(holding, key=lambda name: found[name].gain, default="f32"), list(found.values())


def _in_arithmetic(encoder: OnnxEncoder, pool: Pool, wanted: Arithmetic, progress: Progress) -> OnnxEncoder:
    if wanted == "bf16":
        if not runs_bf16(encoder.runtime):
            raise EncoderError(f"{encoder.runtime} has no bf16 on this CPU; use the precision f32, int8 or auto")
        return OnnxEncoder(encoder.name, encoder.path, encoder.runtime, "bf16", encoder.content, encoder.source)

    def calibrate(path: Path) -> None:
        progress.say(f"calibrate {encoder.name} for int8 on {min(_CALIBRATION, len(pool))} images")
        _quantise(encoder, _sample(encoder, pool, _rows(pool)[0]), path)

    return _in_int8(encoder, kept(_int8_file(encoder, pool), calibrate))


def _in_int8(encoder: OnnxEncoder, path: Path) -> OnnxEncoder:
    return OnnxEncoder(encoder.name, path, encoder.runtime, "int8", source=encoder.source)


def _int8_file(encoder: OnnxEncoder, pool: Pool) -> Path:
    return files.cache_folder() / "encoders" / f"{_key(encoder, pool)}-int8.onnx"


def _key(encoder: OnnxEncoder, pool: Pool) -> str:
    return f"{encoder.name_on_disk}-{pool.fingerprint[:12]}-v{_FORMAT}"


def _rows(pool: Pool) -> tuple[list[int], list[int]]:
    """Rows to calibrate on, and to compare on."""
    rows = spread(len(pool), _CALIBRATION + _COMPARISON)
    return rows[::3], [row for place, row in enumerate(rows) if place % 3] or rows


def _sample(encoder: OnnxEncoder, pool: Pool, rows: Sequence[int]) -> Pixels:
    """Raises `EncoderError` where none of `rows` can be read."""
    found = _images(encoder, pool, rows)
    if not len(found):
        raise EncoderError(f"none of {len(rows)} sampled images of {pool.source} can be read to choose a precision by")
    return found


def _images(encoder: OnnxEncoder, pool: Pool, rows: Sequence[int]) -> Pixels:
    """(n, height, width, 3) those of `rows` that can be read."""
    found = np.empty((len(rows), *encoder.size, 3), np.uint8)
    count = 0
    for row in rows:
        with suppress(UnreadableImage):
            found[count] = encoder.prepare(pool.read(row))
            count += 1
    return found[:count]


def _compare(encoder: OnnxEncoder, faster: OnnxEncoder, pixels: Pixels) -> PrecisionCheck:
    (plain, slow), (changed, fast) = _encode(encoder, pixels), _encode(faster, pixels)
    cosines = (plain * changed).sum(axis=1)
    spread_ = float(((plain - plain.mean(axis=0)) ** 2).sum())
    noise = float(((changed - plain) ** 2).sum()) / max(spread_, 1e-12)
    return PrecisionCheck(
        faster.precision, fast / slow, noise, (float(np.median(cosines)), float(np.quantile(cosines, 0.01)))
    )


def _encode(encoder: OnnxEncoder, pixels: Pixels) -> tuple[NDArray[np.float32], float]:
    """Unit vectors, and images per second."""
    encoder.encode(pixels[:BATCH])  # what is set up on first use does not count
    parts = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
    started = time.perf_counter()
    vectors = np.concatenate(list(in_order(encoder.encode, parts, encoder.workers)))
    return l2_normalize(vectors), len(pixels) / (time.perf_counter() - started)


def _quantise(encoder: OnnxEncoder, pixels: Pixels, target: Path) -> None:
    """Write the network with its convolutions and products in int8, their inputs in the range seen on `pixels`.

    The first convolution and those by channel stay in float32: they do little work, and lose most. Weights have 7
    bits, as 8 overflow on CPUs without VNNI.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(np.array_split(pixels, -(-len(pixels) // encoder.batch)))

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"pixels": batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, plain, done = (Path(folder) / f"{name}.onnx" for name in ("whole", "plain", "int8"))
        try:
            whole.write_bytes(encoder.content)
            quant_pre_process(whole, plain, skip_symbolic_shape=True)
            quantize_static(
                plain,
                done,
                Images(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                nodes_to_exclude=_left_alone(onnx.load(plain)),
                extra_options={"OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul"]},
            )
        except Exception as error:  # it raises all kinds at a graph that it does not know
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise EncoderError(f"{encoder.name} cannot be quantised to int8: {reason}") from error
        files.write(target, done.read_bytes())


def _left_alone(model: "onnx.ModelProto") -> list[str]:
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    grouped = [node for node in convolutions for one in node.attribute if one.name == "group" and one.i > 1]
    first = convolutions[:1] if len(convolutions) > 1 else []
    again = [node for node in convolutions if first and node.name == f"again_{first[0].name}"]  # in a closer view
    margins = [node for node in model.graph.node if node.name.endswith(COVERED)]
    return [node.name for node in [*first, *again, *grouped, *margins] if node.name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Its advice, on the root logger and on stderr, is for those who quantise by hand."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)  # its default; it cannot be asked
