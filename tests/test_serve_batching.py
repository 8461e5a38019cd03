"""The queue of the service: bounded, fair, and emptied before it ends; whatever a batch meets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from classifiers import MODEL
from serving import PREDICT, Client, large, noise, served

from holotype import Classifier, Encoder
from holotype.errors import EncoderError, HolotypeError
from holotype.pool.images import Pixels, is_ordinary
from holotype.serve import batching as batching_
from holotype.serve.batching import Batching, Failed, QueueFull, TooLate
from holotype.serve.models import ServedModels


@pytest.fixture
def models(saved: Path) -> ServedModels:
    return ServedModels([str(saved)])


def failing(encoder: Encoder, odd: bytes, fault: Exception) -> Callable[[bytes], Pixels]:
    """Return what decodes as `encoder` does, but for one image."""
    prepare = encoder.prepare

    def prepared(source: bytes) -> Pixels:
        if source is odd:
            raise fault
        return prepare(source)

    return prepared


@contextmanager
def held(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Have the encoder wait until what is yielded is called."""
    gate, encode = Event(), models.first.encoder.encode

    def waiting(pixels: Pixels, *, busy: bool = False) -> object:
        gate.wait(30)
        return encode(pixels, busy=busy)

    monkeypatch.setattr(models.first.encoder, "encode", waiting)
    yield gate.set
    gate.set()


def test_batches_have_at_most_four_images_and_all_come_back(models: ServedModels, fitted: Classifier) -> None:
    images = [noise(seed) for seed in range(40)]
    sizes: list[int] = []

    async def ask() -> list[str]:
        batching = Batching(64, lambda count, _: sizes.append(count))
        try:
            parts = await asyncio.gather(
                *(batching.answer(models.first, images[at : at + 5], 30) for at in range(0, 40, 5))
            )
            assert batching.accepted == 0
        finally:
            batching.stop()
        return [one.prediction.labels[0] for part in parts for one in part if one.prediction]

    assert asyncio.run(ask()) == [fitted.predict(one) for one in images]
    assert sum(sizes) == 40
    assert max(sizes) <= 4


