"""The images of a tar: what they are called and where their bytes lie. It is never unpacked.

A tar says only in passing what is in it, so it is walked through once, from header to header. Whoever packed it chose
what the headers say: a walk ends, whatever they are, and what cannot be is damage.
"""

import hashlib
import io
import re
import sys
import tarfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from holotype.errors import PoolError, UnreadableNow
from holotype.names import printable
from holotype.pointers import LONGEST, why_pointer
from holotype.pool.members import split_name, split_suffix
from holotype.pool.ranges import RangeFile

_LONGEST_HEADER = 1 << 20  # bytes of all headers of one member: its names, its attributes, the map of a sparse file
_MOST_HEADERS = 16  # extended headers before one member; tools write up to three
_AT_ONCE = 4096  # bytes that are read of a member: its header, and enough of an image to tell it from others
_PADDING = 4 << 20  # bytes of zeros behind the end mark; tools fill up a record, most often of 10 kB
_PIECE, _FIRST_PIECE = 1 << 20, 1 << 14  # bytes that are looked through at once behind the end mark
_ATTRIBUTES = frozenset(["path", "linkpath", "size", "hdrcharset"])  # of a global header, those that count here
_DIGITS = re.compile(rb"\d{256}")  # more than a name may have; tarfile looks through them again from each one
_GNU = b"ustar  \0"  # where others have the start of a long name, GNU has times
_ADLER = 65521  # what Adler-32 counts up to
_SPECIAL = {b"D": "(list of a folder)", b"V": "(label)", b"M": "(rest of a file in another tar)"}  # GNU's own
REPLACED = "(replaced by a later member of the same path)"

# Name, mode, uid, gid, size, mtime, checksum, type, link, magic, user, group, device, and where a prefix would start.
_PLAIN = re.compile(
    rb"(.{100})(?:[0-7]{6}[0-7 ][\0 ]){3}([0-7]{11})[\0 ][0-7]{11}[\0 ]([0-7]{6})[\0 ]{2}0.{172}"
    rb"(?:[0-7]{6}[0-7 ][\0 ]|\0{8}){2}\0.{166}",
    re.DOTALL,
)


@dataclass
class Listing:
    """The images of one tar in its order, and what else is in it.

    stems      the path of each image without its suffix, see `members.split_name`
    suffixes   its suffix
    offsets    where the bytes of each image start in the tar
    sizes      bytes of each encoded image
    ignored    members that are no images, counted by suffix, or by what they are: "(symbolic link)"
    content    a digest of all that was read of the tar: each header, and how each member begins
    cut        why nothing is listed from there on, of a tar that is cut off or damaged
    note       what is odd about a tar that is whole
    """

    stems: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    ignored: Counter[str] = field(default_factory=Counter)
    content: str = ""
    cut: str | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.stems)


def list_tar(tar: RangeFile) -> Listing:
    """List an open tar. Raises `PoolError` for another file."""
    listing = Listing()
    targets = _Targets(listing)
    try:
        for member in _members(tar, listing):
            if isinstance(member, tuple):
                name = split_name(member[0])
                place: tuple[int, int] | str = member[1:]
            else:
                name = _SPECIAL.get(member.type) or split_name(member.name)
                place = name if isinstance(name, str) else _place_or_why(member, listing, targets)
            if isinstance(name, str) or isinstance(place, str):
                listing.ignored[name if isinstance(name, str) else str(place)] += 1
                continue
            listing.stems.append(name[0])
            listing.suffixes.append(sys.intern(name[1]))
            listing.offsets.append(place[0])
            listing.sizes.append(place[1])
    except (PoolError, UnreadableNow):
        raise
    except Exception as error:  # tarfile has many words for a damaged header, and none for most
        listing.cut = printable(str(error) or type(error).__name__)
    return _without_replaced(listing)


def looks_like_tar(path: Path) -> bool:
    """Whether the file at `path` is called a tar, or starts as one."""
    if path.suffix.lower() == ".tar":
        return True
    try:
        with path.open("rb") as file:
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except (OSError, ValueError, tarfile.TarError):
        return False
    return True


