"""Refs: everything one can do to a value, allowed or refused."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest

from onready.engine.graph import Ref, graph
from tests.graph.defs import anything, inc, pair, refused

REFUSED: dict[str, Callable[[Any], object]] = {
    "==": lambda ref: ref == 1,
    "!=": lambda ref: ref != 1,
    "<": lambda ref: ref < 1,
    "<=": lambda ref: ref <= 1,
    ">": lambda ref: ref > 1,
    ">=": lambda ref: ref >= 1,
    "+": lambda ref: ref + 1,
    "-": lambda ref: 1 - ref,
    "*": lambda ref: 2 * ref,
    "@": lambda ref: ref @ ref,
    "/": lambda ref: ref / 2,
    "//": lambda ref: ref // 2,
    "%": lambda ref: ref % 2,
    "**": lambda ref: ref**2,
    "&": lambda ref: ref & 1,
    "|": lambda ref: 1 | ref,
    "^": lambda ref: ref ^ 1,
    "<<": lambda ref: ref << 1,
    ">>": lambda ref: ref >> 1,
    "~": lambda ref: ~ref,
    "abs": abs,
    "round": round,
    "divmod": lambda ref: divmod(ref, 2),
    "int": int,
    "float": float,
    "complex": complex,
    "str": str,
    "format": lambda ref: f"{ref}",
    "bytes": bytes,
    "index": lambda ref: [1, 2][ref],
    "in": lambda ref: 1 in ref,
    "next": next,
    "reversed": reversed,
    "[...] =": lambda ref: operator.setitem(ref, "k", 1),
    "del": lambda ref: operator.delitem(ref, "k"),
    "pickle": pickle.dumps,
}


def with_ref(use: Callable[[Any], object]) -> object:
    found: list[object] = []

    @graph
    def main() -> None:
        found.append(use(inc(1)))

    main.bind().graph  # noqa: B018 - traces
    return found[0]


@pytest.mark.parametrize("sign", REFUSED)
def test_refused(sign: str) -> None:
    with refused("G013", f"`{sign}` on the result of inc", "Do it inside a task"):
        with_ref(REFUSED[sign])


def test_refused_call_and_odd_keys() -> None:
    with refused("G013", "the result of inc.upper is called"):
        with_ref(lambda ref: ref.upper())
    for key in (slice(1), 1.5, None, True):
        with refused("G013", "only texts and integers"):
            with_ref(operator.itemgetter(key))


def test_private_attributes_are_none() -> None:
    with pytest.raises(AttributeError, match="no private attribute '_repr_html_'"):
        with_ref(lambda ref: ref._repr_html_)
    assert with_ref(lambda ref: hasattr(ref, "__array__")) is False


def test_attributes_cannot_be_set() -> None:
    def assign(ref: Any) -> None:
        ref.size = 1

    with pytest.raises(AttributeError):
        with_ref(assign)


def test_what_is_allowed() -> None:
    assert with_ref(repr) == "<ref the result of inc>"
    assert with_ref(lambda ref: repr(ref["a"].b[0])) == "<ref the result of inc['a'].b[0]>"
    assert with_ref(lambda ref: copy.deepcopy(ref) is ref and copy.copy(ref) is ref) is True
    assert with_ref(lambda ref: len({ref: 1, ref[0]: 2})) == 2
    assert with_ref(lambda ref: ref is None) is False
    assert isinstance(with_ref(lambda ref: ref), Ref)


def test_every_attribute_is_a_projection() -> None:
    """A ref has no public name of its own that would hide a field of the value."""
    assert [name for name in dir(Ref) if not name.startswith("_")] == []


def test_unpacking_a_projection_without_an_arity() -> None:
    @graph
    def main() -> None:
        number, text = pair(1)
        anything(number, y=text)
        _, _ = cast("Any", anything(1))

    with refused("G012", "cannot iterate over the result of anything"):
        main.bind().graph  # noqa: B018 - traces
