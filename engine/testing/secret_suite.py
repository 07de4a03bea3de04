"""The contract of `SecretProvider`, as tests that every provider runs: ours and anybody's.

    class TestMine(SecretSuite):
        def open_provider(self, folder, secrets):
            ...                                  # put `secrets` where the provider looks
            return MyConfig(...).open()

Run by pytest alone: providers are synchronous.

Rule of this room: it knows contracts and no implementation; what it asks of a provider is written
in `onready.engine.spi`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from onready.engine.spi import SecretProvider

SECRETS: Final[Mapping[str, str]] = {
    "PLAIN": "s3cr3t-value",
    "_under.score-dash": "x" * 64,
    "QUOTED": 'it\'s "quoted" `so` ${HOME} $(id) #1 = 2',
    "BLANKS": "  blanks around  ",
    "WIDE": "gehe\u00efm \u79d8\u5bc6 \U0001f511",
    "LONG": "0123456789abcdef" * 256,
    "BACKSLASH": "a\\nb\\\\c",
}
"""What a provider must give back exactly as it is."""
ABSENT: Final = ("NO_SUCH_SECRET", "plain", "PLAIN2", "PLAI")
HOSTILE: Final = ("../outside", "..", ".", "", "/etc/hostname", "a/b", "a\0b", "a\nb", "A" * 5_000)
"""No names by the grammar: the engine never asks for them, and no provider finds anything."""


class SecretSuite:
    """Subclass it and say how your provider is opened."""

    def open_provider(
        self, folder: Path, secrets: Mapping[str, str]
    ) -> AbstractContextManager[SecretProvider]:
        """A provider that has exactly `secrets`; `folder` is there to keep them in."""
        raise NotImplementedError  # pragma: no cover - for whoever forgets it

    @pytest.fixture
    def provider(self, tmp_path: Path) -> Generator[SecretProvider]:
        """A provider with all of SECRETS, and a file beside its folder that is none."""
        (tmp_path / "outside").write_text("not a secret")
        inside = tmp_path / "inside"
        inside.mkdir()
        with self.open_provider(inside, SECRETS) as provider:
            yield provider

    def test_it_fills_in_the_protocol(self, provider: SecretProvider) -> None:
        assert isinstance(provider, SecretProvider)

    @pytest.mark.parametrize("name", SECRETS)
    def test_a_secret_comes_back_as_it_is(self, provider: SecretProvider, name: str) -> None:
        assert provider.get(name) == SECRETS[name]
        assert provider.get(name) == SECRETS[name]

    @pytest.mark.parametrize("name", ABSENT)
    def test_what_it_has_not_is_none(self, provider: SecretProvider, name: str) -> None:
        assert provider.get(name) is None

    @pytest.mark.parametrize("name", HOSTILE)
    def test_no_name_leads_elsewhere(self, provider: SecretProvider, name: str) -> None:
        try:
            found = provider.get(name)
        except Exception:  # noqa: BLE001 - to refuse it is as good
            found = None
        assert found is None

    def test_threads_may_ask_at_once(self, provider: SecretProvider) -> None:
        names = [*SECRETS, *ABSENT] * 20
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(provider.get, names)) == [SECRETS.get(name) for name in names]

    def test_a_provider_that_has_nothing(self, tmp_path: Path) -> None:
        inside = tmp_path / "empty"
        inside.mkdir()
        with self.open_provider(inside, {}) as provider:
            assert provider.get("PLAIN") is None
