"""The configuration: files, order, profiles, variables, provenance, errors, masking."""

from __future__ import annotations

from pathlib import Path

import pytest

from onready.config import Config, load_config, masked
from onready.engine.errors import ConfigError


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def origin(config: Config, key: str) -> str:
    return next(item.origin for item in config.values if item.key == key)


def value(config: Config, key: str) -> object:
    return next(item.value for item in config.values if item.key == key)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("onready.toml", 'max_parallel = 8\n[pools]\ngpu = 2\n[backends.b]\ntype = "thread"\n'),
        ("onready.yaml", "max_parallel: 8\npools: {gpu: 2}\nbackends: {b: {type: thread}}\n"),
        (
            "pyproject.toml",
            '[tool.onready]\nmax_parallel = 8\npools = {gpu = 2}\nbackends.b.type = "thread"\n',
        ),
    ],
)
def test_the_three_files_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, name, text)
    config = load_config(folder=tmp_path, env={})
    assert config.max_parallel == 8
    assert config.pools == {"gpu": 2}
    assert config.backends == {"b": {"type": "thread"}}
    assert config.file == name
    assert origin(config, "max_parallel") == name
    assert origin(config, "pools.gpu") == name
    assert origin(config, "grace") == "default"


def test_nothing_there_gives_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", "[project]\nname = 'x'\n")
    config = load_config(folder=tmp_path, env={"HOME": "/"})
    assert config.run_log is None
    assert config.max_parallel is None
    assert value(config, "run_log") == "sqlite:.onready/runs.db"
    assert {item.origin for item in config.values} == {"default"}


def test_order_is_flag_variable_profile_file_default(tmp_path: Path) -> None:
    write(
        tmp_path,
        "onready.toml",
        "max_parallel = 1\ngrace = 1\nfolder = 'file'\ncatalog = 'file:a'\n"
        "[profiles.p]\nmax_parallel = 2\ngrace = 2\nfolder = 'profile'\n",
    )
    env = {"ONREADY_MAX_PARALLEL": "3", "ONREADY_GRACE": "3", "ONREADY_PROFILE": "p"}
    config = load_config({"max_parallel": 4}, folder=tmp_path, env=env)
    assert (config.max_parallel, config.grace, config.folder) == (4, 3.0, "profile")
    assert config.catalog == "file:a"
    assert [origin(config, key) for key in ("max_parallel", "grace", "folder", "catalog")] == [
        "flag",
        "env ONREADY_GRACE",
        "profile p in onready.toml",
        "onready.toml",
    ]
    assert load_config(folder=tmp_path, profile="p", env={}).max_parallel == 2


def test_tables_merge_over_layers(tmp_path: Path) -> None:
    write(tmp_path, "onready.toml", "[pools]\na = 1\nb = 1\n[profiles.p.pools]\nb = 2\n")
    env = {"ONREADY_POOLS__C": "3"}
    config = load_config(folder=tmp_path, profile="p", env=env)
    assert config.pools == {"a": 1, "b": 2, "c": 3}
    assert origin(config, "pools.c") == "env ONREADY_POOLS__C"
    whole = load_config(folder=tmp_path, env={"ONREADY_POOLS": '{"a": 9}'})
    assert whole.pools == {"a": 9, "b": 1}
    assert origin(whole, "pools.a") == "env ONREADY_POOLS"


def test_variables_are_filled_where_the_layer_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path, "onready.toml", "folder = '{{WORK}}/runs'\n[profiles.p]\nfolder = '{{NOT_SET}}'\n"
    )
    monkeypatch.setenv("WORK", "/tmp/x")
    assert load_config(folder=tmp_path, env={}).folder == "/tmp/x/runs"
    with pytest.raises(ConfigError, match="folder: the environment variable NOT_SET is not set"):
        load_config(folder=tmp_path, profile="p", env={})


