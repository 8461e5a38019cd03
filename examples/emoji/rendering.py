"""From a drawing to a JPEG on a page of its own: size, shape, background and place vary."""

import io
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from .drawings import Drawing

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Sitting:
    """One drawing to render; (`seed`, `number`) decides everything that varies, `sides` is in pixels."""

    drawing: Drawing
    seed: int
    number: int
    sides: tuple[int, int]  # least and greatest long side


@dataclass(frozen=True)
class Picture:
    """A rendered sitting: the JPEG, or the reason why there is none."""

    jpeg: bytes = b""
    reason: str = ""


def render_all(sittings: Iterable[Sitting], workers: int | None = None) -> Iterator[Picture]:
    """Yield the picture of every sitting, in order, rendered by `workers` processes (one per core)."""
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of a progress bar
    with spawn.Pool(workers or os.cpu_count(), initializer=_leave_interrupts_to_parent) as pool:
        yield from pool.imap(_render_or_reason, sittings, chunksize=16)


def render(sitting: Sitting) -> bytes:
    """Return one JPEG, the same bytes each time.

    Raises `ValueError` when the drawing is no valid SVG, or shows nothing.
    """
    rng = np.random.default_rng([sitting.seed, sitting.number])
    width, height = _canvas_size(rng, sitting.sides)
    figure = _figure(rng, sitting.drawing, min(width, height))
    page = Image.fromarray(_background(rng, width, height))
    if "currentColor" in sitting.drawing.svg:
        figure = _inked(rng, figure, page)
    left = int(rng.integers(0, width - figure.width + 1))
    top = int(rng.integers(0, height - figure.height + 1))
    page.paste(figure, (left, top), mask=figure)
    jpeg = io.BytesIO()
    page.save(jpeg, "JPEG", quality=int(rng.integers(75, 96)))
    return jpeg.getvalue()


def _render_or_reason(sitting: Sitting) -> Picture:
    try:
        return Picture(jpeg=render(sitting))
    except ValueError as error:
        return Picture(reason=str(error))


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _canvas_size(rng: np.random.Generator, sides: tuple[int, int]) -> tuple[int, int]:
    long = int(rng.integers(sides[0], sides[1] + 1))
    short = round(long * rng.uniform(0.6, 1.0))
    return (long, short) if rng.random() < 0.5 else (short, long)


def _figure(rng: np.random.Generator, drawing: Drawing, room: int) -> Image.Image:
    """Return the drawing with its alpha, its longer side 60 to 100 % of `room` pixels."""
    scale = room * rng.uniform(0.6, 1.0) / max(drawing.width, drawing.height)
    png = resvg_py.svg_to_bytes(
        svg_string=drawing.svg,
        width=max(1, round(drawing.width * scale)),
        height=max(1, round(drawing.height * scale)),
        skip_system_fonts=True,  # the same pixels on every machine
    )
    figure = Image.open(io.BytesIO(png)).convert("RGBA")
    if figure.getchannel("A").getbbox() is None:
        raise ValueError("the drawing shows nothing")
    return figure


def _inked(rng: np.random.Generator, figure: Image.Image, page: Image.Image) -> Image.Image:
    """Return a drawing that brings no colour of its own in one that can be seen on `page`."""
    dark = np.asarray(page).mean() > 127
    ink = rng.uniform(0, 70, 3) if dark else rng.uniform(185, 255, 3)
    inked = Image.new("RGBA", figure.size, (*(int(channel) for channel in ink), 255))
    inked.putalpha(figure.getchannel("A"))
    return inked


def _background(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Return a page (height, width, 3): one third each is plain, a soft gradient, or lightly noisy."""
    page = np.broadcast_to(_colour(rng), (height, width, 3))
    kind = rng.integers(3)
    if kind == 1:
        page = page + _ramp(rng, width, height) * (_colour(rng) - page[0, 0])
    elif kind == 2:
        page = page + rng.uniform(2, 12) * rng.standard_normal((height, width, 3), dtype=np.float32)
    return np.clip(page, 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> Pixels:
    """Return RGB in 0..255, shape (3,), any brightness, mostly muted."""
    colour = rng.uniform(0, 255, 3)
    return np.asarray(colour.mean() + rng.uniform(0.1, 0.9) * (colour - colour.mean()), dtype=np.float32)


def _ramp(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Return (height, width, 1) rising from 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(np.cos(angle))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(np.sin(angle))
    ramp = y[:, None] + x[None, :]
    ramp -= ramp.min()
    return np.asarray((ramp / max(float(ramp.max()), 1e-6))[:, :, None], dtype=np.float32)
