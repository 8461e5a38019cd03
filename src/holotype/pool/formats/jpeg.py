"""JPEG: its segments before the first scan, and how many scans there are."""

import re
import struct
from dataclasses import dataclass

from holotype.pool.formats.header import Header, Malformed
from holotype.pool.formats.orientation import orientation_of

_MOST_SEGMENTS = 10_000
_ALONE = frozenset([0x00, 0x01, *range(0xD0, 0xD9)])  # escapes and markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
_METADATA = frozenset([*range(0xE0, 0xF0), 0xFE])
_PIXELS_NEED = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}  # what the colours mean: start and least length
_REAL = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xda-\xef\xfe]")
_IN_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_FEW_SCANS = 64


@dataclass
class _Frame:
    marker: int
    width: int
    height: int
    components: int
    samples: float  # for each pixel, all components together


def read_jpeg(data: bytes) -> Header:
    """Return the header of a JPEG. Raises `Malformed` where it has no frame or no scan.

    Its metadata may be cut, or claim to be longer than it is: reading goes on at the next segment that can be one.
    """
    kept, exif, xmp = [data[:2]], b"", b""
    frame: _Frame | None = None
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at, marker, end = _segment(data, at)
        body = data[at + 4 : end]
        if marker in _METADATA:
            end = _end_of_metadata(data, at, end)
            body = data[at + 4 : end]
            if marker == 0xE1 and body.startswith(b"Exif\0\0"):
                exif = exif or body
            elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = body
            elif _pixels_need(marker, body):
                kept.append(data[at:end])
        elif marker == 0xDA:
            if frame is None:
                raise Malformed("a JPEG with a scan before its frame")
            kept.append(data[at:])
            return _header(frame, data, at, b"".join(kept), orientation_of(exif, xmp))
        else:
            kept.append(data[at:end])
            if marker in _FRAMES:
                frame = _read_frame(marker, body)
        at = end
    raise Malformed(f"a JPEG with more than {_MOST_SEGMENTS:,} segments before its first scan")


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the place of the next segment from `at` on, its marker, and its end."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data) or data[at + 1] == 0xD9:
            raise Malformed("a JPEG that ends before its first scan")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            return at, marker, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _pixels_need(marker: int, body: bytes) -> bool:
    start, least = _PIXELS_NEED.get(marker, (b"", 1 << 16))
    return body.startswith(start) and len(body) >= least


def _end_of_metadata(data: bytes, at: int, end: int) -> int:
    """The end that the segment claims, if another follows there; else the next place where one begins."""
    if end >= at + 4 and data[end : end + 1] == b"\xff":
        return end
    found = _REAL.search(data, at + 2)
    return found.start() if found else len(data)


def _read_frame(marker: int, body: bytes) -> _Frame:
    try:
        _, height, width, count = struct.unpack_from(">BHHB", body)
        factors = [(body[7 + 3 * k] >> 4, body[7 + 3 * k] & 15) for k in range(count)]
    except (struct.error, IndexError):
        raise Malformed("a JPEG whose frame is cut") from None
    most = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    samples = sum(h * v for h, v in factors) / max(most, 1)
    return _Frame(marker, width, height, count, samples)


def _header(frame: _Frame, data: bytes, scan: int, content: bytes, orientation: int) -> Header:
    in_scan = data[scan + 4] if len(data) > scan + 4 else 0
    # the decoder keeps all coefficients, at full size, where one scan does not hold all of the picture
    several = frame.marker in _PROGRESSIVE or in_scan < frame.components
    coefficients = round(2 * frame.samples * (frame.width + 16) * (frame.height + 16)) if several else 0
    return Header(
        "JPEG",
        frame.width,
        frame.height,
        content,
        orientation,
        decoding=1 if frame.components == 1 else 4,
        finishing=4 if frame.components != 3 else 0,
        scales=True,
        held=coefficients,
        passes=_scans(data, scan) if several else 1,
        speed=50,
    )


def end_of_first_scan(data: bytes) -> int:
    """Return the place behind the data of the first scan, in the content of a header."""
    at = 2
    marker, end = 0, at
    while marker != 0xDA:
        at, marker, end = _segment(data, at)
        at = end
    found = _IN_SCAN.search(data, end)
    return found.start() if found else len(data)


def _scans(data: bytes, at: int) -> int:
    """How many scans there are from the first, at `at`, on; a few too many where there are few."""
    most = data.count(b"\xff\xda", at)
    if most <= _FEW_SCANS:
        return most
    scans = 0
    for _ in range(_MOST_SEGMENTS):
        if at < 0 or data[at + 1] == 0xD9:
            return scans
        scans += data[at + 1] == 0xDA
        found = _IN_SCAN.search(data, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
        at = found.start() if found else -1
    return most
