"""Codecs of plug-ins, by entry point: real distributions on a real path, in a real interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CODEC = """
class Matrix:
    def __init__(self, cells): self.cells = cells
    def __eq__(self, other): return type(other) is Matrix and other.cells == self.cells
class Unhandled: pass
class MatrixCodec:
    name = "matrix"
    def handles(self, kind): return kind is Matrix
    def encode(self, value):
        if value.cells is None: raise ValueError("no cells")
        return ",".join(map(str, value.cells)).encode(), "v1"
    def decode(self, data, meta):
        assert meta == "v1"
        return Matrix([int(cell) for cell in data.decode().split(",")])
instance = MatrixCodec()
other = object()
"""


def run(folder: Path, entries: str, script: str) -> str:
    """What `script` prints where a distribution with these entry points is installed."""
    (folder / "matrixlib.py").write_text(CODEC)
    info = folder / "matrixlib-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: matrixlib\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[onready.codecs]\n{textwrap.dedent(entries)}\n")
    head = "from onready.engine.values import ValueType, summarise\nfrom onready.engine.errors import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("entry", ["matrix = matrixlib:MatrixCodec", "matrix = matrixlib:instance"])
def test_a_registered_codec_handles_its_class(tmp_path: Path, entry: str) -> None:
    script = """
        import sys
        any_value = ValueType.any()
        any_value.encode([1, {"a": (1,)}])
        assert "matrixlib" not in sys.modules, "asked only when nothing built in fits"
        from matrixlib import Matrix
        from onready.engine.values.codec import load_plugins
        load_plugins()
        stored = any_value.encode(Matrix([1, 2]))
        print(stored.codec, stored.meta, stored.data, summarise(stored, 60))
        assert any_value.decode(stored) == Matrix([1, 2])
        try: any_value.encode([sys])
        except NoCodec as error: print(str(error)[:50])
        nested = {"a": [Matrix([3])], "big": Matrix(list(range(20000)))}
        assert any_value.decode(any_value.encode(nested)) == nested
        typed = ValueType.of(list[Matrix])
        assert typed.decode(typed.encode([Matrix([1])])) == [Matrix([1])]
        try: typed.encode([3])
        except ValueMismatch as error: print(error)
        forced = ValueType.of(Matrix, "matrix")
        assert forced.decode(forced.encode(Matrix([1]))) == Matrix([1])
        try: any_value.encode(Matrix(None))
        except NoCodec as error: print(str(error)[:90])
    """
    assert run(tmp_path, entry, script).splitlines() == [
        "matrix v1 b'1,2' <matrix 3 B>",
        "$[0]: no codec gives module a durable form. Cures:",
        "$[0]: expected Matrix, got int 3",
        "$: no codec gives matrixlib.Matrix a durable form (the codec 'matrix' says: ValueError: no",
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("matrix = matrixlib:MatrixCodec\nnumpy = matrixlib:MatrixCodec", "two codecs are named 'numpy'"),
        ("other = matrixlib:MatrixCodec", "no codec named 'other'"),
        ("other = matrixlib:other", "no codec named 'other'"),
        ("gone = nowhere:Codec", "'gone' (nowhere:Codec) does not load: No module named 'nowhere'"),
    ],
)  # fmt: skip
def test_a_bad_plug_in_is_named(tmp_path: Path, entries: str, message: str) -> None:
    script = """
        from matrixlib import Unhandled
        try: ValueType.any().encode(Unhandled())
        except PluginError as error: print(error)
    """
    assert message in run(tmp_path, entries, script)


def test_two_plug_ins_with_one_name_clash(tmp_path: Path) -> None:
    second = tmp_path / "second-1.0.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 1.0\n")
    (second / "entry_points.txt").write_text("[onready.codecs]\nmatrix = matrixlib:instance\n")
    script = """
        from matrixlib import Unhandled
        try: ValueType.of(int, "matrix")
        except PluginError as error: print(error)
    """
    said = run(tmp_path, "matrix = matrixlib:MatrixCodec", script)
    assert "two codecs are named 'matrix' (onready.codecs)" in said
