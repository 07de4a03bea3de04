"""What a node, or the whole backend, may say about its containers; checked before anything runs.

Rule of this room: texts and numbers in, checked values out; nothing is asked of a daemon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from onready.engine.names import NAME_PATTERN
from onready.engine.options import parse_memory
from onready.engine.spi import Mount

OURS: Final = "onready."
"""Labels that begin so are ours."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VOLUME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ULIMIT: Final = re.compile(r"(-1|[0-9]+)(?::(-1|[0-9]+))?\Z")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*\Z")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+:[A-Za-z0-9.:\[\]-]+\Z")

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]


def read_mount(text: str) -> Mount:
    """`SOURCE:TARGET[:ro]`; ValueError for what is none."""
    parts = text.split(":")
    if len(parts) == 3 and parts[2] not in {"ro", "rw"}:
        message = f"{text!r}: the third part of a mount is ro or rw"
        raise ValueError(message)
    if len(parts) not in {2, 3} or not parts[1].startswith("/") or "\0" in text:
        message = f"{text!r} is no mount; write SOURCE:TARGET or SOURCE:TARGET:ro"
        raise ValueError(message)
    claim = not parts[0].startswith("/")
    if claim and not _VOLUME.match(parts[0]):
        message = f"{text!r}: the source is an absolute path, or the name of a volume"
        raise ValueError(message)
    return Mount(parts[0], parts[1], read_only=parts[2:] == ["ro"], claim=claim)


def _matching(values: Mapping[str, str], pattern: re.Pattern[str], what: str) -> None:
    for name, value in values.items():
        if not _VARIABLE.match(name):
            message = f"{name!r} cannot name a variable"
            raise ValueError(message)
        if not pattern.match(value):
            message = f"{name}: {value!r} is no {what}"
            raise ValueError(message)


class NodeOptions(BaseModel):
    """The options of one node: those of the backend, and over them the node's own."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    image: str = ""
    """The image that containers are made of."""
    code: Literal["image", "mount"] = "image"
    """How Python nodes reach their code: it is in the image, or this machine's Python, its
    packages and the project are mounted into the container, read-only."""
    pull: Literal["always", "missing", "never"] = "missing"
    """When the image is pulled."""
    environment: dict[str, Text] = Field(default_factory=dict)
    """Variables of the container."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Files in `/run/secrets`, by the name of the file; each is the name of a secret. To Python
    nodes they are variables too; programs have the variable `NAME_FILE` with the path."""
    mounts: list[str] = Field(default_factory=list)
    """`SOURCE:TARGET` or `SOURCE:TARGET:ro`; the source is a path of this machine that exists, or
    the name of a volume."""
    workdir: str = Field(default="", pattern=r"^(/[^\x00]*)?$")
    """The folder it runs in; by default the image's, and a private one where files are expected
    from it."""
    user: str = ""
    """`USER` or `USER:GROUP`; by default the user who runs onready, and the image's own for
    `image`."""
    network: str = Field(default="", pattern=r"^[A-Za-z0-9_.:-]*$")
    """The name of a network, `none` or `host`; by default the daemon's."""
    shm_size: str = ""
    """The size of `/dev/shm`, for example `256Mi`."""
    ulimits: dict[str, str] = Field(default_factory=dict)
    """Limits such as `nofile`, each `SOFT:HARD` or one number for both."""
    hosts: list[str] = Field(default_factory=list)
    """More entries for `/etc/hosts`: `NAME:ADDRESS`; the address `host-gateway` is the host."""
    labels: dict[str, str] = Field(default_factory=dict)
    """More labels of the container."""
    init: bool = True
    """A small first process that passes signals on and reaps orphans."""
    python: str = ""
    """The interpreter of Python nodes, for images without the `onready` command on PATH."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        if value and not _IMAGE.match(value):
            message = f"{value!r} cannot name an image"
            raise ValueError(message)
        return value

    @field_validator("environment")
    @classmethod
    def _environment(cls, values: dict[str, str]) -> dict[str, str]:
        _matching(values, re.compile(r"(?s).*\Z"), "text")
        return values

    @field_validator("secrets")
    @classmethod
    def _secrets(cls, values: dict[str, str]) -> dict[str, str]:
        _matching(values, NAME_PATTERN, "name of a secret")
        return values

    @field_validator("mounts")
    @classmethod
    def _mounts(cls, values: list[str]) -> list[str]:
        for value in values:
            read_mount(value)
        return values

    @field_validator("user")
    @classmethod
    def _user(cls, value: str) -> str:
        if value and not _USER.match(value):
            message = f"{value!r} is no user; write NAME or UID, or USER:GROUP"
            raise ValueError(message)
        return value

    @field_validator("shm_size")
    @classmethod
    def _size(cls, value: str) -> str:
        if value:
            parse_memory(value)
        return value

    @field_validator("ulimits")
    @classmethod
    def _ulimits(cls, values: dict[str, str]) -> dict[str, str]:
        _matching(values, _ULIMIT, "limit; write SOFT:HARD, or one number")
        return values

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, values: list[str]) -> list[str]:
        for value in values:
            if not _HOST.match(value):
                message = f"{value!r} is no host; write NAME:ADDRESS"
                raise ValueError(message)
        return values

    @field_validator("labels")
    @classmethod
    def _labels(cls, values: dict[str, str]) -> dict[str, str]:
        for name in values:
            if not name or name.startswith(OURS):
                message = f"the label {name!r}: labels have a name, and not one of ours"
                raise ValueError(message)
        return values

    def changed(self, own: Mapping[str, object]) -> Self:
        """These options with a node's own over them; dicts and lists are added to.

        ValueError: which option, and why not.
        """
        if not own:
            return self
        merged: dict[str, object] = self.model_dump()
        for name, value in own.items():
            base = merged.get(name)
            if isinstance(base, dict) and isinstance(value, dict):
                merged[name] = {**base, **value}
            elif isinstance(base, list) and isinstance(value, list):
                merged[name] = [*base, *value]
            else:
                merged[name] = value
        try:
            return type(self).model_validate(merged, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"{place}: {first['msg'].removeprefix('Value error, ')}"
            raise ValueError(message) from None

    def ulimit_list(self) -> list[dict[str, object]]:
        """The limits as the daemon takes them."""
        found: list[dict[str, object]] = []
        for name, text in self.ulimits.items():
            soft, _, hard = text.partition(":")
            found.append({"Name": name, "Soft": int(soft), "Hard": int(hard or soft)})
        return found


NAMES: Final = frozenset(NodeOptions.model_fields)
"""The options that a node may set."""
