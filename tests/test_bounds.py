"""What decoding may take, whatever the image: bytes, memory, time; and how the limits are raised."""

import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import bombs
import numpy as np
import pytest
from pictures import blurred, encoded
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from holotype.encoders.registry import load_encoder
from holotype.errors import HolotypeError, UnreadableImage
from holotype.pool import isolation
from holotype.pool.formats.formats import read_header
from holotype.pool.images import decode, letterbox
from holotype.pool.isolation import decode_apart
from holotype.pool.limits import TOGETHER, Cost, Limits, Room, limits
from holotype.pool.pool import open_pool
from holotype.vectors.store import embed

MEASURE = """
import json, resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from holotype.pool.images import decode
from holotype.errors import UnreadableImage

def size(path):
    try:
        return decode(path, fit=224).size
    except UnreadableImage as error:
        return str(error)

paths = sorted(Path(sys.argv[1]).iterdir())
with ThreadPoolExecutor(8) as threads:
    found = dict(zip([path.name for path in paths], threads.map(size, paths)))
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of ourselves it would be that of who started us
print(json.dumps([found, int(own.split()[1]) << 10, others << 10]))
"""
REFUSED = {
    "progressive.jpg": (bombs.giant_jpeg(65500, 65500, progressive=True), "GB to decode, more than the limit"),
    "scans.jpg": (bombs.scans(500, 65_500), "65,50. scans are more than the limit"),
    "chunks.png": (bombs.chunks(1_000_000, b"IDAT"), "more than 200,000 chunks"),
    "texts.png": (bombs.chunks(1_000_000, b"tEXt"), "more than 200,000 chunks"),
    "canvas.gif": (bombs.gif_canvas(), "65535 x 65535 pixels are more than the limit of 400 megapixels"),
    "canvas.webp": (bombs.webp_canvas(), "16384 x 16384 .* GB to decode"),
    "tile.tif": (bombs.huge_tile(), "GB to decode, more than the limit"),
    "hidden.jpg": (bombs.hidden_scans(2000, 3000), "3,0.. scans are more than the limit"),
    "blocks.gif": (bombs.gif_blocks(2_000_000), "more than 2,000,000 blocks"),
    "counts.tif": (bombs.many_values(279, 4, 80_000_000), "GB to decode, more than the limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_by_its_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "decode_content", None)
    data, reason = REFUSED[name]
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, fit=224)


def test_bombs_stay_within_the_bounds_also_with_many_workers(tmp_path: Path) -> None:
    made = {name: data for name, (data, _) in REFUSED.items()} | {
        "frames.gif": bombs.frames(100_000),
        "large.jp2": bombs.flat("JPEG2000", 6_000),
        "large.avif": bombs.flat("AVIF", 6_000),
        "large.png": bombs.flat("PNG", 17_000),
        "float.tif": bombs.flat("TIFF", 10_000),
        "baseline.jpg": bombs.giant_jpeg(65500, 65500, progressive=False),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    bombs.sparse(tmp_path / "sparse.jpg")
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True)
    found, own, others = json.loads(done.stdout)
    assert {name for name, said in found.items() if isinstance(said, str)} == {"sparse.jpg", *REFUSED}
    assert "42,949,672,960 bytes are more than the limit of 400,000,000" in found["sparse.jpg"]
    assert own < TOGETHER
    assert others < limits().memory


HEADERS = """
import resource, sys
from pathlib import Path
from holotype.errors import UnreadableImage
from holotype.pool.formats.formats import read_header
from holotype.pool.formats.png import lacks_rows
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        header = read_header(path.read_bytes())
        print(header.certain, header.format == "PNG" and lacks_rows(header.content))
    except UnreadableImage as error:
        print(error)
"""


def test_a_header_is_read_in_the_memory_and_time_of_its_file(tmp_path: Path) -> None:
    made = [
        (bombs.exif_starts(1_000_000), "True False"),
        (bombs.broken_chunks(90_000), "cannot be decoded: a PNG with more than 200,000 chunks"),
        (bombs.shared_values(2 << 20), "True False"),
        (bombs.extents(60_000), "False False"),
        (bombs.behind_pixels(10_000), "True False"),
        (bombs.avif_boxes(4096), "False False"),
        (bombs.avif_boxes(1, 1, sizes=1_500_000), "cannot be decoded: a file of AVIF with more than 10,000 sizes"),
        (bombs.repeated_tag(4096, 8), "True False"),
        (bombs.hidden_scans(2000, 3000)[:-2] + bytes.fromhex("ffda0002") * 5_000_000 + b"\xff\xd9", "True False"),
    ]
    for number, (data, _) in enumerate(made):
        (tmp_path / f"{number}").write_bytes(data)
    done = subprocess.run([sys.executable, "-c", HEADERS, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [said for _, said in made]


APART = {
    "low.png": bombs.low_bits(2900),
    "runs.bmp": bombs.runs(1300),
    "strips.tif": bombs.strips(310_000),
    "precincts.jp2": bombs.precincts(1500, in_tile=False),
    "tile.jp2": bombs.precincts(1500, in_tile=True),
}


@pytest.mark.parametrize("name", APART)
def test_what_takes_more_than_its_pixels_is_decoded_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holotype.pool.images.decode_content", None)  # as this process would
    data = APART[name]
    if name.endswith(".jp2"):
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            decode(data, fit=224)
    else:
        assert max(decode(data, fit=224).size) >= 224


def test_what_more_than_8_bits_take_is_counted() -> None:
    """Of 318 MB that were measured for 36 megapixels, 206 were counted."""
    header = read_header(encoded(Image.fromarray(np.full((60, 60), 3000, np.uint16)), "PNG"))
    assert Cost.of(header, None).memory >= 9 * 60 * 60


@pytest.mark.parametrize("name", [258, 320, 339])
def test_a_table_of_a_tiff_is_no_longer_than_it_can_be(name: int) -> None:
    content = read_header(bombs.many_values(name, 3, 4_000_000)).content  # of numbers in Python it would take 90 MB
    assert name not in TiffImageFile(io.BytesIO(content)).tag_v2


def test_a_file_that_is_another_when_it_is_read(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(encoded(blurred(0)))
    pool = open_pool(tmp_path)
    bombs.sparse(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").unlink()
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(encoded(blurred(1)) * 2)
    with pytest.raises(UnreadableImage, match="42,949,672,960 bytes"):
        pool.read(0)
    with pytest.raises(UnreadableImage, match="it is no file any more"):
        pool.read(1)
    assert decode(pool.read(2)).size == (64, 48)


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "seconds", 1)
    with pytest.raises(UnreadableImage, match=r"cannot be decoded in [14] seconds.*; to allow more, set HOLO"):
        decode(bombs.scans(3000, 1000), fit=224)


def test_what_takes_more_memory_than_its_header_says_is_ended() -> None:
    data = bombs.flat("PNG", 18_000)
    cost = Cost(pixels=1, memory=1, seconds=1, passes=1)
    with pytest.raises(UnreadableImage, match=r"cannot be decoded in 0\.3 GB of memory; to allow more, set HOLOTYPE"):
        decode_apart(read_header(data), 224, cost, limits())


def test_where_no_process_can_be_started_it_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HolotypeError, match="a process to decode a large image cannot be started") as caught:
        decode(encoded(blurred(0), "AVIF", save_all=True, append_images=[blurred(1)]))
    assert not isinstance(caught.value, UnreadableImage)


def test_most_images_are_decoded_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000"):  # noqa: A001
        assert decode(encoded(blurred(0, (1200, 900)), format), fit=224).width >= 300
    assert decode(encoded(Image.new("RGB", (6000, 4000)), quality=90, progressive=True), fit=224).size == (750, 500)
    assert decode(encoded(Image.new("L", (30000, 4000))), fit=224).size == (3750, 500)


def test_200_megapixel_png_is_decoded_at_a_reduced_size() -> None:
    small = blurred(3, (40, 20)).convert("P")
    picture = small.resize((20000, 10000), Image.Resampling.NEAREST)
    data = encoded(picture, "PNG", compress_level=1)
    found = decode(data, fit=224)
    assert found.size == (690, 345)
    as_small = np.asarray(found.resize((40, 20), Image.Resampling.BOX)).astype(int)
    assert abs(as_small - np.asarray(small.convert("RGB"))).mean() < 1
    with pytest.raises(UnreadableImage, match=r"20000 x 10000 .* limit of 100 megapixels at full size"):
        decode(data)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "F", "I;16"])
def test_large_images_are_shrunk_as_the_letterbox_would(mode: str) -> None:
    small = blurred(5, (300, 200)).convert("L" if mode == "I;16" else mode)
    large = small.resize((5400, 3600), Image.Resampling.NEAREST)
    if mode == "I;16":
        large = Image.fromarray(np.asarray(large).astype(np.uint16) * 257)
    data = encoded(large, "TIFF" if mode == "F" else "PNG")
    whole, shrunk = decode(data), decode(data, fit=224)
    assert shrunk.size == (675, 450)
    a, b = (letterbox(image, (224, 224), (127,) * 3).astype(int) for image in (whole, shrunk))
    assert abs(a - b).mean() < 1


def test_the_limit_can_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (2000, 1000)), "PNG")
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "1")
    with pytest.raises(
        UnreadableImage, match=r"2000 x 1000 .* 1 megapixels; to allow more, set HOLOTYPE_MAX_MEGAPIXELS"
    ):
        decode(data, fit=224)
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "100")
    assert decode(data, fit=224).size == (2000, 1000)
    assert limits() == Limits(100_000_000)


