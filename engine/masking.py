"""The values of secrets, kept out of sight: what this process has resolved is masked in its words.

Whoever resolves a secret registers its value here. From then on output, failures, progress and
warnings that pass through this process show `***` where the value was: plain, in base64 at any
alignment, quoted for a URL, escaped for JSON or as Python prints it.

Rule of this room: texts and bytes only; imports nothing of ours but the shape of a failure. While
no secret is registered, every function here is one look at an empty tuple.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from onready.engine.errors import Failure

MASK: Final = "***"
SHORTEST: Final = 4
"""Characters below which a value is not masked: it would be found everywhere."""
_LINE: Final = 8
"""Characters from which a line of a value of several lines is masked on its own."""
_HELD: Final = 1 << 16
_MASK: Final = MASK.encode()


class Masks:
    """The forms of all values that this process has resolved, longest first."""

    __slots__ = ("_known", "_lock", "forms")

    def __init__(self) -> None:
        self.forms: tuple[bytes, ...] = ()
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def register(self, value: str) -> None:
        """Mask `value` from now on, until the process ends; from any thread."""
        if value in self._known:
            return
        with self._lock:
            if value in self._known:
                return
            forms = {*self.forms, *forms_of(value)}
            # A new tuple: other threads are reading the old one.
            self.forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
            # Last: whoever finds it there may go and use it, and its forms must be masked by then.
            self._known.add(value)

    def clear(self) -> None:
        """Forget everything: for tests."""
        with self._lock:
            self._known.clear()
            self.forms = ()


MASKS: Final = Masks()
"""This process's own: a secret in one engine is a secret in all."""


def forms_of(value: str) -> set[bytes]:
    """How `value` may look in somebody's words."""
    texts = {value, *(line for line in value.splitlines() if len(line.strip()) >= _LINE)}
    forms: set[bytes] = set()
    for text in texts:
        if len(text) >= SHORTEST:
            forms.update(_forms_of(text))
    return {form for form in forms if len(form) >= SHORTEST}


def _forms_of(text: str) -> Iterator[bytes]:
    raw = text.encode("utf-8", "surrogateescape")
    yield raw
    yield from _base64(raw)
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted.encode()
        yield _lower_escapes(quoted).encode()
    for escaped in (json.dumps(text)[1:-1], repr(text)[1:-1], ascii(text)[1:-1], repr(raw)[2:-1]):
        yield escaped.encode("utf-8", "surrogateescape")
        # Escaped once more: JSON inside JSON, and slashes as some write them.
        yield json.dumps(escaped)[1:-1].encode()
        yield escaped.replace("/", "\\/").encode("utf-8", "surrogateescape")
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")


def _lower_escapes(quoted: str) -> str:
    head, *rest = quoted.split("%")
    return head + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _base64(raw: bytes) -> Iterator[bytes]:
    """Its own base64, and what is `raw` alone in the base64 of any text around it."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw)
        yield encode(raw).rstrip(b"=")
        for before in range(3):
            coded = encode(b"\0" * before + raw)
            # Characters of which some bits are a neighbour's are left out.
            start = -(-before * 8 // 6)
            end = (before + len(raw)) * 8 // 6
            yield coded[start:end]


# --- masking ----------------------------------------------------------------------------------


def mask_bytes(data: bytes) -> bytes:
    """`data` with the mask in place of every secret."""
    forms = MASKS.forms
    if not forms:
        return data
    spans = _merged(_spans(data, forms))
    if not spans:
        return data
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += (data[at:start], _MASK)
        at = end
    parts.append(data[at:])
    return b"".join(parts)


def mask_text(text: str) -> str:
    """`text` with the mask in place of every secret."""
    if not MASKS.forms or not text:
        return text
    data = text.encode("utf-8", "surrogatepass")
    masked = mask_bytes(data)
    return text if masked is data else masked.decode("utf-8", "surrogatepass")


def mask_failure(failure: Failure) -> Failure:
    """The failure with the mask in all its texts."""
    if not MASKS.forms:
        return failure
    frames = [
        msgspec.structs.replace(frame, code=mask_text(frame.code)) for frame in failure.frames
    ]
    return msgspec.structs.replace(
        failure,
        message=mask_text(failure.message),
        reason=mask_text(failure.reason),
        log=tuple(map(mask_text, failure.log)),
        frames=tuple(frames),
    )


def mask_event(
    _logger: object, _method: str, event: str | bytes | MutableMapping[str, object]
) -> str | bytes | MutableMapping[str, object]:
    """A structlog processor: put it last, behind the renderer, to mask what is written."""
    if isinstance(event, str):
        return mask_text(event)
    if isinstance(event, bytes):
        return mask_bytes(event)
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = mask_text(value)
    return event


def _spans(data: bytes, forms: Iterable[bytes]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for form in forms:
        at = data.find(form)
        while at >= 0:
            found.append((at, at + len(form)))
            at = data.find(form, at + 1)
    return found


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


class OutputMask:
    """Masks a stream that comes in pieces: what may be the beginning of a secret is held back."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown by now; the rest comes with the next piece or with `end`."""
        forms = MASKS.forms
        if not forms and not self._held:
            return data
        data = self._held + data
        cut = _beginning(data, forms)
        # A whole secret that reaches into what is held back must stay in one piece with it.
        for start, end in _merged(_spans(data, forms)):
            if start < cut < end:
                # But not without end: of a secret like "----", pages may be one such piece.
                cut = start if cut - start < _HELD else end
        self._held = data[cut:]
        return mask_bytes(data[:cut])

    def end(self) -> bytes:
        """What was held back: no more comes. A secret that was cut off there stays hidden."""
        held, self._held = self._held, b""
        if len(held) < SHORTEST:
            return held
        masked = mask_bytes(held)
        cut = _beginning(masked, MASKS.forms)
        return masked[:cut] + (_MASK if len(masked) - cut >= SHORTEST else masked[cut:])


def _beginning(data: bytes, forms: Iterable[bytes]) -> int:
    """Where the longest end of `data` begins with which some form begins, but does not end."""
    first = len(data)
    for form in forms:
        at = data.find(form[:1], max(0, len(data) - len(form) + 1))
        while 0 <= at < first:
            if form.startswith(data[at:]):
                first = at
                break
            at = data.find(form[:1], at + 1)
    return first
