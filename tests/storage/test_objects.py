"""The object-store catalog keeps the contract, against a real S3-compatible server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio.to_thread
import obstore
import pytest
from blake3 import blake3
from obstore.store import S3Store
from pydantic import ValidationError

from onready.engine.errors import ConfigError, StoreError
from onready.engine.registry import CATALOGS, create
from onready.engine.spi import Catalog
from onready.engine.testing.catalog_suite import CatalogSuite
from onready.storage.object_config import AzConfig, GsConfig, S3Config
from tests.storage.s3_server import BUCKET, KEYS, s3_server

pytestmark = pytest.mark.may_leak("obstore keeps connections and its threads for the next call")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def config_of(server: str, prefix: str) -> S3Config:
    return S3Config(bucket=BUCKET, prefix=prefix, endpoint=server, region="us-east-1", timeout=20.0)


def prefix_of(folder: Path) -> str:
    return blake3(str(folder).encode()).hexdigest()[:16]


class TestObjectCatalog(CatalogSuite):
    @pytest.fixture(autouse=True)
    def at(self, server: str) -> None:
        self.server = server

    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        return config_of(self.server, prefix_of(folder)).open()


# --- what the bucket has, and what is damaged in it ---


def raw_store(server: str, prefix: str) -> S3Store:
    return S3Store(
        BUCKET,
        prefix=prefix,
        config={"endpoint": server, "region": "us-east-1"},
        client_options={"allow_http": True},
    )


@pytest.mark.anyio
async def test_damage_is_refused_and_leaves_no_file(server: str, tmp_path: Path) -> None:
    prefix = prefix_of(tmp_path)
    async with config_of(server, prefix).open() as catalog:
        digest = await catalog.put(b"blob")
        place = f"blobs/{digest[:2]}/{digest[2:]}"
        bucket = raw_store(server, prefix)
        assert bytes(obstore.get(bucket, place).bytes()) == b"blob"
        obstore.put(bucket, place, b"blub")
        with pytest.raises(StoreError, match="damaged"):
            await catalog.get(digest)
        with pytest.raises(StoreError, match="damaged"):
            await catalog.fetch(digest, tmp_path / "target")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_large_files_go_in_parts(server: str, tmp_path: Path) -> None:
    content = blake3(b"large").digest(length=20 * 1024 * 1024 + 1)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    async with config_of(server, prefix_of(tmp_path)).open() as catalog:
        digest = await catalog.put(source)
        assert digest == blake3(content).hexdigest()
        await catalog.fetch(digest, target)
        assert target.read_bytes() == content


RIVAL = """
import asyncio, sys
from onready.storage.object_config import S3Config

async def main():
    config = S3Config(bucket=sys.argv[1], prefix=sys.argv[2], endpoint=sys.argv[3], region="us-east-1")
    async with config.open() as catalog:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(5):
            if await catalog.put_if_absent(f"race/{number}", sys.argv[4].encode()):
                print(number, sys.argv[4], flush=True)

asyncio.run(main())
"""


@pytest.mark.anyio
async def test_of_eight_processes_one_creates_a_record(server: str, tmp_path: Path) -> None:
    prefix = prefix_of(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, BUCKET, prefix, server, f"process-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    won = dict(line.split() for lines in told for line in lines)
    assert sum(map(len, told)) == 5
    async with config_of(server, prefix).open() as catalog:
        for number in range(5):
            assert (await catalog.read(f"race/{number}")).decode() == won[str(number)]


# --- settings ---


def test_addresses_name_a_bucket_and_a_prefix() -> None:
    found = create(CATALOGS, "s3://bucket/some/prefix")
    assert found == S3Config(bucket="bucket", prefix="some/prefix")
    assert create(CATALOGS, "gs://bucket") == GsConfig(bucket="bucket")
    assert create(CATALOGS, "az://container/x/") == AzConfig(bucket="container", prefix="x")
    for address in ("s3:bucket", "s3:", "s3://", "s3:///prefix", "gs:/bucket/x", "az:"):
        with pytest.raises(ConfigError, match="BUCKET"):
            create(CATALOGS, address)
    for address in ("s3://bucket/../x", "s3://bucket/a//b", "s3://b?x/y", "s3://bucket/.x"):
        with pytest.raises(ConfigError):
            create(CATALOGS, address)
    with pytest.raises(ValidationError):
        S3Config(bucket="b", endpoint="ftp://x")


def test_workers_get_the_address_and_references_to_the_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = S3Config(bucket="b", prefix="p", endpoint="http://s3.example", region="eu-west-1")
    access = config.access("cluster")
    assert access.url == "s3://b/p"
    assert access.mounts == ()
    assert dict(access.environment) == {
        "AWS_ENDPOINT_URL": "http://s3.example",
        "AWS_REGION": "eu-west-1",
    }
    assert dict(access.secrets) == {name: name for name in KEYS}
    assert not any(value in str(access) for value in KEYS.values())
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    access = AzConfig(bucket="c").access("container")
    assert (access.url, dict(access.environment)) == (
        "az://c",
        {"AZURE_STORAGE_ACCOUNT_NAME": "account"},
    )
    assert dict(access.secrets) == {"AZURE_STORAGE_ACCOUNT_KEY": "AZURE_STORAGE_ACCOUNT_KEY"}


@pytest.mark.anyio
async def test_a_worker_reaches_it_by_what_access_says(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(server, prefix_of(tmp_path))
    async with config.open() as catalog:
        digest = await catalog.put(b"blob")
        access = catalog.access("container")
    for name, value in access.environment:
        monkeypatch.setenv(name, value)
    there = await anyio.to_thread.run_sync(lambda: create(CATALOGS, access.url))
    async with there.open() as catalog:
        assert await catalog.get(digest) == b"blob"


@pytest.mark.anyio
async def test_a_service_that_is_not_there_is_an_error_before_the_deadline() -> None:
    config = S3Config(bucket="b", endpoint="http://127.0.0.1:9", region="us-east-1", timeout=0.5)
    async with config.open() as catalog:
        with pytest.raises(StoreError, match="s3://b") as caught:
            await catalog.read("a")
        assert caught.value.retryable


@pytest.mark.anyio
async def test_a_bucket_that_is_not_there_is_an_error(server: str) -> None:
    config = S3Config(bucket="nobody", endpoint=server, region="us-east-1", timeout=5.0)
    async with config.open() as catalog:
        with pytest.raises(StoreError, match="s3://nobody"):
            await catalog.put(b"x")


@pytest.mark.anyio
async def test_google_and_azure_open_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    for config in (GsConfig(bucket="b", prefix="p"), AzConfig(bucket="c")):
        async with config.open() as catalog:
            assert catalog.durable
            assert catalog.access("host").url == config.address


@pytest.mark.anyio
async def test_without_the_library_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"onready\[objects\]"):
        async with S3Config(bucket="b").open():
            pass
