r"""One engine inside a FastAPI app: runs are started over HTTP and watched as server-sent events.

    uvicorn fastapi_app:app --app-dir examples

    curl -X POST localhost:8000/runs -H 'Content-Type: application/json' \
         -d '{"texts": ["to be or not to be", "that is the question"]}'
    curl -N localhost:8000/runs/ID/events                     # as it happens, to the run's end
    curl -N localhost:8000/runs/ID/events -H 'Last-Event-ID: 7'     # what came after event 7
    curl localhost:8000/runs/ID
    curl -X DELETE localhost:8000/runs/ID

The engine shares the app's event loop: no server, no broker, no worker to look after. Runs are on
disk, so their events can be read again after the app was restarted.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from onready import Engine, Run, RunNotFound, each, graph, task
from onready.engine.spi import RunRecord
from onready.engine.wire import to_json

# --- what is run ------------------------------------------------------------------------------


@task
async def count_words(text: str, pause: float) -> dict[str, int]:
    """How often each word is in the text. `pause` stands for a call to another service."""
    await asyncio.sleep(pause)
    return dict(Counter(text.lower().split()))


@task
def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    """All counts together, the most frequent first."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


@graph
def word_counts(texts: list[str], pause: float) -> dict[str, int]:
    """The words of many texts, all texts at once."""
    return add_up(count_words.map(each(texts), pause))


# --- the app ----------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The engine lives as long as the app; runs that are not done by then are cancelled."""
    async with Engine(folder=os.environ.get("APP_FOLDER", ".onready"), max_parallel=100) as engine:
        app.state.engine = engine
        app.state.live = {}
        yield


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """What `POST /runs` takes."""

    texts: list[str] = Field(max_length=1000)
    pause: float = Field(0.5, ge=0, le=60, description="seconds that each text takes")


class Status(BaseModel):
    """What is known of a run."""

    id: str
    name: str
    status: str
    words: dict[str, int] | None = None
    failures: list[str] = []


@app.post("/runs", status_code=202)
async def start(order: Order, request: Request) -> Status:
    """Start a run and come back at once."""
    run = await _engine(request).start(word_counts.bind(order.texts, order.pause))
    _live(request)[run.id] = run
    return Status(id=run.id, name=run.name, status="running")


@app.get("/runs/{run_id}")
async def show(run_id: str, request: Request) -> Status:
    """How far the run is, and its result once it has one."""
    record = await _record(run_id, request)
    status = Status(id=record.run, name=record.name, status=record.status)
    run = _live(request).get(run_id)
    if run is not None and record.status != "running":
        end = await run.wait()
        status.words = end.value
        status.failures = [f"{failure.node}: {failure}" for failure in end.failures]
    return status


@app.get("/runs/{run_id}/events")
async def watch(
    run_id: str,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> StreamingResponse:
    """The run's events as server-sent events, from the one after `Last-Event-ID` to the last.

    A browser's EventSource sends that header by itself when it connects again.
    """
    await _record(run_id, request)
    run = _live(request).get(run_id)
    events = run.events(last_event_id) if run else _engine(request).history(run_id, last_event_id)

    async def lines() -> AsyncIterator[str]:
        async for event in events:
            data = to_json(run_id, event)
            yield f"id: {data['seq']}\nevent: {data['type']}\ndata: {json.dumps(data)}\n\n"

    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


@app.delete("/runs/{run_id}", status_code=202)
async def cancel(run_id: str, request: Request) -> Status:
    """Stop the run; what it was doing gets a second to end well."""
    run = _live(request).get(run_id)
    if run is not None:
        await run.cancel(reason="asked over HTTP", grace=1.0)
    return await show(run_id, request)


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _live(request: Request) -> dict[str, Run[dict[str, int]]]:
    live: dict[str, Run[dict[str, int]]] = request.app.state.live
    return live


async def _record(run_id: str, request: Request) -> RunRecord:
    try:
        return await _engine(request).find(run_id)
    except RunNotFound as error:
        raise HTTPException(404, str(error)) from None
