"""A pool whose files come and go while it is read."""

import threading
from pathlib import Path

import pytest
from conftest import Jpeg

from holotype.errors import PoolError, UnreadableImage
from holotype.pool import pool as module
from holotype.pool.pool import open_pool


def test_a_folder_that_is_away_for_a_moment_costs_no_image(tmp_path: Path, jpeg: Jpeg) -> None:
    (tmp_path / "pool").mkdir()
    for row in range(3):
        (tmp_path / "pool" / f"{row}.jpg").write_bytes(jpeg())
    pool = open_pool(tmp_path / "pool")
    (tmp_path / "pool").rename(tmp_path / "away")
    back = threading.Timer(0.5, lambda: (tmp_path / "away").rename(tmp_path / "pool"))
    back.start()
    assert [pool.read(row) for row in range(3)] == [jpeg()] * 3
    back.join()


def test_a_folder_that_is_gone_stops_a_run_and_a_file_that_is_gone_does_not(
    tmp_path: Path, jpeg: Jpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.4)
    (tmp_path / "pool").mkdir()
    for row in range(3):
        (tmp_path / "pool" / f"{row}.jpg").write_bytes(jpeg())
    pool = open_pool(tmp_path / "pool")
    (tmp_path / "pool" / "1.jpg").unlink()
    with pytest.raises(UnreadableImage, match="cannot be read: No such file"):
        pool.read(1)
    (tmp_path / "pool").rename(tmp_path / "away")
    with pytest.raises(PoolError, match="pool is not there any more; give the same command again when it is"):
        pool.read(2)
