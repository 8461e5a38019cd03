"""Locks: one writer at a time, who says who it is; readers that see one run; file systems that have no locks."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from system import nobody

from holotype.errors import HolotypeWarning, OutputError
from holotype.locks import changing, locked, reading

HOLD = """
import sys, time
from pathlib import Path
from holotype.locks import locked
with locked(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    said = rf"another process writes into .*; wait .*\(it is holotype, process {os.getpid()} on .*, since \d{{4}}-"
    with locked(tmp_path / ".lock"), pytest.raises(OutputError, match=said), locked(tmp_path / ".lock"):
        pass
    with pytest.raises(FileNotFoundError), locked(tmp_path / ".lock"):
        (tmp_path / "missing").read_bytes()
    with locked(tmp_path / ".lock") as lock:
        assert lock.safe
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_lock_says_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match=f"it is a test, process {process.pid} on "), locked(tmp_path / ".lock"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(tmp_path / ".lock", "another test"):
        assert (tmp_path / ".lock").read_text().startswith(f"another test, process {os.getpid()} on ")


def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"):
        ready, done = os.pipe()
        child = os.fork()
        if not child:  # as a library may, behind our back
            os.close(done)
            os.read(ready, 1)
            os._exit(0)
        os.close(ready)
    with locked(tmp_path / ".lock"):
        os.close(done)
    os.waitpid(child, 0)


def test_a_lock_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    (tmp_path / ".lock").symlink_to("diary")
    with pytest.raises(OutputError, match="remove the link"), locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "diary").read_text() == "mine"


def test_a_folder_that_is_removed_is_not_ours_any_more(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out / ".lock") as lock:
        lock.check()
        out.rename(tmp_path / "moved")
        with pytest.raises(OutputError, match="was removed or moved while this command wrote into it"):
            lock.check()
        with locked(out / ".lock"), pytest.raises(OutputError, match="was removed or moved"):
            lock.check()


def test_a_folder_that_became_something_else_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out / ".lock") as lock:
        out.rename(tmp_path / "moved")
        out.write_bytes(b"")
        with pytest.raises(OutputError, match="was removed or moved while this command wrote into it"):
            lock.check()
        out.unlink()
        out.symlink_to(out)
        with pytest.raises(OutputError, match=r"cannot write .*: the links lead in a circle; remove the link"):
            lock.check()
    with nobody() as folder, locked(folder / "a" / "b" / ".lock") as lock:
        (folder / "a").chmod(0)
        with pytest.raises(OutputError, match=r"cannot write .*: permission denied; choose another"):
            lock.check()
        (folder / "a").chmod(0o755)


def test_a_file_system_whose_files_have_no_lasting_numbers_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with pytest.raises(OutputError, match=r"each time it is looked at it is another file.*; choose another place"):
        locked(tmp_path / "out" / ".lock").__enter__()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    has_none = rf"the file system of .* has no locks \({os.strerror(code)}\): nothing keeps a second command"
    with ExitStack() as stack:
        with pytest.warns(HolotypeWarning, match=has_none):
            assert not stack.enter_context(locked(tmp_path / ".lock", "one")).safe
        with pytest.warns(HolotypeWarning, match=r"until this one is done \(it is one, process"):
            stack.enter_context(locked(tmp_path / ".lock"))
    with changing(tmp_path), reading(tmp_path):
        pass


def test_an_error_of_the_disk_is_none_of_the_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OutputError, match=r"cannot write .*: Input/output error; check the disk"),
        locked(tmp_path / "a"),
    ):
        pass


def test_who_changes_a_folder_waits_for_readers_and_readers_for_it(tmp_path: Path) -> None:
    steps: list[str] = []

    def change() -> None:
        with changing(tmp_path):
            steps.append("changed")

    with reading(tmp_path), reading(tmp_path):
        other = threading.Thread(target=change)
        other.start()
        time.sleep(0.1)
        steps.append("read")
    other.join()
    assert steps == ["read", "changed"]


def test_a_reader_that_was_stopped_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holotype.locks._PATIENCE", 0.2)
    monkeypatch.setattr("holotype.locks._SILENT", 0.1)
    with ExitStack() as stack:
        stack.enter_context(reading(tmp_path))
        with pytest.warns(HolotypeWarning) as said:
            stack.enter_context(changing(tmp_path))
    waiting, going_on = (str(one.message) for one in said)
    assert waiting == f"another process reads the results in {tmp_path}: waiting for it"
    assert going_on.endswith(
        ", for 0.2 seconds by now: they are replaced all the same, so what it reads may be of both"
    )


def test_what_is_being_changed_all_the_time_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holotype.locks._PATIENCE", 0.05)
    said = "another process replaces the results in .*, for 0.05 seconds by now; end it, or wait until it is done"
    with changing(tmp_path), pytest.raises(OutputError, match=said), reading(tmp_path):
        pass