def test_settings_of_plugins_keep_their_variables_for_the_registry(tmp_path: Path) -> None:
    write(tmp_path, "onready.toml", "[backends.b]\ntype = 'x'\ntoken = '{{TOKEN}}'\n")
    config = load_config(folder=tmp_path, env={})
    assert config.backends["b"]["token"] == "{{TOKEN}}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "max_paralel = 2",
            "onready.toml: max_paralel: no such setting; did you mean 'max_parallel'?",
        ),
        ("max_parallel = 'many'", "onready.toml: max_parallel: got 'many'"),
        ("max_parallel = 0", "greater than or equal to 1"),
        ("[pools]\ngpu = 'x'", "onready.toml: pools.gpu: got 'x'"),
        ("[profiles.p]\ngrase = 1", "profile p in onready.toml: grase: no such setting"),
        ("profiles = 3", "profiles in onready.toml: settings by name are wanted, not int"),
        ("= 3", "onready.toml: not TOML"),
    ],
)
def test_wrong_files_are_errors_that_name_key_and_place(
    tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path, "onready.toml", text)
    profile = "p" if "profiles.p" in text else None
    with pytest.raises(ConfigError) as caught:
        load_config(folder=tmp_path, profile=profile, env={})
    assert said in str(caught.value)


def test_wrong_yaml_and_unreadable_files(tmp_path: Path) -> None:
    write(tmp_path, "onready.yaml", "a: [")
    with pytest.raises(ConfigError, match=r"onready\.yaml: not YAML"):
        load_config(folder=tmp_path, env={})
    write(tmp_path, "onready.yaml", "- a\n")
    with pytest.raises(ConfigError, match="settings by name are wanted, not list"):
        load_config(folder=tmp_path, env={})
    (tmp_path / "onready.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(folder=tmp_path, env={})
    write(tmp_path, "onready.yaml", "")
    assert load_config(folder=tmp_path, env={}).file == "onready.yaml"


def test_two_files_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "onready.toml", "")
    write(tmp_path, "pyproject.toml", "[tool.onready]\ngrace = 1\n")
    with pytest.raises(ConfigError, match=r"in two places: onready\.toml and pyproject\.toml"):
        load_config(folder=tmp_path, env={})


def test_an_unknown_profile_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "onready.toml", "[profiles.prod]\ngrace = 1\n")
    with pytest.raises(ConfigError, match=r"no profile 'prd'.*did you mean 'prod'.*profiles: prod"):
        load_config(folder=tmp_path, profile="prd", env={})
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(folder=tmp_path / "none", profile="prod", env={})


def test_variables_that_are_nearly_ours(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="ONREADY_MAX_PARALEL names no setting; did you mean ONREADY_MAX_PARALLEL"
    ):
        load_config(folder=tmp_path, env={"ONREADY_MAX_PARALEL": "3"})
    assert load_config(folder=tmp_path, env={"ONREADY_SOMEBODY_ELSES": "3"}).grace == 10.0
    with pytest.raises(ConfigError, match="env ONREADY_GRACE: grace: got 'long'"):
        load_config(folder=tmp_path, env={"ONREADY_GRACE": "long"})
    with pytest.raises(ConfigError, match="a table is written as JSON"):
        load_config(folder=tmp_path, env={"ONREADY_POOLS": "gpu=3"})


def test_providers_of_secrets(tmp_path: Path) -> None:
    write(
        tmp_path,
        "onready.toml",
        'secrets = ["env", {type = "vault", token = "{{VAULT}}", key = "k", api_key = "x"}]\n',
    )
    config = load_config(folder=tmp_path, env={})
    # Not filled in: each process that opens the provider does.
    table = {"type": "vault", "token": "{{VAULT}}", "key": "k", "api_key": "x"}
    assert config.secrets == ["env", table]
    assert masked("secrets", config.secrets) == ["env", table | {"api_key": "********"}]
    by_variable = load_config(folder=tmp_path, env={"ONREADY_SECRETS": '["file:/run/secrets"]'})
    assert by_variable.secrets == ["file:/run/secrets"]
    assert load_config(folder=tmp_path / "none", env={}).secrets is None
    write(tmp_path, "onready.toml", 'secrets = "env"\n')
    with pytest.raises(ConfigError, match="secrets"):
        load_config(folder=tmp_path, env={})


def test_secrets_are_masked() -> None:
    assert masked("backends.b.token", "abc") == "********"
    assert masked("backends.b.api_key", "abc") == "********"
    assert masked("backends.b.password", "{{PASSWORD}}") == "{{PASSWORD}}"
    assert masked("catalog", "s3://user:pw@host/x") == "s3://********@host/x"
    assert masked("catalog", {"type": "s3", "secret": "x", "n": [1]}) == {
        "type": "s3",
        "secret": "********",
        "n": [1],
    }
    assert masked("max_parallel", 3) == 3
