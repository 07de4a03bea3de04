"""Options that users set: amounts of memory, resources, retry policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready import Resources, Retry
from onready.engine.options import RetryPolicy, class_name, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("128", 128),
        ("1k", 1000),
        ("1K", 1000),
        ("1Ki", 1024),
        ("512Mi", 512 * 1024**2),
        ("2G", 2 * 1000**3),
        ("2Gi", 2 * 1024**3),
        ("1.5Gi", 3 * 1024**3 // 2),
        ("1T", 1000**4),
        ("1Ti", 1024**4),
        (" 64M ", 64 * 1000**2),
    ],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size
    assert Resources(memory=text).memory_bytes == size


@pytest.mark.parametrize(
    "text",
    ["", "Mi", "-1", "1m", "1 Gi", "1GB", "1gi", "1e3", "1.", ".5G", "nan", "1Gi\n1", "\u0661"],
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="512Mi"):
        parse_memory(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "k", "Ki", "M", "Mi", "G", "Gi"]))
def test_memory_grows_with_its_number(number: int, unit: str) -> None:
    assert parse_memory(f"{number + 1}{unit}") - parse_memory(f"{number}{unit}") == parse_memory(
        f"1{unit}"
    )


def test_resources() -> None:
    assert Resources().memory_bytes == 0
    with pytest.raises(ValueError, match="negative"):
        Resources(cpu=-1.0)
    with pytest.raises(ValueError, match="negative"):
        Resources(gpu=-1)
    with pytest.raises(ValueError, match="amount of memory"):
        Resources(memory="lots")


def test_retry_policies() -> None:
    made = Retry(3, backoff=1.0, factor=1.0, jitter=True, max_delay=9.0, on=(OSError, "timeout"))
    assert made.policy == RetryPolicy(3, 1.0, 1.0, True, 9.0, ("timeout",), ("builtins.OSError",))
    assert repr(made) == f"Retry({made.policy!r})"
    assert Retry(0).policy == RetryPolicy()


@pytest.mark.parametrize(
    ("limit", "options"),
    [(-1, {}), (1, {"backoff": -0.1}), (1, {"factor": 0.9}), (1, {"max_delay": -1.0})],
)
def test_retry_bounds(limit: int, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(limit, **options)  # type: ignore[arg-type] # numbers, none of them `jitter`


def test_exception_classes_are_named_so_that_another_process_knows_them() -> None:
    class Inner(Exception): ...

    assert class_name(KeyError) == "builtins.KeyError"
    assert class_name(Inner) == f"{__name__}.{Inner.__qualname__}"
