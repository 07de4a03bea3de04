"""Classes whose instances the tests send through values: importable, as a user's are."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, RootModel, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from onready.engine.values import File

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "r"
    BLUE = ("b", 1)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@dataclass
class Model:
    alpha: float
    tags: list[str] = field(default_factory=list)
    parent: Model | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    size: int = 0


@dataclass
class Doubling:
    """`__post_init__` is not idempotent, and leaves an attribute that is no field."""

    value: int
    scale: InitVar[int] = 2
    result: int = field(init=False)

    def __post_init__(self, scale: int) -> None:
        self.value *= scale
        self.result = self.value + 1
        self.note = "made"

    @functools.cached_property
    def cached(self) -> Callable[[], int]:
        return lambda: self.value


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Fitted:
    weights: npt.NDArray[np.float64]
    report: File | None = None


@dataclass
class Special(Model):
    extra: int = 0


class Inner(BaseModel):
    size: int = 1


class Outer(BaseModel):
    inner: Inner
    items: list[Inner] = []
    by_id: dict[int, Inner] = {}
    ratio: float = float("inf")
    raw: bytes = b"\xff"
    link: HttpUrl | None = None
    hidden: str = Field(default="h", exclude=True)
    other: str = Field(default="o", alias="otherName")
    _private: int = PrivateAttr(default=0)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = ""


class Halving(BaseModel):
    """A validator that is not idempotent."""

    value: float

    @field_validator("value")
    @classmethod
    def halve(cls, value: float) -> float:
        return value / 2


class Page(BaseModel, Generic[T]):
    items: list[T]


class Numbers(RootModel[list[int]]):
    pass


@pydantic_dataclass
class Checked:
    size: Annotated[int, Field(ge=0)]


class Plain:
    """A class that nothing handles."""


class MyList(list[int]):
    """A subclass that nothing handles: what it adds would be lost."""


Mode = Literal["fast", "slow", 1] | None
