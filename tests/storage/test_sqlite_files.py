"""The file of a SQLite run log: who may read it, which files are taken, which are refused."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from onready.engine.errors import RunLeaseHeld, StoreError
from onready.engine.spi import RunFilter
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps, succeeded
from onready.storage import private
from onready.storage.sqlite import SqliteRunLog, schema
from onready.storage.sqlite.writer import Writer

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def make(path: Path, script: str) -> None:
    """A database file by SQL."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


async def refused(path: Path, words: str) -> None:
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=words):
        async with SqliteRunLog(path, busy_timeout=0.2):
            pass
    assert (path.read_bytes() if path.is_file() else b"") == before


# --- permissions ---


@pytest.mark.anyio
async def test_only_the_owner_may_read(tmp_path: Path, umask: int) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o755)
    path = loose / "a" / "b" / "runs.db"
    async with SqliteRunLog(path) as log:
        await log.append("r1", 1, [started()])
        assert await read_all(log, "r1") == [started()]
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["runs.db", "runs.db-shm", "runs.db-wal"]
        assert [mode(file) for file in files] == [0o600] * 3
    assert [mode(folder) for folder in (path.parent, path.parent.parent)] == [0o700] * 2
    assert mode(loose) == 0o755


@pytest.mark.anyio
async def test_a_relative_path_is_where_it_was_when_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    async with SqliteRunLog("runs.db") as log:
        monkeypatch.chdir(tmp_path / "elsewhere")
        await log.append("r1", 1, [started()])
        assert log.path == tmp_path / "runs.db"
    assert (tmp_path / "runs.db").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["runs?mode=memory", "a%20b", "a#b", ":memory:", "it's", "\u00e9"])
async def test_hostile_names_of_files_are_just_names(tmp_path: Path, name: str) -> None:
    async with SqliteRunLog(tmp_path / name) as log:
        await log.append("r1", 1, [started()])
    async with SqliteRunLog(tmp_path / name) as log:
        assert await read_all(log, "r1") == [started()]
    assert [path.name for path in tmp_path.iterdir()] == [name]


# --- what is refused, and left as it was ---


@pytest.mark.anyio
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 100)
    await refused(path, "no SQLite database")


@pytest.mark.anyio
async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    make(path, "CREATE TABLE customers (name TEXT)")
    await refused(path, "another program")


@pytest.mark.anyio
async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteRunLog(path) as log:
        await log.append("r1", 1, [started()])
    make(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    await refused(path, "upgrade onready")


@pytest.mark.anyio
async def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.db").mkdir()
    await refused(tmp_path / "runs.db", "not a file")


@pytest.mark.anyio
async def test_a_file_in_the_place_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    await refused(tmp_path / "taken" / "runs.db", "File exists|Not a directory")


@pytest.mark.anyio
async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/export {tmp_path}/net nfs4 rw 0 0\n")
    monkeypatch.setattr(private, "MOUNTS", table)
    await refused(tmp_path / "net" / "deep" / "runs.db", "network file system .nfs4..*files:PATH")
    async with SqliteRunLog(tmp_path / "network" / "runs.db") as log:
        await log.append("r1", 1, [started()])


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/mnt/a b/c", "nfs"),
        ("/mnt/a", "ext4"),
        ("/mnt/tab\there", "cifs"),
        ("/data", "xfs"),
        ("/data/share/x", "9p"),
        ("/database", "ext4"),
    ],
)
def test_finds_the_file_system_of_a_place(place: str, kind: str) -> None:
    table = (
        "/dev/a / ext4 rw 0 0\ns:/x /mnt/a\\040b nfs rw 0 0\ns:/y /mnt/tab\\011here cifs rw 0 0\n"
        "/dev/b /data ext3 rw 0 0\n/dev/c /data xfs rw 0 0\nshort\nh /data/share 9p rw 0 0\n"
    )
    assert private.file_system(Path(place), table) == kind


def test_without_a_mount_table_no_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "MOUNTS", tmp_path / "absent")
    private.refuse_network(tmp_path)


# --- schema and migrations ---


