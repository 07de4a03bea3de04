"""Instances of the user's classes: classes that changed, moved, or are not what data says."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

from onready.engine.errors import NoCodec, ValueMismatch
from onready.engine.loading import load
from onready.engine.values import ValueType
from onready.engine.values.stored import Encoded
from tests.values.kinds import Doubling, Frozen, Inner, Model, Page, Plain, Point

ANY = ValueType.any()
HERE = "tests.values.kinds"


def stored_as(tag: str, reference: str, content: object) -> Encoded:
    data = msgspec.json.encode({f"${tag}": [0, content]})
    return Encoded("json", data, None, len(data), msgspec.json.encode([reference]).decode())


# --- classes that changed since ---------------------------------------------------------------


def test_a_new_field_of_a_dataclass_gets_its_default() -> None:
    assert ANY.decode(stored_as("data", f"{HERE}:Frozen", {"name": "n"})) == Frozen("n", 0)
    assert ANY.decode(stored_as("data", f"{HERE}:Model", {"alpha": 1.0})) == Model(1.0, [], None)
    with pytest.raises(ValueMismatch, match="has no field 'name'"):
        ANY.decode(stored_as("data", f"{HERE}:Frozen", {"size": 1}))


def test_a_field_that_is_gone_is_named() -> None:
    with pytest.raises(ValueMismatch, match="Frozen has no field 'gone' any more"):
        ANY.decode(stored_as("data", f"{HERE}:Frozen", {"name": "n", "gone": 1}))


def test_a_model_that_changed_is_validated_anew() -> None:
    assert ANY.decode(stored_as("model", f"{HERE}:Inner", [{}, [], None, None])) == Inner()
    more = ANY.decode(stored_as("model", f"{HERE}:Open", [{}, [], {"x": 1}, None]))
    assert isinstance(more, BaseModel)
    assert more.model_extra == {"x": 1}
    with pytest.raises(ValueMismatch, match="does not fit the class any more"):
        ANY.decode(stored_as("model", f"{HERE}:Outer", [{"items": []}, [], None, None]))


def test_a_member_that_is_gone_is_named() -> None:
    for state in ("GREEN", "$missing", 77):
        with pytest.raises(ValueMismatch, match="Colour has no member"):
            ANY.decode(stored_as("enum", f"{HERE}:Colour", state))


def test_a_named_tuple_of_another_length_is_refused() -> None:
    assert ANY.decode(stored_as("named", f"{HERE}:Point", [1, 2.0])) == Point(1, 2.0)
    with pytest.raises(ValueMismatch, match="does not take the stored fields"):
        ANY.decode(stored_as("named", f"{HERE}:Point", [1, 2, 3]))


def test_a_field_without_value_stays_without() -> None:
    value = object.__new__(Doubling)
    value.value = 1
    back = ANY.decode(ANY.encode(value))
    assert isinstance(back, Doubling)
    assert vars(back) == {"value": 1}


# --- what stored data may not choose ----------------------------------------------------------


@pytest.mark.parametrize("tag", ["data", "model", "named", "enum"])
@pytest.mark.parametrize("reference", ["subprocess:Popen", f"{HERE}:Plain", "builtins:dict"])
def test_classes_of_other_kinds_are_refused(tag: str, reference: str) -> None:
    content: Any = [{"args": ["true"]}, [], None, None] if tag == "model" else {"args": ["true"]}
    if tag == "named":
        content = [["true"]]
    with pytest.raises(ValueMismatch, match="no such class"):
        ANY.decode(stored_as(tag, reference, content))


@pytest.mark.parametrize(
    "reference",
    [
        "os:system",
        "nowhere:Class",
        f"{HERE}:Gone",
        f"{HERE}:",
        ":",
        "",
        f"{HERE}:Model.alpha",
        "/no/file.py:Model",
    ],
)
def test_what_is_no_class_is_refused(reference: str) -> None:
    with pytest.raises(ValueMismatch, match="needs the class"):
        ANY.decode(stored_as("data", reference, {}))


def test_only_classes_that_pydantic_knows_are_read_by_it() -> None:
    with pytest.raises(ValueMismatch, match="pydantic does not know"):
        ANY.decode(stored_as("pydantic", f"{HERE}:Plain", "{}"))


def test_an_unknown_tag_is_named() -> None:
    with pytest.raises(ValueMismatch, match=r"\$later"):
        ANY.decode(Encoded("json", b'{"$later":1}', None, 12, "[]"))


def test_a_default_factory_is_one_of_a_table() -> None:
    from onready.engine.errors import StoreError

    with pytest.raises(StoreError):
        ANY.decode(Encoded("json", b'{"$defaultdict":["Popen",[]]}', None, 1, "[]"))


# --- finding classes --------------------------------------------------------------------------


def test_generic_models_are_found_by_their_arguments() -> None:
    value = Page[Page[Inner]](items=[Page[Inner](items=[Inner()])])
    assert ANY.decode(ANY.encode(value)) == value
    with pytest.raises(NoCodec, match="not plain classes"):
        ANY.encode(Page[list[int]](items=[[1]]))
    with pytest.raises(ValueMismatch, match="no generic model"):
        ANY.decode(stored_as("model", f"{HERE}:Plain[builtins:int]", [{}, [], None, None]))


def test_two_arguments_are_told_apart() -> None:
    from onready.engine.values.references import class_of

    found = class_of(f"{HERE}:Page[{HERE}:Page[builtins:int]]", ())
    assert found is Page[Page[int]]
    with pytest.raises(TypeError, match="argument"):
        class_of(f"{HERE}:Page[{HERE}:Page[builtins:int],builtins:str]", ())


def test_a_class_that_another_hides_is_refused() -> None:
    @dataclass
    class Hidden:
        x: int

    Hidden.__module__, Hidden.__qualname__ = HERE, "Model"
    with pytest.raises(NoCodec, match="cannot be found again"):
        ANY.encode([Hidden(1)])


def test_a_class_of_a_vanished_module_is_refused() -> None:
    kind = dataclasses.make_dataclass("Vanished", [("x", int)])
    kind.__module__ = "a_module_that_is_gone"
    with pytest.raises(NoCodec, match="cannot be found again"):
        ANY.encode([kind(1)])


def test_the_annotation_finds_classes_in_fields_and_subclasses() -> None:
    class Kind(enum.Enum):
        ONE = 1

    class Pair(NamedTuple):
        left: Kind
        right: int

    class Options(TypedDict):
        pair: Pair

    @dataclass
    class Base:
        options: Options

    @dataclass
    class Derived(Base):
        more: list[Kind] = field(default_factory=list)

    class Report(BaseModel):
        base: Any
        pair: Pair

    names: dict[str, Any] = {"Kind": Kind, "Pair": Pair, "Options": Options}
    for kind in (Pair, Options, Base, Derived, Report):
        kind.__annotations__ = {
            name: eval_(hint, names) for name, hint in vars(kind)["__annotations__"].items()
        }
    value = {"a": Derived({"pair": Pair(Kind.ONE, 2)}, [Kind.ONE])}
    value_type = ValueType.of(dict[str, Base])
    assert value_type.decode(value_type.encode(value)) == value


def eval_(hint: Any, names: dict[str, Any]) -> Any:
    """Resolve a text annotation of a local class, as a type checker would."""
    scope = types.SimpleNamespace(__annotations__={"hint": hint})
    from typing import get_type_hints

    return get_type_hints(scope, globals(), names)["hint"]


SCRIPT = """
from dataclasses import dataclass
from enum import Enum
from pydantic import BaseModel
class Kind(Enum):
    A = 1
