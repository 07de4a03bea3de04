"""Options of nodes and of the backend: what is wrong with one is said when the graph is compiled."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from onready.backends.docker.backend import DockerConfig
from onready.backends.docker.options import NodeOptions, read_mount
from onready.engine.errors import ConfigError
from onready.engine.registry import create
from onready.engine.spi import Mount

BAD: list[tuple[Mapping[str, object], str]] = [
    ({"image": "no image!"}, "image: 'no image!' cannot name an image"),
    ({"pull": "sometimes"}, "pull: Input should be 'always', 'missing' or 'never'"),
    ({"code": "git"}, "code: Input should be 'image' or 'mount'"),
    ({"environment": {"A-B": "x"}}, "environment: 'A-B' cannot name a variable"),
    ({"secrets": {"TOKEN": "a b"}}, "secrets: TOKEN: 'a b' is no name of a secret"),
    ({"mounts": ["here"]}, "mounts: 'here' is no mount"),
    ({"mounts": ["/a:/b:rx"]}, "mounts: '/a:/b:rx': the third part"),
    ({"mounts": ["../a:/b"]}, "mounts: '../a:/b': the source is an absolute path"),
    ({"workdir": "here"}, "workdir: String should match pattern"),
    ({"user": "me and you"}, "user: 'me and you' is no user"),
    ({"network": "a b"}, "network: String should match pattern"),
    ({"shm_size": "big"}, "shm_size: not an amount of memory: 'big'"),
    ({"ulimits": {"nofile": "many"}}, "ulimits: nofile: 'many' is no limit"),
    ({"hosts": ["db"]}, "hosts: 'db' is no host"),
    ({"labels": {"onready.run": "x"}}, "labels: the label 'onready.run'"),
    ({"init": "perhaps"}, "init: Input should be a valid boolean"),
]


@pytest.mark.parametrize(("own", "expected"), BAD)
def test_a_wrong_option_is_named(own: Mapping[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        NodeOptions(image="a").changed(own)


def test_a_nodes_options_go_over_the_backends() -> None:
    base = NodeOptions(
        image="a:1", environment={"A": "1", "B": "2"}, mounts=["/x:/x"], pull="never"
    )
    changed = base.changed({"image": "b:2", "environment": {"B": "3"}, "mounts": ["data:/data:ro"]})
    assert changed.image == "b:2"
    assert changed.environment == {"A": "1", "B": "3"}
    assert changed.mounts == ["/x:/x", "data:/data:ro"]
    assert changed.pull == "never"
    assert base.changed({}) is base


def test_mounts_are_paths_or_volumes() -> None:
    assert read_mount("/a:/b:ro") == Mount("/a", "/b", read_only=True)
    assert read_mount("cache:/var/cache") == Mount("cache", "/var/cache", claim=True)


def test_settings_are_checked_as_all_settings_are() -> None:
    with pytest.raises(ConfigError, match=r"backends\.docker\.imge.*image"):
        create("onready.backends", {"type": "docker", "imge": "a"}, "backends.docker")
    with pytest.raises(ConfigError, match="cannot name a secret"):
        create("onready.backends", {"type": "docker", "login": {"default": "me:secret"}})
    config = create("onready.backends", {"type": "docker", "image": "a", "limit": 3})
    assert isinstance(config, DockerConfig)
    assert config.limit == 3