@pytest.mark.parametrize("value", ["0", "-3", "many", "1e3", "1.5", "100001", "٣"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", value)
    with pytest.raises(HolotypeError, match="expected HOLOTYPE_MAX_MEGAPIXELS to be a whole number") as caught:
        decode(encoded(blurred(0)))
    assert not isinstance(caught.value, UnreadableImage)


def test_what_an_avif_claims_is_compared_with_what_it_holds() -> None:
    data = encoded(Image.new("L", (6000, 4000)), "AVIF", speed=10)
    at = data.index(b"ispe") + 8
    header = read_header(data[:at] + struct.pack(">II", 32, 16) + data[at + 8 :])
    assert (header.width, header.height, header.certain) == (6000, 4000, True)


def test_a_header_that_leads_out_of_the_file() -> None:
    data = bytearray(encoded(blurred(0), "TIFF", big_tiff=True))
    data[8:16] = b"\xff" * 8
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode(bytes(data))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(blurred(0)))
    bombs.sparse(tmp_path / "b.jpg")
    pool = open_pool(tmp_path)
    assert decode(pool.read(0)).size == (64, 48)
    with pytest.raises(UnreadableImage, match=r"42,949,672,960 bytes .* HOLOTYPE_MAX_MEGAPIXELS"):
        pool.read(1)
    with pytest.raises(UnreadableImage, match="42,949,672,960 bytes"):
        decode(tmp_path / "b.jpg")


def test_who_wants_much_memory_waits_for_no_more_than_was_taken_before() -> None:
    room, got = Room(), list[int]()

    def take(amount: int) -> None:
        with room.hold(amount, 100):
            got.append(amount)

    threads = [threading.Thread(target=take, args=[amount]) for amount in (90, 30, 100, 20)]
    with room.hold(60, 100):
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        assert got == []
    for thread in threads:
        thread.join(30)
    assert (got[0], got.index(100)) == (90, 2)


FORKED = """
import os, threading
from holotype.pool.limits import Room

room, held, done = Room(), threading.Event(), threading.Event()

def hold():
    with room.hold(80, 100):
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    with room.hold(100, 100):
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""


def test_a_forked_process_has_all_of_the_room() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "7\n"


def test_the_process_that_decodes_loads_little() -> None:
    said = "import sys, holotype.pool.isolation; print({'numpy', 'openvino', 'pydantic', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "set()"


def test_a_raised_limit_helps_where_vectors_are_kept(
    tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    images = tmp_path / "images"
    images.mkdir()
    Image.new("1", (2000, 1000)).save(images / "large.png")
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "small.png").write_bytes(encoded(blurred(0), "PNG"))
    pool, encoder = open_pool(images), load_encoder(network)
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "1")
    assert set(embed(pool, encoder, tmp_path / "vectors").unreadable) == {"large", "broken"}
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "2")
    Image.new("1", (2000, 2000)).save(images / "larger.png")
    found = embed(open_pool(images), encoder, tmp_path / "vectors")
    assert set(found.unreadable) == {"broken", "larger"}
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "3")
    for _ in range(2):  # the reason is today's
        found = embed(open_pool(images), encoder, tmp_path / "vectors")
        assert "limit of 3 megapixels" in found.unreadable["larger"]
    monkeypatch.setenv("HOLOTYPE_MAX_MEGAPIXELS", "4")
    found = embed(open_pool(images), encoder, tmp_path / "vectors")
    assert set(found.unreadable) == {"broken"}
    assert found.present.sum() == 3
