"""The built-in secret providers under their contract, and what is special about each."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from onready.engine.errors import ConfigError, SecretError, StoreError
from onready.engine.masking import MASKS
from onready.engine.registry import SECRETS as GROUP
from onready.engine.registry import create, installed
from onready.engine.secrets import SecretProviders, given_specs
from onready.engine.spi import SecretProvider
from onready.engine.testing.secret_suite import SecretSuite
from onready.storage.secrets import LARGEST, DotenvConfig, EnvConfig, FolderConfig


@pytest.fixture(autouse=True)
def no_masks_left() -> Generator[None]:
    yield
    MASKS.clear()


class TestEnv(SecretSuite):
    @contextmanager
    def open_provider(self, folder: Path, secrets: Mapping[str, str]) -> Generator[SecretProvider]:
        del folder
        os.environ.update(secrets)
        try:
            with EnvConfig().open() as provider:
                yield provider
        finally:
            for name in secrets:
                del os.environ[name]


class TestFolder(SecretSuite):
    def open_provider(
        self, folder: Path, secrets: Mapping[str, str]
    ) -> AbstractContextManager[SecretProvider]:
        for name, value in secrets.items():
            (folder / name).write_text(value + "\n", encoding="utf-8")
        return FolderConfig(path=folder).open()


class TestDotenv(SecretSuite):
    def open_provider(
        self, folder: Path, secrets: Mapping[str, str]
    ) -> AbstractContextManager[SecretProvider]:
        path = folder / "secrets.env"
        lines = [f"{name}='{_quoted(value)}'" for name, value in secrets.items()]
        if lines:
            path.write_text("\n".join(lines), encoding="utf-8")
        return DotenvConfig(path=path).open()


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


# --- one by one ---------------------------------------------------------------------------------


def test_they_are_found_by_entry_points() -> None:
    assert {"env", "file", "dotenv"} <= {plugin.name for plugin in installed(GROUP)}


def test_addresses(tmp_path: Path) -> None:
    assert create(GROUP, "file") == FolderConfig(path=Path("/run/secrets"))
    assert create(GROUP, f"file:{tmp_path}") == FolderConfig(path=tmp_path)
    assert create(GROUP, "dotenv:x.env") == DotenvConfig(path=Path("x.env"))
    assert create(GROUP, {"type": "file", "path": "{{PLACE}}"}, env={"PLACE": "/p"}) == (
        FolderConfig(path=Path("/p"))
    )
    with pytest.raises(ConfigError, match="takes settings, not an address"):
        create(GROUP, "env:X", "secrets[0]")


def test_a_file_may_be_a_link_and_end_with_one_newline(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "TOKEN").write_text("two\n\r\n")
    (tmp_path / "TOKEN").symlink_to("..data/TOKEN")  # as Kubernetes mounts them
    (tmp_path / "FOLDER").mkdir()
    with FolderConfig(path=tmp_path).open() as provider:
        assert provider.get("TOKEN") == "two\n"
        assert provider.get("FOLDER") is None


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (LARGEST + 1)])
def test_what_is_no_secret_is_an_error_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "TOKEN").write_bytes(content)
    with (
        FolderConfig(path=tmp_path).open() as provider,
        pytest.raises(StoreError, match="TOKEN is") as caught,
    ):
        provider.get("TOKEN")
    assert len(str(caught.value)) < 300


def test_dotenv_is_read_anew_and_fills_nothing_in(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    with DotenvConfig(path=path).open() as provider:
        assert provider.get("A") is None
        path.write_text("# comment\nexport A=1\nB=${A}\nBARE\n")
        assert [provider.get(name) for name in ("A", "B", "BARE")] == ["1", "${A}", None]
        path.write_bytes(b"A=\xff\n")
        with pytest.raises(StoreError, match="no UTF-8 text"):
            provider.get("A")


# --- the order of providers ---------------------------------------------------------------------


def test_the_first_that_has_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTH", "from-env")
    (tmp_path / "BOTH").write_text("from-file")
    (tmp_path / "ONE").write_text("only-file")
    for specs, value in (
        (["env", f"file:{tmp_path}"], "from-env"),
        ([f"file:{tmp_path}", "env"], "from-file"),
    ):
        providers = SecretProviders(specs)
        assert (providers.resolve("BOTH"), providers.resolve("ONE")) == (value, "only-file")
        assert SecretProviders.of(providers.settings).resolve("BOTH") == value
        providers.close()
        assert not providers.is_open


def test_a_secret_that_nobody_has_names_who_was_asked(tmp_path: Path) -> None:
    table = {"type": "dotenv", "path": str(tmp_path / "x")}
    providers = SecretProviders(["env", f"file:{tmp_path}", table])
    with pytest.raises(SecretError, match=rf"'NOPE'; asked: env, file:{tmp_path}, dotenv$"):
        providers.resolve("NOPE")
    with pytest.raises(SecretError, match="cannot name a secret"):
        providers.resolve("../NOPE")
    providers.close()


@pytest.mark.parametrize("specs", [["vault:x"], [{"type": "file", "paht": "x"}]])
def test_providers_that_cannot_be_opened(specs: list[str | dict[str, object]]) -> None:
    providers = SecretProviders(specs)
    with pytest.raises(SecretError, match=r"'NOPE' cannot be had: .*secrets"):
        providers.resolve("NOPE")


def test_what_a_provider_says_itself_stays(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_bytes(b"\xff")
    providers = SecretProviders([f"file:{tmp_path}"])
    with pytest.raises(StoreError, match="TOKEN is no UTF-8 text") as caught:
        providers.resolve("TOKEN")
    assert not caught.value.retryable
    providers.close()


def test_a_provider_that_fails_is_no_provider_that_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    providers = SecretProviders([f"dotenv:{tmp_path}"])  # a folder cannot be read
    with pytest.raises(
        StoreError, match="could not say whether it has 'X': IsADirectory"
    ) as caught:
        providers.resolve("X")
    assert caught.value.retryable
    providers.close()


@pytest.mark.parametrize("given", ["env", [1], [None]])
def test_settings_that_are_no_list_of_providers(given: object) -> None:
    with pytest.raises(ConfigError, match="give a list of providers"):
        given_specs(given)  # type: ignore[arg-type] # that is what is tested
