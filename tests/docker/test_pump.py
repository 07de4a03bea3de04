"""The log pump's connections: used again where that is safe, and none is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import pytest

from onready.backends.docker.pump import LogPump, StreamEnd

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
WHOLE = StreamEnd(whole=True, status=200)


class Daemon:
    """Answers `yes` to whatever it is asked, `answers` times for each connection, then ends it."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.open = 0
        self.ended = 0
        self.may_answer: anyio.Event | None = None

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        async with stream:
            with suppress(anyio.EndOfStream):
                for _ in range(self.answers):
                    await self.answer(stream)
                # As Go's servers may: from here on requests are taken, and not answered.
                await stream.send_eof()
                self.ended += 1
                await stream.receive()
        self.open -= 1

    async def answer(self, stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        if self.may_answer is not None:
            await self.may_answer.wait()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")


@asynccontextmanager
async def served(folder: Path, answers: int) -> AsyncGenerator[tuple[Daemon, LogPump]]:
    daemon = Daemon(answers)
    path = folder / "daemon.sock"
    async with (
        await anyio.create_unix_listener(path) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, daemon.serve)
        pump = LogPump(str(path))
        yield daemon, pump
        await pump.close()
        with anyio.fail_after(10):
            while daemon.open:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def ask(pump: LogPump) -> tuple[StreamEnd, bytes]:
    got: list[bytes] = []
    end = await pump.read("/logs", got.append, 10.0, 10.0)
    return end, b"".join(got)


async def test_one_connection_has_many_requests(tmp_path: Path) -> None:
    async with served(tmp_path, 1_000) as (daemon, pump):
        for _ in range(5):
            assert await ask(pump) == (WHOLE, b"yes")
        assert daemon.connections == 1


async def test_one_that_the_daemon_has_ended_is_not_used_again(tmp_path: Path) -> None:
    async with served(tmp_path, 1) as (daemon, pump):
        for number in range(1, 4):
            assert await ask(pump) == (WHOLE, b"yes")
            with anyio.fail_after(10):
                while daemon.ended < number:
                    await anyio.sleep(0.01)
            assert daemon.connections == number


async def test_of_many_connections_a_few_are_kept(tmp_path: Path) -> None:
    async with served(tmp_path, 1_000) as (daemon, pump):
        daemon.may_answer = anyio.Event()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(6):
                    tasks.start_soon(ask, pump)
                while daemon.connections < 6:
                    await anyio.sleep(0.01)
                daemon.may_answer.set()
            while daemon.open > 4:
                await anyio.sleep(0.01)
        assert daemon.open == 4
        assert await ask(pump) == (WHOLE, b"yes")
        assert daemon.connections == 6