class _Targets:
    """The rows of images by path, for hard links; most tars have none."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._rows: dict[tuple[str, str], int] = {}
        self._known = 0

    def row(self, name: str) -> int | None:
        """The last image of this path so far."""
        start, self._known = self._known, len(self._listing)
        names = zip(self._listing.stems[start:], self._listing.suffixes[start:], strict=True)
        self._rows.update((one, row) for row, one in enumerate(names, start))
        return self._rows.get(split_suffix(printable(name).removeprefix("./")))


def _place_or_why(member: tarfile.TarInfo, listing: Listing, targets: _Targets) -> tuple[int, int] | str:
    """Offset and size of a member's bytes, or why it is ignored."""
    if member.issym():
        return "(symbolic link)"
    if member.islnk():
        target = targets.row(member.linkname)
        return "(hard link to no image)" if target is None else (listing.offsets[target], listing.sizes[target])
    if member.issparse():
        return "(sparse file)"  # its bytes do not lie in one piece
    return (member.offset_data, member.size) if member.isreg() else "(special file)"


def _without_replaced(listing: Listing) -> Listing:
    """Of members of one path the last counts, as when a tar is unpacked; `tar --append` leaves such."""
    if len(set(listing.stems)) == len(listing):
        return listing
    last = {name: place for place, name in enumerate(zip(listing.stems, listing.suffixes, strict=True))}
    kept = sorted(last.values())
    if len(kept) < len(listing):
        listing.ignored[REPLACED] += len(listing) - len(kept)
        listing.stems = [listing.stems[place] for place in kept]
        listing.suffixes = [listing.suffixes[place] for place in kept]
        listing.offsets = array("q", [listing.offsets[place] for place in kept])
        listing.sizes = array("q", [listing.sizes[place] for place in kept])
    return listing


def _members(tar: RangeFile, listing: Listing) -> Iterator[tarfile.TarInfo | tuple[str, int, int]]:
    """Yield each member, other than folders, that lies whole in the file; also behind an end mark (`cat a b`).

    Of plain files that follow one another it is name, offset and size.
    """
    with _Headers(tar) as file, file.noted_in(listing):
        length = tar.now().size
        try:
            archive = _Archive.open(fileobj=file, mode="r:", tarinfo=_Member, encoding="utf-8")
        except (tarfile.TarError, ValueError, OverflowError, MemoryError):
            raise PoolError(_no_tar(tar)) from None
        with archive:
            last = -1
            while member := archive.next() or _behind_end(archive, tar, listing):
                archive.members.clear()  # it would keep every member it has seen
                archive.begin_member()
                room = length - member.offset_data
                if member.isreg() and not member.issparse() and not 0 <= member.size <= room:
                    raise tarfile.ReadError(f"{member.name} should have {member.size} bytes")
                if archive.offset <= last:
                    raise tarfile.ReadError(f"{member.name} ends before it starts")
                last = archive.offset
                if not member.isdir():
                    yield member
                yield from archive.plain(length)


def _no_tar(tar: RangeFile) -> str:
    if not tar.now().size:
        return f"expected a tar at {tar}, which is empty (0 bytes); fetch it again"
    pointer = why_pointer(tar.read(0, LONGEST))
    why = pointer or "if it is compressed, uncompress it first; of images, give their folder"
    return f"expected an uncompressed tar at {tar}; {why}"


