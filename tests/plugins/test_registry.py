"""The registry: what is installed, what goes wrong, and how settings become a config model."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, cast

import anyio
import pytest

from onready.engine.errors import ConfigError, PluginError
from onready.engine.registry import (
    BACKENDS,
    CATALOGS,
    CODECS,
    RUN_LOGS,
    Group,
    create,
    installed,
    load,
)
from onready.engine.spi import Backend

from .conftest import Install

SOURCE = '''
from contextlib import asynccontextmanager
from typing import Literal
from pydantic import BaseModel, Field, SecretStr, model_validator
from onready.engine.plugin import PluginConfig
from onready.engine.testing import FakeBackend

class Limits(BaseModel, extra="forbid"):
    cpu: int = Field(1, ge=1, le=64, description="cores a job may ask for")

class Batch(PluginConfig):
    queue: Literal["short", "long"] = "short"
    """The queue that jobs go to."""
    url: str
    """Where the service is."""
    token: SecretStr = SecretStr("")
    hosts: list[int] = []
    limits: Limits = Limits()
    size: int | Literal["all"] = "all"

    @model_validator(mode="before")
    @classmethod
    def check(cls, data):
        if data.get("queue") == "both":
            raise ValueError("short and long are one")
        return data

    @classmethod
    def from_address(cls, rest):
        if not rest.startswith("//"):
            raise ValueError(f"an address looks like batch://host, not {rest!r}")
        return cls(url="https:" + rest)

    @asynccontextmanager
    async def open(self):
        yield FakeBackend()
'''


class BatchConfig(Protocol):
    queue: str
    url: str
    hosts: list[int]

    def open(self) -> AbstractAsyncContextManager[Backend]: ...


@pytest.fixture
def batch(install: Install) -> None:
    install("acme-batch", BACKENDS, {"batch": "acme_batch:Batch"}, SOURCE)


def refused(spec: object, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        create(BACKENDS, cast("str", spec), "backends.mine", env or {})
    return str(caught.value)


def names() -> list[str]:
    """All backends here: ours, the test's, and whatever else is installed beside onready."""
    return [row.name for row in installed(BACKENDS)]


# --- what is installed --------------------------------------------------------------------------


def test_built_ins_are_entry_points() -> None:
    names = {group: {row.name for row in installed(group)} for group in (BACKENDS, RUN_LOGS)}
    assert {"thread", "process", "subprocess"} <= names[BACKENDS]
    assert {"memory", "sqlite"} <= names[RUN_LOGS]
    assert {"memory", "file"} <= {row.name for row in installed(CATALOGS)}


@pytest.mark.parametrize("group", [BACKENDS, RUN_LOGS, CATALOGS])
def test_every_built_in_loads(group: Group) -> None:
    for row in installed(group):
        if row.distribution == "onready":
            assert hasattr(load(group, row.name), "open")


def test_listing_imports_nothing(install: Install) -> None:
    install("acme-broken", BACKENDS, {"broken": "acme_broken:X"}, "raise RuntimeError('no')")
    row = next(row for row in installed(BACKENDS) if row.name == "broken")
    assert (row.target, row.distribution, row.version) == ("acme_broken:X", "acme-broken", "1.2")
    assert "acme_broken" not in sys.modules


def test_the_registry_itself_imports_no_pydantic_and_no_plug_in() -> None:
    code = (
        "import sys; from onready.engine import registry; registry.installed('onready.backends');"
        "print([m for m in sys.modules if m.startswith(('pydantic', 'onready.backends'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"[]\n"


def test_a_plug_in_may_be_any_object(install: Install) -> None:
    install("acme-codec", CODECS, {"gif": "acme_codec:codec"}, "codec = 'anything'")
    assert load(CODECS, "gif") == "anything"


# --- plug-ins that are missing, clash or do not load ----------------------------------------------


def test_missing_says_group_what_is_installed_and_a_guess(batch: None) -> None:
    with pytest.raises(PluginError) as caught:
        create(BACKENDS, "batsh")
    text = str(caught.value)
    assert "'batsh'" in text
    assert "onready.backends" in text
    assert "did you mean 'batch'?" in text
    assert f"installed: {', '.join(names())}" in text
    assert "batch, " in text


def test_clash_names_both_distributions(install: Install, batch: None) -> None:
    install("other-batch", BACKENDS, {"batch": "other_batch:Batch", "fine": "acme_batch:Batch"})
    with pytest.raises(PluginError, match=r"'batch' in onready\.backends") as caught:
        create(BACKENDS, {"type": "batch"})
    assert "acme-batch (acme_batch:Batch)" in str(caught.value)
    assert "other-batch (other_batch:Batch)" in str(caught.value)
    assert create(BACKENDS, "fine://host") is not None


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise RuntimeError('broken wheel')", "RuntimeError: broken wheel"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
        ("", "has no attribute 'Batch'"),
    ],
)
def test_a_failing_import_has_its_cause(install: Install, source: str, cause: str) -> None:
    install("acme-batch", BACKENDS, {"batch": "acme_batch:Batch"}, source)
    with pytest.raises(PluginError, match="does not load from acme-batch") as caught:
        create(BACKENDS, "batch")
    assert cause in str(caught.value)
    assert caught.value.__cause__ is not None


