"""A map of features becomes the mean of where the image is: what a letterbox is filled with does not count."""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import HALF, assert_same, convolution, convolve, eager, images
from numpy.typing import NDArray

from holotype.encoders.registry import load_encoder
from holotype.pool.images import MARGIN

pytestmark = pytest.mark.usefixtures("offline")
Pixels = NDArray[np.uint8]


def letterboxed(pixels: Pixels, rows: slice, columns: slice) -> Pixels:
    """`pixels` with the margins' value wherever they are not of `rows` and `columns`."""
    found = np.broadcast_to(np.array(MARGIN, np.uint8), pixels.shape).copy()
    found[:, rows, columns] = pixels[:, rows, columns]
    return found


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("wide", [True, False])
def test_margins_do_not_count(runtime: str, opset: int, share: float, wide: bool, tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, "rank4", opset=opset)), runtime)
    height, width = encoder.size
    sides = [slice(round(side * share / 2), side - round(side * share / 2)) for side in encoder.size]
    rows, columns = (sides[0], slice(0, width)) if wide else (slice(0, height), sides[1])
    pixels = letterboxed(images(encoder), rows, columns)

    def of_image(x: torch.Tensor) -> torch.Tensor:
        cells = convolve(x)
        weights = torch.zeros(1, 1, *cells.shape[2:])
        for place in np.ndindex(cells.shape[2], cells.shape[3]):
            edges = [np.linspace(0, side, count + 1) for side, count in zip(encoder.size, cells.shape[2:], strict=True)]
            covered = [
                max(min(edge[i + 1], part.stop) - max(edge[i], part.start), 0) / (edge[i + 1] - edge[i])
                for edge, i, part in zip(edges, place, (rows, columns), strict=True)
            ]
            weights[0, 0, place[0], place[1]] = float(np.prod(covered))
        return (cells * weights).sum((2, 3)) / weights.sum()

    wanted = eager(of_image, pixels, *HALF)
    np.testing.assert_allclose(encoder.encode(pixels), wanted, atol=5e-3 * float(np.abs(wanted).max()))
    plain = eager(lambda x: convolve(x).mean((2, 3)), pixels, *HALF)
    assert np.abs(plain - wanted).max() > 0.05 * np.abs(wanted).max()


def test_an_image_of_the_margins_value_has_features_too(tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, "rank4")))
    pixels = letterboxed(images(encoder), slice(0, 0), slice(0, 0))
    found = encoder.encode(pixels)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, eager(lambda x: convolve(x).mean((2, 3)), pixels, *HALF), rtol=1e-3)


def test_rows_of_the_margins_value_within_an_image_spoil_nothing(tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, "rank4")))
    pixels = images(encoder)
    pixels[:, encoder.size[0] // 2] = MARGIN
    wanted = eager(lambda x: convolve(x).mean((2, 3)), pixels, *HALF)
    np.testing.assert_allclose(encoder.encode(pixels), wanted, atol=0.05 * float(np.abs(wanted).max()))


def test_without_margins_it_is_the_mean(tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, "rank4")))
    assert_same(encoder.encode(images(encoder)), eager(lambda x: convolve(x).mean((2, 3)), images(encoder), *HALF))
