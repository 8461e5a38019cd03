"""Which way up a picture is, read from EXIF or XMP however broken the rest of it is."""

import re
import struct

TAG = 0x0112
_EXIF = b"Exif\0\0"  # some programs write it twice
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_READ = {1: "B", 3: "H", 4: "I"}  # the TIFF types of whole numbers: byte, short, long


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Return 1 to 8, and 1 where neither block says it. Nothing else in them is looked at."""
    found = _in_exif(exif)
    if found is None:
        match = _IN_XMP.search(xmp)
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def _in_exif(block: bytes) -> int | None:
    begin = 0
    while block.startswith(_EXIF, begin):
        begin += len(_EXIF)
    block = block[begin:]
    order = "<" if block.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, at)
            if tag == TAG and kind in _READ:
                (value,) = struct.unpack_from(f"{order}{_READ[kind]}", block, at + 8)
                return int(value)
    except struct.error:
        pass  # it is cut: what is not there says nothing
    return None