def test_a_full_queue_is_told_at_once_and_what_was_accepted_is_answered(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        batching = Batching(8)
        with held(models, monkeypatch) as release:
            accepted = [asyncio.create_task(batching.answer(models.first, [noise(k), noise(k)], 30)) for k in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match="8 images wait, and there is room for 8: try again in 1 s"):
                await batching.answer(models.first, [noise(9)], 30)
            release()
            assert all(one.prediction for part in await asyncio.gather(*accepted) for one in part)
        assert len(await batching.answer(models.first, [noise(9)] * 8, 30)) == 8
        batching.stop()

    asyncio.run(ask())


def test_who_waits_too_long_is_told_and_leaves_no_trace(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        batching = Batching(8)
        with held(models, monkeypatch) as release:
            with pytest.raises(TooLate, match="not answered within"):
                await batching.answer(models.first, [noise(1)] * 8, 0.2)
            release()
        while batching.accepted:
            await asyncio.sleep(0.01)
        assert (await batching.answer(models.first, [noise(2)], 30))[0].prediction
        batching.stop()

    asyncio.run(ask())


def test_a_fault_of_a_batch_is_its_own(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pixels: Pixels, *, busy: bool = False) -> object:
        raise EncoderError("the network fell over")

    def odd(pixels: Pixels, *, busy: bool = False) -> object:
        return np.full((len(pixels), models.first.encoder.dim), np.nan, np.float32)

    async def ask() -> None:
        batching = Batching(8)
        with monkeypatch.context() as patch:
            patch.setattr(models.first.encoder, "encode", fail)
            with pytest.raises(Failed, match="the network fell over"):
                await batching.answer(models.first, [noise(1)], 30)
            patch.setattr(models.first.encoder, "encode", odd)
            assert "no finite vector" in (await batching.answer(models.first, [noise(1)], 30))[0].error
        assert (await batching.answer(models.first, [noise(1)], 30))[0].prediction
        assert batching.accepted == 0
        batching.stop()

    asyncio.run(ask())


def test_what_keeps_a_large_image_from_being_decoded_is_told_and_others_go_on(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No process can be started for it, for a while: no place is lost, and it ends as it should."""
    content, encoder = large(tmp_path / "large.jpg"), models.first.encoder
    nothing_starts = failing(encoder, content, HolotypeError("a process to decode a large image cannot be started"))

    async def ask() -> None:
        batching = Batching(4)
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "prepare", nothing_starts)
            for _ in range(6):
                with pytest.raises(Failed, match="cannot be started"):
                    await batching.answer(models.first, [content, noise(1)], 30)
            while batching.accepted:
                await asyncio.sleep(0.01)
        assert all(one.prediction for one in await batching.answer(models.first, [content] * 4, 60))
        batching.stop()
        assert batching.accepted == 0

    asyncio.run(ask())


def test_what_fails_at_the_head_of_an_image_is_its_own(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = noise(9)

    def fails(source: bytes, *, fit: int) -> bool:
        if source is odd:
            raise MemoryError
        return is_ordinary(source, fit=fit)

    async def ask() -> None:
        monkeypatch.setattr(batching_, "is_ordinary", fails)
        batching = Batching(8)
        for _ in range(4):
            with pytest.raises(Failed):
                await batching.answer(models.first, [odd, noise(1)], 30)
        assert all(one.prediction for one in await batching.answer(models.first, [noise(2)], 30))
        assert batching.alive
        batching.stop()
        assert batching.accepted == 0

    asyncio.run(ask())


def test_a_fault_beside_a_large_image_is_counted_once(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, encode = large(tmp_path / "large.jpg"), models.first.encoder.encode
    faults = iter([EncoderError("the network fell over")])

    def once(pixels: Pixels, *, busy: bool = False) -> object:
        for fault in faults:
            raise fault
        return encode(pixels, busy=busy)

    async def ask() -> None:
        batching = Batching(8)
        monkeypatch.setattr(models.first.encoder, "encode", once)
        with pytest.raises(Failed, match="fell over"):
            await batching.answer(models.first, [content, noise(1), content, noise(2)], 60)
        until = time.monotonic() + 30
        while batching.accepted and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert batching.accepted == 0
        await asyncio.wait_for(asyncio.to_thread(batching.stop), 30)

    asyncio.run(ask())


def test_a_fault_of_one_image_is_not_that_of_the_others(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, encoder = noise(7), models.first.encoder
    fails = failing(encoder, odd, RuntimeError("nobody thought of that"))

    async def ask() -> None:
        batching = Batching(8)
        monkeypatch.setattr(encoder, "prepare", fails)
        wrong = asyncio.create_task(batching.answer(models.first, [odd], 30))
        right = asyncio.create_task(batching.answer(models.first, [noise(1), noise(2), noise(3)], 30))
        assert all(one.prediction for one in await right)
        with pytest.raises(Failed, match="the log of the server says more"):
            await wrong
        batching.stop()

    asyncio.run(ask())


def test_small_images_do_not_wait_behind_large_ones(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, gate, encoder = large(tmp_path / "large.jpg"), Event(), models.first.encoder
    prepare = encoder.prepare

    def slow(source: bytes) -> Pixels:
        if source is content:
            gate.wait(30)
        return prepare(source)

    async def ask() -> None:
        batching = Batching(64)
        monkeypatch.setattr(encoder, "prepare", slow)
        waiting = asyncio.create_task(batching.answer(models.first, [content] * 10, 60))
        await asyncio.sleep(0)
        assert (await batching.answer(models.first, [noise(1)], 30))[0].prediction
        assert not waiting.done()
        gate.set()
        assert all(one.prediction for one in await waiting)
        batching.stop()

    asyncio.run(ask())


def test_what_was_accepted_is_answered_before_it_ends(models: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        batching = Batching(64)
        with held(models, monkeypatch) as release:
            waiting = asyncio.create_task(batching.answer(models.first, [noise(1)] * 20, 30))
            await asyncio.sleep(0)
            stopping = asyncio.create_task(asyncio.to_thread(batching.stop))
            while True:  # until it has begun
                try:
                    await batching.answer(models.first, [], 30)
                    await asyncio.sleep(0)
                except QueueFull as full:
                    assert "being stopped" in str(full)  # noqa: PT017 - it may take several tries
                    break
            release()
            assert len(await waiting) == 20
            await stopping

    asyncio.run(ask())


def test_overload_is_answered_and_nothing_accepted_is_lost(saved: Path) -> None:
    with served(str(saved), queue=6) as client:

        def ask(seed: int) -> tuple[int, str]:
            reply = client.post(PREDICT, noise(seed, 400))
            return reply.status, reply.headers.get("retry-after", "")

        with ThreadPoolExecutor(32) as clients:
            found = list(clients.map(ask, range(200)))
        assert {status for status, _ in found} == {200, 503}
        assert all(after.isdecimal() and int(after) >= 1 for status, after in found if status == 503)
        assert client.post(PREDICT, noise(1)).status == 200


@contextmanager
def started(saved: Path, *more: str, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start `holotype serve` as a process; yield it, and its port, and kill it behind that."""
    words = [str(Path(sys.executable).with_name("holotype")), "serve", str(saved), "--port", str(port), *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert f"serving {MODEL} at http://127.0.0.1:" in line
            yield process, int(line.partition("127.0.0.1:")[2].partition(" ")[0])
        finally:
            process.kill()


def ask_at(port: int, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", PREDICT, body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_came_is_answered(saved: Path, number: signal.Signals) -> None:
    with started(saved) as (process, port):
        with ThreadPoolExecutor(20) as clients:
            waiting = [clients.submit(ask_at, port, noise(seed, 900)) for seed in range(20)]
            while not any(one.done() for one in waiting):
                time.sleep(0.005)
            process.send_signal(number)
            statuses = []
            for one in waiting:
                try:
                    statuses.append(one.result())
                except (OSError, HTTPException):  # it came too late: no connection, and nothing was accepted
                    statuses.append(0)
        assert {*statuses} <= {200, 503, 0}
        assert 200 in statuses
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in said


def test_it_starts_again_after_a_kill_at_the_same_port(saved: Path) -> None:
    with started(saved) as (process, port), ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(ask_at, port, noise(seed, 900)) for seed in range(4)]
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        for one in waiting:
            with suppress(OSError, HTTPException):
                assert one.result() == 200
    with started(saved, port=port) as (_, again):
        assert again == port
        assert ask_at(port, noise(1)) == 200


def test_what_is_wrong_is_said_before_it_serves(saved: Path, tmp_path: Path) -> None:
    def fails(*words: object) -> str:
        command = [str(Path(sys.executable).with_name("holotype")), "serve", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        return str(done.stderr)

    assert "expected" in fails(tmp_path / "nothing")
    assert "--token" in fails(saved, "--host", "0.0.0.0")
    assert "two models would be called colours" in fails(saved, saved)
    assert "give it one, as in pets=" in fails(f"a b={saved}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in fails(saved, "--port", taken.getsockname()[1])


def test_a_client_that_leaves_takes_nothing_with_it(saved: Path) -> None:
    with served(str(saved)) as client:
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", client.port))
            body = noise(1, 300)
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.close()
        assert client.post(PREDICT, noise(2)).status == 200
        until = time.monotonic() + 20
        while client.service.batching.accepted and time.monotonic() < until:
            time.sleep(0.01)
        assert client.service.batching.accepted == 0


def test_its_log_has_no_image_and_no_name_of_one(saved: Path) -> None:
    body = (
        b'--e\r\ncontent-disposition: form-data; name="f"; filename="my-secret.png"\r\n\r\n'
        + noise(1)
        + b"\r\n--e--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=e", "authorization": "Bearer hush-hush"}
    with started(saved, "--token", "hush-hush") as (process, port):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", PREDICT, body, headers)
        assert connection.getresponse().status == 200
        connection.close()
        process.terminate()
        said = process.communicate(timeout=60)
    assert '"route": "/models/{name}/predict"' in said[1]
    assert "my-secret" not in "".join(said)
    assert "hush-hush" not in "".join(said)


def test_the_client_of_the_tests_is_refused_without_a_token(saved: Path) -> None:
    with served(str(saved), token="a") as client:
        assert Client(client.port, client.service, "b").get("/models").status == 401
