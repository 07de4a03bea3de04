"""`onready doctor docker`: what the Docker backend finds out about the engine that it would use.

Rule of this room: says what the backend's own checks found; knows no Docker itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from onready.cli.checks import open_catalog
from onready.cli.findings import Finding
from onready.config import Config


async def look(config: Config) -> list[Finding]:
    """Every check of the Docker backend, with the settings of the first that is configured."""
    # Here, since it imports the client.
    from onready.backends.docker.doctor import look as look_at_docker
    from onready.backends.docker.doctor import settings

    async with open_catalog(config) as catalog:
        return [
            Finding(f"docker {found.check}", found.level, found.text, found.cure)
            async for found in look_at_docker(settings(_configured(config)), catalog)
        ]


def _configured(config: Config) -> Mapping[str, object]:
    for given in config.backends.values():
        if given.get("type") == "docker":
            return given
    return {}