@pytest.mark.anyio
async def test_a_file_of_the_first_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    make(path, (GOLDEN / "schema-1.sql").read_text(encoding="utf-8"))
    async with SqliteRunLog(path) as log:
        old = [started("brisk-heron-41", at=100.0), *steps(2, 4), succeeded(5, 200.0)]
        assert await read_all(log, "old-1") == old
        records = await log.runs(RunFilter())
        assert [(r.run, r.status) for r in records] == [
            ("old-2", "interrupted"),
            ("old-1", "succeeded"),
        ]
        lease = await log.lease("old-2", "me", 60.0)
        assert lease.epoch == 3
        await log.append("old-2", lease.epoch, steps(4, 5))
        assert len(await read_all(log, "old-2")) == 5
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_new_file_has_the_schema_of_a_migrated_one(tmp_path: Path) -> None:
    made: list[list[object]] = []
    for name, script in (("new.db", ""), ("old.db", (GOLDEN / "schema-1.sql").read_text())):
        make(tmp_path / name, script)
        connection = sqlite3.connect(tmp_path / name, isolation_level=None)
        schema.migrate(connection, tmp_path / name)
        rows = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name")
        made.append([" ".join(str(cell) for cell in row).split() for row in rows])
        connection.close()
    assert made[0] == made[1]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    make(path, (GOLDEN / "schema-1.sql").read_text(encoding="utf-8"))
    before = path.read_bytes()
    connection = sqlite3.connect(path, isolation_level=None)
    broken = (*schema.STEPS, ("DROP TABLE events", "SELECT no_such_function()"))
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, path, broken)
    connection.close()
    assert path.read_bytes() == before


def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    """No test can cut the power; what SQLite promises for these settings is its own affair."""
    connection = Writer(tmp_path / "runs.db", 1.0).connect()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


# --- opening and closing ---


@pytest.mark.anyio
async def test_what_is_not_open_says_so(tmp_path: Path) -> None:
    log = SqliteRunLog(tmp_path / "runs.db")
    with pytest.raises(StoreError, match="not open"):
        await log.append("r1", 1, [started()])
    async with log:
        await log.append("r1", 1, [started()])
    with pytest.raises(StoreError, match="closed"):
        await log.append("r1", 1, steps(2, 2))
    with pytest.raises(StoreError, match="closed"):
        await log.runs(RunFilter())


@pytest.mark.anyio
async def test_closing_commits_what_was_asked_before(tmp_path: Path) -> None:
    async with SqliteRunLog(tmp_path / "runs.db") as log, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(log.append, f"r{number}", 1, [started(), *steps(2, 500)])
        await anyio.sleep(0)
        await log.__aexit__(None, None, None)
    async with SqliteRunLog(tmp_path / "runs.db") as log:
        assert len(await log.runs(RunFilter())) == 50


@pytest.mark.anyio
async def test_closing_under_cancellation_leaves_nothing(tmp_path: Path) -> None:
    """The leak check of every test looks for the threads."""
    with anyio.CancelScope() as scope:
        async with SqliteRunLog(tmp_path / "runs.db") as log:
            await log.append("r1", 1, [started()])
            scope.cancel()
            await log.append("r1", 1, steps(2, 3))
    async with SqliteRunLog(tmp_path / "runs.db") as log:
        assert [event.seq for event in await read_all(log, "r1")][:1] == [1]


@pytest.mark.anyio
async def test_opening_under_cancellation_leaves_nothing(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with SqliteRunLog(tmp_path / "runs.db"):
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_two_logs_on_one_file_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteRunLog(path) as one, SqliteRunLog(path) as two:
        lease = await one.lease("r1", "one", 60.0)
        with pytest.raises(RunLeaseHeld):
            await two.lease("r1", "two", 60.0)
        await one.append("r1", lease.epoch, [started()])
        assert await read_all(two, "r1") == [started()]
        with pytest.raises(StoreError):
            await two.append("r1", lease.epoch, [started()])
        await two.append("r1", lease.epoch, steps(2, 2))
        assert len(await read_all(one, "r1")) == 2
