"""What in-process nodes print is kept with them; everything else passes through."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from onready.cli.streams import captured
from tests.cli.conftest import Cli

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")

NODES = """\
import io
import logging
import sys

import structlog
from onready import graph, task

log = structlog.get_logger()


@task
def prints() -> str:
    print("line one")
    sys.stdout.write("no break")
    sys.stdout.writelines(["a\\n", "b\\n"])
    sys.stdout.buffer.write(b"\\xff bytes\\n")
    sys.stdout.flush()
    sys.stdout.buffer.flush()
    print("trouble", file=sys.stderr)
    return f"{sys.stdout.isatty()} {sys.stdout.writable()} {sys.stdout.encoding}"


@task
async def speaks() -> str:
    print("async line")
    log.info("an event", size=3)
    try:
        sys.stdout.fileno()
    except io.UnsupportedOperation as error:
        return str(error)
    return "a descriptor"


@graph
def g() -> tuple[str, str]:
    return prints(), speaks()
"""


def test_nodes_have_output_of_their_own(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(NODES)
    said = cli("run", "g.py", "--format", "json", "--name", "r")
    assert said.code == 0, said.err
    assert '"False True utf-8", "a node\'s output has no descriptor of its own"' in said.out
    assert "line one" not in said.out + said.err
    assert cli("logs", "last", "prints", "--stream", "stdout").out == (
        "line one\nno breaka\nb\n\ufffd bytes\n"
    )
    assert cli("logs", "last", "prints", "--stream", "stderr").out == "trouble\n"
    assert cli("logs", "last", "speaks", "--stream", "stdout").out == "async line\n"
    logged = cli("logs", "last", "speaks", "--stream", "stderr").out
    assert "an event" in logged
    assert "node=speaks" in logged
    assert "size=3" in logged


def test_outside_of_nodes_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with captured():
        assert sys.stdout is not before[0]
        print("out")
        print("err", file=sys.stderr)
        sys.stdout.flush()
        assert sys.stdout.encoding == before[0].encoding
        assert sys.stdout.errors == before[0].errors
        assert not sys.stdout.isatty()
        assert sys.stdout.buffer.writable()
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("out\n", "err\n")


def test_bytes_and_descriptors_pass_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    with path.open("w+", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with captured():
            assert sys.stdout.fileno() == file.fileno()
            sys.stdout.buffer.write(b"bytes\n")
            sys.stdout.buffer.flush()
        assert path.read_bytes() == b"bytes\n"
        monkeypatch.undo()
    assert isinstance(sys.stdout, io.TextIOBase)


def test_it_may_outlive_what_is_underneath(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python 3.13 tells of what goes wrong when a stream is let go of: it is flushed then.
    below = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", below)
    with captured():
        kept = sys.stdout
        buffer = kept.buffer
    below.close()
    kept.close()
    buffer.close()
    assert kept.closed
    assert buffer.closed
