"""Images: pulled when the policy says so, once for all who wait, with progress for each.

Rule of this room: asks the daemon for images; what a failed pull means for an attempt is told by
`ImageFault`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, cast

import anyio

from onready.backends.docker.client import Client, Json, Refused, Unreachable
from onready.backends.relay import resolver
from onready.engine.errors import SecretError
from onready.engine.spi import Attempt, Reporter

_NO_LOGIN: Final = re.compile(r"credentials|unauthorized|denied|authentication", re.IGNORECASE)
Policy = Literal["always", "missing", "never"]
_PAUSE: Final = 0.5
"""Seconds between two reports of progress."""


class ImageFault(Exception):
    """The image cannot be had; the message has Docker's words."""


class _Progress:
    """How far a pull is, over all layers."""

    def __init__(self, image: str, report: Reporter) -> None:
        self._image = image
        self._report = report
        self._layers: dict[str, tuple[int, int]] = {}
        self._told = float("-inf")

    def tell(self, said: Json) -> None:
        """Take one of the daemon's reports."""
        detail = cast("Mapping[str, int] | None", said.get("progressDetail")) or {}
        total = detail.get("total", 0)
        if total > 0:
            self._layers[str(said.get("id", ""))] = (detail.get("current", 0), total)
        now = anyio.current_time()
        if now - self._told < _PAUSE:
            return
        self._told = now
        whole = sum(size for _, size in self._layers.values())
        done = sum(current for current, _ in self._layers.values())
        fraction = min(1.0, done / whole) if whole else None
        status = str(said.get("status", ""))
        self._report.progress(fraction, f"pulling {self._image}: {status}")


class Images:
    """Pulls for one backend. `login`: names of secrets, by registry."""

    def __init__(self, client: Client, login: Mapping[str, str], silence: float) -> None:
        self._client = client
        self._login = login
        self._silence = silence
        self._locks: dict[str, anyio.Lock] = {}
        self._pulled: set[str] = set()

    async def prepare(self, image: str, policy: Policy, attempt: Attempt, report: Reporter) -> None:
        """Before a container is made: with the policy "always" pull it, once per backend.

        With the others nothing is asked: that an image is missing shows when it is needed.
        """
        if policy == "always":
            await self._pull(image, attempt, report, again=False)

    async def missing(
        self, image: str, policy: Policy, words: str, attempt: Attempt, report: Reporter
    ) -> None:
        """The daemon has no such image: pull it, or ImageFault with the daemon's `words`."""
        if policy == "never":
            message = f"{words} (and pull is 'never')"
            raise ImageFault(message)
        await self._pull(image, attempt, report, again=True)

    async def _pull(self, image: str, attempt: Attempt, report: Reporter, *, again: bool) -> None:
        lock = self._locks.setdefault(image, anyio.Lock())
        async with lock:
            if image in self._pulled and not again:
                return
            if again and await self._client.has_image(image):
                return  # somebody else has pulled it while we waited
            auth: dict[str, str] | None = None
            try:
                auth = await anyio.to_thread.run_sync(self._credentials, image, attempt)
                await self._client.pull(image, auth, _Progress(image, report).tell, self._silence)
            except (Refused, SecretError) as error:
                message = f"the image {image!r} cannot be pulled: {error}"
                if isinstance(error, Refused) and _NO_LOGIN.search(error.message):
                    known = "another login" if auth else "a login"
                    message += f" (it may need {known}: login= of the backend)"
                raise ImageFault(message) from error
            except Unreachable as error:
                if await self._client.has_image(image):
                    return
                message = f"pulling the image {image!r} broke off: {error}"
                raise Unreachable(message) from error
            self._pulled.add(image)

    def _credentials(self, image: str, attempt: Attempt) -> dict[str, str] | None:
        first, slash, _ = image.partition("/")
        host = first if slash and ("." in first or ":" in first or first == "localhost") else ""
        name = self._login.get(host or "default")
        if name is None:
            return None
        user, colon, password = resolver(attempt)(name).partition(":")
        if not colon:
            message = f"the secret {name!r} is no USER:PASSWORD"
            raise SecretError(message)
        found = {"username": user, "password": password}
        return {**found, "serveraddress": host} if host else found
