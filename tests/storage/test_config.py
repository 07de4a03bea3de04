"""The plug-in classes of the stores, by way of the registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from onready.engine.errors import OnreadyError
from onready.engine.registry import CATALOGS, RUN_LOGS, CatalogConfig, RunLogConfig, create
from onready.engine.spi import RunFilter
from onready.engine.testing.samples import started
from onready.storage.directory import DirectoryCatalog, DirectoryConfig
from onready.storage.memory import MemoryCatalog, MemoryRunLog
from onready.storage.sqlite import SqliteConfig, SqliteRunLog


def run_log(spec: str | Mapping[str, object]) -> RunLogConfig:
    return create(RUN_LOGS, spec)


def stock(spec: str | Mapping[str, object]) -> CatalogConfig:
    return create(CATALOGS, spec)


@pytest.mark.anyio
async def test_run_logs_by_address_and_by_table(tmp_path: Path) -> None:
    config = await run_sync(run_log, f"sqlite:{tmp_path}/a/runs.db")
    async with config.open() as log:
        assert isinstance(log, SqliteRunLog)
        assert log.durable
        await log.append("r1", 1, [started()])
    table = {"type": "sqlite", "path": f"{tmp_path}/a/runs.db", "busy_timeout": 5}
    config = await run_sync(run_log, table)
    async with config.open() as log:
        assert [record.run for record in await log.runs(RunFilter())] == ["r1"]
    config = await run_sync(run_log, "memory:")
    async with config.open() as log:
        assert isinstance(log, MemoryRunLog)
        assert not log.durable


@pytest.mark.anyio
async def test_catalogs_by_address_and_by_table(tmp_path: Path) -> None:
    config = await run_sync(stock, f"file:{tmp_path}/catalog")
    async with config.open() as catalog:
        assert isinstance(catalog, DirectoryCatalog)
        digest = await catalog.put(b"blob")
        address = catalog.access("host").url
    config = await run_sync(stock, address)
    async with config.open() as catalog:
        assert await catalog.get(digest) == b"blob"
    config = await run_sync(stock, {"type": "file", "path": f"{tmp_path}/catalog"})
    async with config.open() as catalog:
        assert await catalog.get(digest) == b"blob"
    config = await run_sync(stock, "memory:")
    async with config.open() as catalog:
        assert isinstance(catalog, MemoryCatalog)


@pytest.mark.anyio
async def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = await run_sync(run_log, "sqlite:~/runs.db")
    async with config.open() as log:
        await log.append("r1", 1, [started()])
    other = await run_sync(stock, "file:~/catalog")
    async with other.open() as catalog:
        await catalog.put(b"blob")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog", "runs.db"]


@pytest.mark.parametrize("address", ["sqlite:", "sqlite:a\0b", "memory:x"])
def test_addresses_of_no_run_log_are_refused(address: str) -> None:
    with pytest.raises(OnreadyError):
        create(RUN_LOGS, address)


@pytest.mark.parametrize("address", ["file:", "file:a\0b", "memory:x"])
def test_addresses_of_no_catalog_are_refused(address: str) -> None:
    with pytest.raises(OnreadyError):
        create(CATALOGS, address)


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "sqlite"},
        {"type": "sqlite", "path": "x", "busy_timeout": 0},
        {"type": "sqlite", "path": "x", "busy_timeout": 1e9},
        {"type": "sqlite", "path": "x", "busy_timout": 5},
        {"type": "memory", "path": "x"},
    ],
)
def test_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(OnreadyError):
        create(RUN_LOGS, settings)


@pytest.mark.parametrize("config", [SqliteConfig, DirectoryConfig])
def test_every_setting_is_described(config: type[SqliteConfig | DirectoryConfig]) -> None:
    assert config.__doc__
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize("room", ["memory", "directory", "sqlite"])
def test_stores_load_without_pydantic_and_name_what_they_lack(room: str) -> None:
    script = (
        f"import sys, onready.storage.{room} as room; assert 'pydantic' not in sys.modules\n"
        "try: room.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise SystemExit('an attribute out of nothing')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
