"""The plug-in classes of the object-store catalogs: which bucket, where, and how workers reach it.

Keys are never settings: obstore takes them from the environment (or the machine's role), and a
worker elsewhere is given references to the same variables.

Rule of this room: pydantic and the environment; the library is imported when a catalog is opened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

import anyio.to_thread
from pydantic import Field

from onready.engine.errors import ConfigError
from onready.engine.plugin import PluginConfig
from onready.engine.spi import Access, Catalog
from onready.storage.objects import ObjectCatalog

if TYPE_CHECKING:
    import obstore.store
    from obstore.store import ClientConfig, ObjectStore, RetryConfig


_PART: Final = "[A-Za-z0-9_@=+-][A-Za-z0-9_.@=+-]*"


class _Objects(PluginConfig):
    scheme: ClassVar[str]
    plain: ClassVar[tuple[str, ...]]
    """Variables that a worker needs too, and that are no secrets."""
    hidden: ClassVar[tuple[str, ...]]
    """Variables that a worker gets by secret reference."""

    bucket: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The bucket (for Azure, the container).",
    )
    prefix: str = Field(
        default="",
        pattern=rf"^({_PART}(/{_PART})*)?$",
        description="Where in it the catalog is; its root if empty.",
    )
    endpoint: str = Field(
        default="",
        pattern=r"^(https?://.+)?$",
        description="Address of the service, if it is not the provider's own.",
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds that one request may take, and that all tries of one call may take.",
    )

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for an address such as `s3://bucket/prefix`."""
        bucket, _, prefix = rest.removeprefix("//").removesuffix("/").partition("/")
        if not rest.startswith("//") or not bucket:
            scheme = cls.scheme
            message = (
                f"an address of this kind names a bucket: '{scheme}://BUCKET/PREFIX', "
                f"not '{scheme}:{rest}'"
            )
            raise ConfigError(message)
        return cls(bucket=bucket, prefix=prefix)

    @property
    def address(self) -> str:
        """How the catalog is named in messages and given to workers."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Catalog]:
        """The catalog. No request is made before it is used."""
        store = await anyio.to_thread.run_sync(self._connect)
        yield ObjectCatalog(store, self.address, self.access)

    def _connect(self) -> ObjectStore:
        """In a thread: importing the library reads files."""
        try:
            import obstore.exceptions
        except ImportError as error:
            message = (
                f"the catalog {self.address} needs the package obstore: "
                "pip install 'onready[objects]'"
            )
            raise ConfigError(message) from error
        client: ClientConfig = {
            "timeout": timedelta(seconds=self.timeout),
            "connect_timeout": timedelta(seconds=min(self.timeout, 10.0)),
            "allow_http": self._endpoint().startswith("http://"),
        }
        retry: RetryConfig = {
            "max_retries": 10,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
            "retry_timeout": timedelta(seconds=self.timeout),
        }
        try:
            return self._store(client, retry)
        except (obstore.exceptions.BaseError, ValueError) as error:
            message = f"catalog {self.address}: {error}"
            raise ConfigError(message) from error

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        """The address, the variables that say where and as whom, the keys as references."""
        del where
        environment = {name: os.environ[name] for name in self.plain if name in os.environ}
        environment |= self._variables()
        secrets = tuple((name, name) for name in self.hidden if name in os.environ)
        return Access(self.address, (), tuple(sorted(environment.items())), secrets)

    def _endpoint(self) -> str:
        return self.endpoint

    def _variables(self) -> dict[str, str]:
        return {}

    def _store(self, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        raise NotImplementedError  # pragma: no cover - every service has its own


class S3Config(_Objects):
    """Catalog in a bucket of S3 or of a service that speaks its protocol (`s3://bucket/prefix`)."""

    scheme = "s3"
    plain = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_REGION", "AWS_DEFAULT_REGION")
    hidden = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

    region: str = Field(
        default="", description="The bucket's region; AWS_REGION of the environment if empty."
    )

    def _endpoint(self) -> str:
        names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        found = (os.environ[name] for name in names if os.environ.get(name))
        return self.endpoint or next(found, "")

    def _variables(self) -> dict[str, str]:
        found = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": self.region}
        return {name: value for name, value in found.items() if value}

    def _store(self, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        from obstore.store import S3Store

        config: obstore.store.S3Config = {}
        if self.region:
            config["region"] = self.region
        if self.endpoint:
            config["endpoint"] = self.endpoint
        return S3Store(
            self.bucket,
            prefix=self.prefix or None,
            config=config,
            client_options=client,
            retry_config=retry,
        )


class GsConfig(_Objects):
    """Catalog in a bucket of Google Cloud Storage (`gs://bucket/prefix`)."""

    scheme = "gs"
    plain = ()
    hidden = ("GOOGLE_SERVICE_ACCOUNT_KEY",)

    def _store(self, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        from obstore.store import GCSStore

        config: obstore.store.GCSConfig = {}
        if self.endpoint:
            config["base_url"] = self.endpoint
        return GCSStore(
            self.bucket,
            prefix=self.prefix or None,
            config=config,
            client_options=client,
            retry_config=retry,
        )


class AzConfig(_Objects):
    """Catalog in a container of Azure's blob storage (`az://container/prefix`)."""

    scheme = "az"
    plain = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_CLIENT_ID")
    hidden = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CLIENT_SECRET")

    def _variables(self) -> dict[str, str]:
        return {"AZURE_STORAGE_ENDPOINT": self.endpoint} if self.endpoint else {}

    def _store(self, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
        from obstore.store import AzureStore

        config: obstore.store.AzureConfig = {}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        return AzureStore(
            self.bucket,
            prefix=self.prefix or None,
            config=config,
            client_options=client,
            retry_config=retry,
        )