@dataclass
class Score:
    value: float
    kind: Kind = Kind.A
class Report(BaseModel):
    scores: list[Score]
def make() -> Report:
    return Report(scores=[Score(0.5)])
if __name__ == "__main__":
    import sys
    from onready.engine.values import ValueType
    from onready.engine.loading import load
    value = make()
    stored = ValueType.any().encode(value)
    assert ValueType.any().decode(stored) == value, "in the script itself"
    sys.stdout.write(stored.meta + "\\n" + stored.data.decode())
"""


def test_classes_of_a_script_are_found_where_the_file_is_loaded(tmp_path: Path) -> None:
    """As a driver started by `python graph.py` and its workers, which import the file, do it."""
    script = tmp_path / "my graph.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    meta, data = done.stdout.split("\n")
    assert meta == f'["{script}:Report","{script}:Score","{script}:Kind"]'
    stored = Encoded("json", data.encode(), None, len(data), meta)
    report: Any = ANY.decode(stored)
    kind: Any = load(f"{script}:Report")
    assert type(report) is kind
    assert type(report.scores[0]) is load(f"{script}:Score")
    assert ANY.encode(report) == stored
    assert ValueType.of(kind).decode(stored) == report


def test_classes_of_a_module_that_runs_as_main(tmp_path: Path) -> None:
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "graph.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypackage.graph"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert '"mypackage.graph:Report"' in done.stdout


def test_a_class_of_the_same_name_in_the_annotation_serves() -> None:
    """A notebook's classes have no file: whoever decodes knows them by its annotation."""
    stored = stored_as("data", "__nowhere__:Model", {"alpha": 1.0})
    assert ValueType.of(list[Model] | Model).decode(stored) == Model(1.0)


def test_what_is_left_out_of_a_class_is_refused() -> None:
    value = Model(1.0)
    value.note = Plain()  # type: ignore[attr-defined] # as users do
    with pytest.raises(NoCodec, match=r"^\$\.note: "):
        ANY.encode(value)
