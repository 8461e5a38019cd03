"""What a network expects of its pixels: size, mean and std, as the files that are published beside networks say it."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holotype.encoders.runtimes import MOST_SIDE
from holotype.errors import EncoderError
from holotype.pointers import why_pointer

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
OPEN_CLIP = "preprocess_cfg.json"  # as open_clip calls it, with names of its own
_NESTED = "image_processor"  # where the second, which transformers 5 writes, holds what the first holds
_NETWORKS = "onnx"
_EXAMPLE = '{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": 224}'

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Input size (height, width) in pixels, and mean and std per channel of pixels scaled to 0..1.

    output   the output that holds the features, of a network with several; None: by its name
    """

    size: tuple[int, int]
    mean: Triple
    std: Triple
    output: str | None = None

    @property
    def raw(self) -> bool:
        """Whether the network takes pixels of 0..255 as they are."""
        return self.mean == (0, 0, 0) and all(math.isclose(value * 255, 1, rel_tol=1e-6) for value in self.std)

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Read a file as `find_preprocessing` finds it. Raises `EncoderError`."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise EncoderError(
                f"expected the network's normalisation in {path}: a JSON file with "
                '"image_mean", "image_std" (three numbers each, for pixels of 0..1) and "size"'
            ) from None
        except OSError as error:
            raise EncoderError(f"{path} cannot be read: {error.strerror or error}") from None
        if pointer := why_pointer(content):
            raise EncoderError(f"{path}: {pointer}")
        try:
            values = json.loads(content)
        except (RecursionError, ValueError) as error:
            raise EncoderError(f"expected JSON like {_EXAMPLE} in {path}: {error}") from None
        nested = values.get(_NESTED, values) if isinstance(values, dict) else values
        if path.name == OPEN_CLIP and isinstance(nested, dict):
            nested = {f"image_{name}" if name in ("mean", "std") else name: one for name, one in nested.items()}
        if not isinstance(nested, dict):
            raise EncoderError(f"expected JSON like {_EXAMPLE} in {path}, got a {type(nested).__name__}")
        try:
            return cls(_size(nested), *_normalisation(nested), _output(nested))
        except ValueError as error:
            raise EncoderError(f"{path}: {error}") from None


def find_preprocessing(network: Path) -> Path:
    """Where the preprocessing of an .onnx file or of a folder is, or is expected.

    Repositories of the hub have their networks in a folder `onnx`, and the preprocessing above it.
    """
    if network.is_dir():
        return _find_in(network)
    if (beside := network.with_suffix(".json")).exists():
        return beside
    found, folder = _find_in(network.parent), network.absolute().parent
    above = _find_in(folder.parent)
    return above if folder.name == _NETWORKS and above.exists() and not found.exists() else found


def _find_in(folder: Path) -> Path:
    processor = folder / PROCESSOR
    try:
        nested = _NESTED in json.loads(processor.read_bytes())
    except (OSError, RecursionError, TypeError, ValueError):
        nested = False
    found = processor if nested else folder / PREPROCESSOR  # in the order of transformers
    other = folder / OPEN_CLIP
    return other if other.exists() and not found.exists() else found


def _size(values: dict[str, Any]) -> tuple[int, int]:
    # Published files often carry a crop_size that their processor never applies (EfficientNet-B0: 289, off).
    crop = values.get("crop_size") if values.get("do_center_crop", True) else None
    name = "size" if crop is None else "crop_size"
    given = size = values.get(name)
    if isinstance(size, dict):
        edge = size.get("shortest_edge", size.get("longest_edge"))
        size = [size.get("height", edge), size.get("width", edge)]
    sides: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or any(type(side) is not int or not 0 < side <= MOST_SIDE for side in sides):
        raise ValueError(
            f"{name}: expected a number of pixels, [height, width], "
            f'{{"height": ..., "width": ...}} or {{"shortest_edge": ...}}, each at most {MOST_SIDE}; got {given}'
        )
    return sides[0], sides[1]


def _output(values: dict[str, Any]) -> str | None:
    found = values.get("output")
    if found is None or isinstance(found, str):
        return found
    raise ValueError(f"output: expected the name of one of the network's outputs, got {found!r}")


def _normalisation(values: dict[str, Any]) -> tuple[Triple, Triple]:
    """Mean and std that do for pixels of 0..1 what all of the file's steps do for pixels of 0..255."""
    if values.get("do_flip_channel_order"):
        raise ValueError("do_flip_channel_order: a network for BGR, and only RGB is supported")
    rescaled, plain = values.get("do_rescale", True), values.get("do_normalize") is False
    factor = _number("rescale_factor", values.get("rescale_factor", 1 / 255)) if rescaled else 1.0
    offset = 1.0 if values.get("rescale_offset") else 0.0
    mean = (0.0, 0.0, 0.0) if plain else _triple("image_mean", values)
    std = (1.0, 1.0, 1.0) if plain else _triple("image_std", values)
    if factor == 0:
        raise ValueError("a rescale_factor of 0 makes all pixels black")
    if min(std) <= 0:
        raise ValueError(f"image_std: expected three numbers above 0, got {list(std)}")
    # EfficientNet's processor divides by std a second time; its published std is a square root for that reason.
    second = std if not plain and _divides_twice(values) else (1.0, 1.0, 1.0)
    unit = 255 * factor
    _check_range(mean, std, unit, offset)
    return (
        _three((value + offset) / unit for value in mean),
        _three(first * again / unit for first, again in zip(std, second, strict=True)),
    )


def _check_range(mean: Triple, std: Triple, unit: float, offset: float) -> None:
    """Refuse a mean that no pixel has: it is for pixels of another scale. `unit` is what white becomes."""
    low, high = min(0, unit) - offset, max(0, unit) - offset
    slack = 0.01 * (high - low)
    if not all(low - slack <= value <= high + slack for value in mean):
        raise ValueError(
            f"image_mean: {list(mean)} is no mean of pixels of {low:g}..{high:g}, which is what they are when it is "
            "subtracted; for a mean of pixels of 0..255 set do_rescale to false, or divide image_mean and image_std "
            "by 255"
        )
    if high - low > 100 and any(mean) and max(*mean, *std) <= 2:
        raise ValueError(
            f"image_mean: {list(mean)} and image_std {list(std)} are those of pixels of 0..1, and do_rescale is off, "
            "so that pixels are 0..255 when they are subtracted; set do_rescale to true"
        )


def _divides_twice(values: dict[str, Any]) -> bool:
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or ""
    return bool(values.get("include_top", str(kind).startswith("EfficientNet")))


def _triple(name: str, values: dict[str, Any]) -> Triple:
    if name not in values:
        raise ValueError(f"{name} is missing: expected three numbers, as in {_EXAMPLE}")
    found = values[name]
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError(f"{name}: expected three numbers, for red, green and blue; got {found!r}")
    return _three(_number(name, value) for value in found)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def _three(values: Iterable[float]) -> Triple:
    red, green, blue = values
    return red, green, blue
