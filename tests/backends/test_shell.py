"""Programs as nodes: values in, text or files out, failures with their cause, nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import psutil
import pytest

from onready.backends.local import child
from onready.backends.local.subprocess import SubprocessBackend, SubprocessConfig
from onready.engine.spi import Lost, Shell, Succeeded
from onready.engine.testing.fakes import RecordingReporter
from onready.engine.values import File, ValueType, settle
from tests.backends.kit import PATIENCE, Bench, failure, is_alive, memory, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened() -> AsyncGenerator[SubprocessBackend]:
    with anyio.fail_after(PATIENCE):
        async with SubprocessConfig(limit=8).open() as backend:
            yield backend


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return memory(tmp_path)


def sh(script: str, *arguments: str, **others: object) -> Shell:
    return Shell(("sh", "-c", script, "sh", *arguments), **others)  # type: ignore[arg-type] # its own fields


async def run(bench: Bench, shell: Shell, **inputs: object) -> object:
    stored = {name: ValueType.any().encode(value) for name, value in inputs.items()}
    async with opened() as backend:
        attempt = bench.attempt(shell, stored)
        return await bench.value(await backend.execute(attempt, RecordingReporter()))


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("printf ''", ""),
        ("echo", ""),
        ("echo; echo", "\n"),
        ("printf 'a\\nb'", "a\nb"),
        ("printf 'ä €\\n'", "ä €"),
    ],
)
async def test_the_value_is_standard_output(bench: Bench, script: str, text: str) -> None:
    assert await run(bench, sh(script)) == text


async def test_inputs_are_arguments_and_variables(bench: Bench) -> None:
    shell = Shell(
        ("sh", "-c", 'echo "$1|$2|$3|$ONREADY_INPUT_TEXT|$MODE"', "sh", "{text}", "n={n}", "{{n}}"),
        (("MODE", "fast"),),
        ("text", "n"),
    )
    assert await run(bench, shell, text="{n} $(id)", n=3) == "{n} $(id)|n=3|{n}|{n} $(id)|fast"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, ""),
        (0.1, "0.1"),
        ([1, "ä"], '[1, "ä"]'),
        ({"a": None}, '{"a": null}'),
    ],
)
async def test_values_as_texts(bench: Bench, value: object, text: str) -> None:
    assert await run(bench, Shell(("printf", "%s", "{v}"), (), ("v",)), v=value) == text


async def test_a_value_that_is_no_text_is_a_failure(bench: Bench) -> None:
    async with opened() as backend:
        for value in ("a\0b", b"bytes"):
            attempt = bench.attempt(
                Shell(("echo", "{v}"), (), ("v",)), {"v": ValueType.any().encode(value)}
            )
            outcome = await backend.execute(attempt, RecordingReporter())
            assert "input 'v'" in failure(outcome).message


async def test_files_in_and_out(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "numbers.txt"
    source.write_text("3\n1\n2\n")
    stored = await settle(ValueType.any().encode(File(source)), bench.catalog)
    shell = Shell(
        ("sh", "-c", 'sort "$1" > sorted.txt; mkdir d; cp sorted.txt d/copy', "sh", "{f}"),
        (),
        ("f",),
        ("sorted.txt", "d/copy"),
    )
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(shell, {"f": stored}), RecordingReporter())
        files = await bench.value(outcome)
    assert isinstance(files, dict)
    assert list(files) == ["sorted.txt", "d/copy"]
    assert [file.path.read_text() for file in files.values()] == ["1\n2\n3\n"] * 2
    assert files["sorted.txt"].path.name == "sorted.txt"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", "left no 'out.txt'"),
        ("ln -s /etc/passwd out.txt", "leads out"),
        ("mkdir out.txt", "is no file"),
    ],
)
async def test_an_output_that_is_not_there(bench: Bench, script: str, words: str) -> None:
    async with opened() as backend:
        attempt = bench.attempt(sh(script, outputs=("out.txt",)))
        assert words in failure(await backend.execute(attempt, RecordingReporter())).message


async def test_the_folder_is_private_empty_and_goes_away(bench: Bench) -> None:
    async with opened() as backend:
        folders = set[str]()
        for _ in range(12):
            report = RecordingReporter()
            script = "pwd; ls -A | wc -l; stat -c %a . ..; umask 0; mkdir -m 777 junk; chmod 755 ."
            attempt = bench.attempt(sh(script))
            value = await bench.value(await backend.execute(attempt, report))
            folder, count, *modes = str(value).split("\n")
            folders.add(folder)
            assert (count, modes) == ("0", ["700", "700"])
            assert Path(folder).parent == attempt.folder.parent
    assert len(folders) == 12
    assert not await anyio.Path(bench.folder / "work").exists()


async def test_an_untouched_folder_serves_again(bench: Bench) -> None:
    async with opened() as backend:
        folders: list[object] = []
        for _ in range(20):
            await anyio.sleep(0.02)
            outcome = await backend.execute(bench.attempt(Shell(("pwd",))), RecordingReporter())
            folders.append(await bench.value(outcome))
        assert len(set(folders)) < 20


@pytest.mark.parametrize(
    ("shell", "kind", "words", "code"),
    [
        (sh("echo why >&2; exit 3"), "exit", "sh exited with status 3", 3),
        (sh("kill -SEGV $$"), "exit", "sh was killed by SIGSEGV", 139),
        (sh("kill -KILL $$"), "exit", "want of memory", 137),
        (Shell(("no-such-program",)), "config", "not on PATH", None),
        (Shell(("./no-such-program",)), "config", "is not there", None),
        (Shell(("/etc/passwd",)), "config", "may not be run", None),
        (Shell(("echo", "x" * 3_000_000)), "config", "too long", None),
        (sh("printf '\\377'"), "error", "not UTF-8", None),
        (sh("true", environment=(("A", "x\0y"),)), "config", "NUL", None),
        (Shell(("echo", "x\0y")), "config", "null byte", None),
    ],
)
async def test_failures_name_their_cause(
    bench: Bench, shell: Shell, kind: str, words: str, code: int | None
) -> None:
    async with opened() as backend:
        report = RecordingReporter()
        found = failure(await backend.execute(bench.attempt(shell), report))
        assert (found.kind, found.exit_code) == (kind, code)
        assert words in found.message
        if code == 3:
            assert found.log == ("why",)


async def test_a_path_of_its_own_finds_the_program(bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    shell = Shell(("greet",), (("PATH", f"{program.parent}:/usr/bin:/bin"),))
    assert await run(bench, shell) == "hello"


async def test_a_program_that_moved_is_looked_for_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, [*places, os.environ["PATH"]])))
    async with opened() as backend:
        for index, place in enumerate(places):
            place.mkdir()
            (place / "tool").write_text(f"#!/bin/sh\necho {index}\n")
            (place / "tool").chmod(0o755)
            outcome = await backend.execute(bench.attempt(Shell(("tool",))), RecordingReporter())
            if not isinstance(outcome, Succeeded):  # noticed now, found the next time
                outcome = await backend.execute(
                    bench.attempt(Shell(("tool",))), RecordingReporter()
                )
            assert await bench.value(outcome) == str(index)
            (place / "tool").unlink()


async def test_long_text_is_spilled_and_comes_back_whole(bench: Bench) -> None:
    script = "import sys\nfor n in range(40000): sys.stdout.write(f'ä {n} \\u2028 \"q\" \\\\\\n')"
    async with opened() as backend:
        attempt = bench.attempt(Shell((sys.executable, "-X", "utf8", "-c", script)))
        outcome = await backend.execute(attempt, RecordingReporter())
        expected = "".join(f'ä {n} \u2028 "q" \\\n' for n in range(40000)).removesuffix("\n")
        assert await bench.value(outcome) == expected
        left = [path async for path in anyio.Path(bench.folder / "work").glob("*.stdout")]
        assert not left


async def test_long_output_that_is_no_text_is_a_failure(bench: Bench) -> None:
    async with opened() as backend:
        attempt = bench.attempt(Shell(("head", "-c", "3000000", "/dev/urandom")))
        report = RecordingReporter()
        assert "not UTF-8" in failure(await backend.execute(attempt, report)).message
        assert len(report.output("stdout")) == 3_000_000


async def test_children_do_not_inherit_what_is_ours(bench: Bench) -> None:
    listing = "ls /proc/self/fd | wc -l"
    value = str(await run(bench, sh(f"{listing}; cat; grep SigIgn /proc/self/status")))
    count, ignored = value.split("\n")
    # What the tests themselves were started with may be open in every child.
    plain = partial(subprocess.check_output, ["sh", "-c", listing], close_fds=False)
    assert int(count) == int(await anyio.to_thread.run_sync(plain))
    # Python ignores SIGPIPE (13) and SIGXFSZ (25); programs must not.
    assert int(ignored.split()[1], 16) & (1 << 12 | 1 << 24) == 0


async def test_cancel_lets_it_clean_up_then_kills_the_session(bench: Bench, tmp_path: Path) -> None:
    polite, stubborn = tmp_path / "polite", tmp_path / "stubborn"
    script = (
        '(trap "" TERM; echo $$ > "$2"; exec sleep 600) &'
        " trap 'echo cleaned > \"$1\"; exit 0' TERM; while true; do sleep 0.01; done"
    )
    async with opened() as backend:
        attempt = bench.attempt(sh(script, str(polite), str(stubborn)), grace=0.5)
        report = RecordingReporter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.execute, attempt, report)
            await until(lambda: stubborn.exists() and stubborn.read_text())
            tasks.cancel_scope.cancel()
        assert await anyio.Path(polite).read_text() == "cleaned\n"
        leader = int(report.handles[0].removeprefix("pid "))
        members = [p for p in psutil.pids() if _session(p) == leader and is_alive(p)]
        assert not members
        assert not report.warnings


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


async def test_an_end_that_the_system_does_not_tell_is_lost(bench: Bench) -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with opened() as backend:
            outcome = await backend.execute(bench.attempt(sh("exit 3")), RecordingReporter())
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert isinstance(outcome, Lost)
    assert outcome.failure.kind == "lost"


async def test_what_cannot_be_killed_is_told_and_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No process survives KILL where a test can make it: so there is no time to see it end.
    monkeypatch.setattr(child, "KILL_PATIENCE", 0.0)
    report = RecordingReporter()
    async with opened() as backend:
        attempt = bench.attempt(sh('trap "" TERM; sleep 600'), grace=0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.execute, attempt, report)
            await until(lambda: report.handles)
            tasks.cancel_scope.cancel()
    assert [code for code, _ in report.warnings] == ["CancelTimeout"]
    pid = int(report.handles[0].removeprefix("pid "))
    with contextlib.suppress(ChildProcessError):
        await anyio.to_thread.run_sync(os.waitpid, pid, 0)


async def test_what_a_program_leaves_running_is_killed(bench: Bench) -> None:
    value = await run(bench, sh("sleep 600 & echo $!"))
    await until(lambda: not is_alive(int(str(value))))


async def test_a_closed_output_is_no_end(bench: Bench) -> None:
    assert await run(bench, sh("echo before; exec >&- 2>&-; sleep 0.1")) == "before"


async def test_a_thousand_short_programs_leave_nothing(bench: Bench) -> None:
    async with opened() as backend:
        await backend.execute(bench.attempt(Shell(("true",))), RecordingReporter())
        me = psutil.Process()
        before = me.num_fds(), me.num_threads()
        family = set(me.children())
        todo = iter(range(1000))

        async def work() -> None:
            for number in todo:
                script = f"echo {number}" if number % 10 == 0 else "exit 0"
                outcome = await backend.execute(bench.attempt(sh(script)), RecordingReporter())
                assert isinstance(outcome, Succeeded)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(work)
        await until(lambda: me.num_fds() <= before[0] + 16)  # folders that wait for more work
        assert me.num_threads() <= before[1] + 1
        assert set(me.children()) <= family


async def test_many_talk_at_once_and_each_is_complete(bench: Bench) -> None:
    size = 2_000_000
    reports = [RecordingReporter() for _ in range(20)]
    async with opened() as backend, anyio.create_task_group() as tasks:
        for number, report in enumerate(reports):
            script = f"head -c {size} /dev/zero | tr '\\0' {chr(97 + number)}"
            shell = sh(script, outputs=())
            tasks.start_soon(backend.execute, bench.attempt(shell), report)
    for number, report in enumerate(reports):
        assert report.output("stdout") == chr(97 + number).encode() * size