def test_what_is_no_plug_in_is_refused(install: Install) -> None:
    install("acme-batch", BACKENDS, {"batch": "acme_batch:Batch"}, "Batch = dict")
    with pytest.raises(PluginError, match="is no settings model"):
        create(BACKENDS, "batch")


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_mapping_becomes_the_model_and_opens(batch: None) -> None:
    spec = {"type": "batch", "url": "https://{{HOST}}/v1", "queue": "long", "hosts": [1, 2]}
    # In a thread: finding and importing a plug-in reads files.
    made = await anyio.to_thread.run_sync(lambda: create(BACKENDS, spec, env={"HOST": "grid"}))
    config = cast("BatchConfig", made)
    assert (config.url, config.queue, config.hosts) == ("https://grid/v1", "long", [1, 2])
    async with config.open() as backend:
        assert isinstance(backend, Backend)


def test_an_address_becomes_the_model(batch: None) -> None:
    config = cast("BatchConfig", create(BACKENDS, "batch://{{HOST}}", env={"HOST": "grid"}))
    assert config.url == "https://grid"


def test_a_config_is_frozen(batch: None) -> None:
    config = cast("BatchConfig", create(BACKENDS, "batch://grid"))
    with pytest.raises(ValueError, match="frozen"):
        config.queue = "long"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"queue": "slow"}, "backends.mine.queue: got 'slow', should be 'short' or 'long'"),
        ({"queue": "slow"}, "(The queue that jobs go to.)"),
        (
            {"quewe": "short"},
            "backends.mine.quewe: no such setting; did you mean 'queue'?; allowed: hosts, limits, queue, size,",
        ),
        ({"url": 5}, "backends.mine.url: got 5, should be a valid string"),
        ({"hosts": [1, "two"]}, "backends.mine.hosts[1]: got 'two', should be a valid integer"),
        ({"limits": {"cpu": 65}}, "backends.mine.limits.cpu: got 65, should be less than or equal"),
        ({"limits": {"cpu": 65}}, "(cores a job may ask for)"),
        ({"limits": {"cpus": 5}}, "backends.mine.limits.cpus: no such setting; did you mean 'cpu'"),
        ({"url": ["x" * 99]}, "backends.mine.url: got ['xxxxxxxxxxxxxxxx"),
        ({"url": ["x" * 99]}, "xxx..., should be a valid string"),
        ({"size": "many"}, "backends.mine.size: got 'many', should be"),
        ({"size": True, "queue": "both"}, "backends.mine: short and long are one"),
        ({"limits": 3}, "backends.mine.limits: got 3, should be"),
        ({"url": "{{NO_URL}}"}, "backends.mine.url: the environment variable NO_URL is not set"),
        ({"hosts": ["{{A B}}"]}, "backends.mine.hosts[0]: '{{A B}}' does not name"),
    ],
)
def test_wrong_settings_say_place_got_and_allowed(
    batch: None, settings: dict[str, object], expected: str
) -> None:
    assert expected in refused({"type": "batch", "url": "https://x"} | settings)


def test_a_missing_setting_is_named_with_its_description(batch: None) -> None:
    text = refused({"type": "batch"})
    assert text == "backends.mine.url: missing, and it has no default (Where the service is.)"


def test_all_wrong_settings_are_told_at_once(batch: None) -> None:
    assert len(refused({"type": "batch", "queue": "x", "hosts": 3}).splitlines()) == 3


def test_a_missing_or_wrong_type_lists_the_plug_ins(batch: None) -> None:
    expected = f"a plug-in of onready.backends: {', '.join(names())}"
    assert refused({"url": "x"}) == f"backends.mine.type: missing; {expected}"
    assert refused({"type": 3}) == f"backends.mine.type: got 3; {expected}"


def test_a_wrong_address_names_its_place(batch: None) -> None:
    expected = "backends.mine: an address looks like batch://host, not 'grid'"
    assert refused("batch:grid") == expected


def test_an_address_for_a_plug_in_without_one(install: Install) -> None:
    source = (
        "from pydantic import BaseModel\n"
        "class Plain(BaseModel):\n    size: int = 3\n    def open(self): ...\n"
        "from onready.engine.plugin import PluginConfig\nclass Based(PluginConfig): ...\n"
    )
    points = {"plain": "acme_plain:Plain", "based": "acme_plain:Based"}
    install("acme-plain", BACKENDS, points, source)
    assert create(BACKENDS, "plain") is not None
    assert create(BACKENDS, "based") is not None
    assert "backends.mine: 'plain' takes settings, not an address" in refused("plain:x")
    assert refused("based:x") == "backends.mine: takes settings, not an address: 'x'"
    with pytest.raises(NotImplementedError):
        create(BACKENDS, "based").open()


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["{{TOKEN}}", "canary-7f3a"])
def test_secrets_are_in_no_message(batch: None, token: str) -> None:
    env = {"TOKEN": "canary-7f3a"}
    spec = {"type": "batch", "url": "u", "token": [token], "queue": token, "hosts": token}
    if token == "canary-7f3a":
        del spec["queue"], spec["hosts"]
    text = refused(spec, env)
    assert "canary" not in text
    assert "backends.mine.token: got a secret text" in text


def test_variables_come_from_the_process_when_not_given(
    batch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_HOST", "grid")
    assert cast("BatchConfig", create(BACKENDS, "batch://{{ ACME_HOST }}")).url == "https://grid"


def test_stores_are_made_from_addresses(tmp_path: Path) -> None:
    assert create(RUN_LOGS, f"sqlite:{tmp_path / 'runs.db'}") is not None
    assert create(CATALOGS, f"file:{tmp_path / 'catalog'}") is not None
