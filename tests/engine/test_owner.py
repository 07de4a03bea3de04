"""Owners of leases: who is certainly dead, and who may live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onready.engine import owner
from onready.engine.owner import is_dead, new_owner


def of_a_child() -> str:
    script = "from onready.engine.owner import new_owner; print(new_owner())"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_each_engine_of_a_process_is_another_owner() -> None:
    one, other = new_owner(), new_owner()
    assert one != other
    assert one.split(":")[:-1] == other.split(":")[:-1]
    assert one.split(":")[1] == str(os.getpid())
    assert not is_dead(one)


def test_a_process_that_has_ended_is_dead() -> None:
    assert is_dead(of_a_child())


def test_a_younger_process_with_the_same_number_is_another() -> None:
    host, process, machine, started, random = new_owner().split(":")
    assert is_dead(":".join((host, process, machine, str(int(started) - 1), random)))


def test_a_zombie_is_dead() -> None:
    script = "from onready.engine.owner import new_owner; print(new_owner(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        text = child.stdout.read().decode().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(text)


def test_nobody_knows_of_other_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dead = of_a_child()
    host, process, _, started, random = dead.split(":")
    assert not is_dead(f"{host}:{process}:another:{started}:{random}")
    assert not is_dead("somebody")
    assert not is_dead("a:b:c:d:e")
    monkeypatch.setattr(owner, "_BOOT", tmp_path / "none")
    assert not is_dead(dead)
    assert not is_dead(new_owner())