class _Headers(io.BufferedReader):
    """A tar as tarfile reads it: no more of it than the headers of one member may be.

    left   bytes that may still be read of this member's
    """

    def __init__(self, tar: RangeFile) -> None:
        self._digest = hashlib.sha256()  # of all that is read: its reader reads the same of the same file
        super().__init__(tar.opened(self._digest.update), _AT_ONCE)
        self.left = _LONGEST_HEADER

    @contextmanager
    def noted_in(self, listing: Listing) -> Iterator[None]:
        """Let `listing` know at the end what was read."""
        try:
            yield
        finally:
            listing.content = self._digest.hexdigest()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does. Raises `tarfile.ReadError` for headers that would take all memory, or all time."""
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"an extended header of more than {_LONGEST_HEADER:,} bytes")
        self.left -= size
        content = super().read(size)
        if size > tarfile.BLOCKSIZE and _DIGITS.search(content):
            raise tarfile.ReadError("an extended header that is none")
        return content

    def read_header(self) -> bytes:
        """Read one header, which nobody counts."""
        return super().read(tarfile.BLOCKSIZE)


class _Archive(tarfile.TarFile):
    """A tar of which only the headers are read."""

    members: list[tarfile.TarInfo]
    fileobj: _Headers
    pax_headers: dict[str, str]
    offset: int
    extended = 0  # headers since the last member

    def begin_member(self) -> None:
        """Forget what was of the member before, and of global headers all that no member needs."""
        self.extended, self.fileobj.left = 0, _LONGEST_HEADER
        if self.pax_headers:
            self.pax_headers = {name: value for name, value in self.pax_headers.items() if name in _ATTRIBUTES}

    def plain(self, length: int) -> Iterator[tuple[str, int, int]]:
        """Yield name, offset and size of each member up to one that is no plain file, or that a header before is about.

        length   of the tar: a member that ends behind it is left to others, too

        It takes a third of the time, as nothing but that is looked at.
        """
        seek, read, start = self.fileobj.seek, self.fileobj.read_header, self.offset
        while not self.pax_headers:
            seek(start)
            found = _plain(read())
            if found is None or found[1] > length - start - tarfile.BLOCKSIZE:
                break
            name, size = found
            yield name, start + tarfile.BLOCKSIZE, size
            self.offset = start = start + tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _plain(header: bytes) -> tuple[str, int] | None:
    """Return name and size of a plain file by its header; None of anything else."""
    found = _PLAIN.fullmatch(header)
    if found is None:
        return None
    # Adler's sum starts with that of the bytes, up to a multiple of its modulus; those of the checksum count as blanks
    total = (zlib.adler32(header, 0) & 0xFFFF) - sum(header[148:156]) + 8 * ord(" ")
    if (int(found[3], 8) - total) % _ADLER:
        return None
    return found[1].partition(b"\0")[0].decode("utf-8", "surrogateescape"), int(found[2], 8)


class _Member(tarfile.TarInfo):
    """A member whose header is read in half the time, and only as far as needed, where it is a plain file's."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        plain = _plain(bytes(buf))
        if plain is None:
            return cls._other(super().frombuf(buf, encoding, errors), buf, encoding, errors)
        member = cls(plain[0])
        member.size = plain[1]
        return member

    @classmethod
    def _other(cls, member: Self, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Undo what is wrong in GNU's incremental archives."""
        if buf[257:265] == _GNU:  # tarfile takes the times that GNU keeps there for the start of the name
            name = bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors)
            member.name = name.rstrip("/") if member.isdir() else name
        return member

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        if isinstance(archive, _Archive):
            archive.extended += 1
            if archive.extended > _MOST_HEADERS:
                raise tarfile.ReadError(f"more than {_MOST_HEADERS} headers of one member")
        return super().fromtarfile(archive)


def _behind_end(archive: _Archive, tar: RangeFile, listing: Listing) -> tarfile.TarInfo | None:
    """Return the member that follows on the end mark, as in tars that were joined, or None at the very end.

    tarfile takes a cut or damaged header (other than the first) for the end, too; only zeros are.
    """
    end = archive.offset
    block = tar.read_header(end, tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.ReadError("the mark at the end of a tar is missing")
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError(f"no whole header at byte {end}")
    length = tar.now().size
    first = _first_byte(tar, end + len(block), length)
    if first == length:  # nothing but zeros
        if length - end > _PADDING:
            listing.note = f"its last {length - end:,} bytes are zeros: a download that is not finished looks so"
        return None
    start = first // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
    archive.offset, archive.pax_headers = start, {}
    archive.begin_member()
    member = archive.next()
    if member is None:
        if start == end + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"no whole header at byte {start}")
        listing.note = f"the {length - start:,} bytes behind its end mark are no tar, and were not read"
    return member


def _first_byte(tar: RangeFile, start: int, length: int) -> int:
    """Where the first byte from `start` on is that is no zero; `length` where there is none."""
    size = _FIRST_PIECE  # most often little is there, and of some tars that were joined, often
    while piece := tar.read_header(start, size):
        if rest := piece.lstrip(b"\0"):
            return start + len(piece) - len(rest)
        start, size = start + len(piece), _PIECE
    return length
