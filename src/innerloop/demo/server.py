"""The server of the page: Starlette around `answers`."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
import torch
import uvicorn
from anyio import to_thread
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from innerloop.data.base import ImageClasses
from innerloop.demo.answers import Entry, answer, code, episode
from innerloop.demo.questions import (
    MAX_BODY,
    Code,
    EpisodeRequest,
    Models,
    Question,
    openapi,
)
from innerloop.errors import UserError

Part = TypeVar("Part", bound=BaseModel)

STATIC = Path(__file__).parent / "static"
BODY_SECONDS = 10
ANSWER_SECONDS = 20
# The page may use nothing but this server: no other host is ever asked for anything.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(
    entries: dict[str, Entry], data: ImageClasses, classes: np.ndarray, hosts: list[str]
) -> Starlette:
    """The application; it stores nothing of its requests.

    Args:
        entries: the networks it offers, see `offered`.
        data: where its episodes come from, see `episode_source`.
        classes: rows of the classes to take.
        hosts: the names by which it may be called; `["*"]` for any.
    """
    models = Models(models=[entry.card for entry in entries.values()])
    api = _Api(entries, data, classes)
    return application(
        [
            Mount(
                "/api",
                routes=[
                    Route("/openapi.json", _constant(openapi(list(entries)))),
                    Route("/models", _constant(models.model_dump())),
                    Route("/episode", api.episode),
                    Route("/predict", api.predict, methods=["POST"]),
                    Route("/code", api.code, methods=["POST"]),
                ],
            ),
            # Where this file has networks, the page computes by itself.
            Route("/networks.js", _nothing),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        hosts,
    )


def application(routes: Sequence[BaseRoute], hosts: list[str]) -> Starlette:
    """What answers at `routes`, with headers and errors as on every page of ours.

    Args:
        routes: as of Starlette.
        hosts: the names by which it may be called; `["*"]` for any.
    """
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={HTTPException: _http_error, UserError: _user_error},
    )


def serve(
    app: Starlette,
    listener: socket.socket,
    ready: Callable[[], None],
    started: Callable[[uvicorn.Server], None] = lambda server: None,
) -> None:
    """Serve until interrupted.

    Args:
        app: see `create_app`.
        listener: bound to an address.
        ready: called once requests are taken.
        started: given the server, whose `should_exit` ends it from another thread.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=500,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, ready)
    started(server)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


class _Api:
    def __init__(self, entries: dict[str, Entry], data: ImageClasses, classes: np.ndarray) -> None:
        self.entries, self.data, self.classes = entries, data, classes
        # PyTorch's functional calls write to the module while they run, so that two threads
        # cannot use one network at a time.
        self.one_at_a_time = anyio.CapacityLimiter(1)

    async def predict(self, request: Request) -> Response:
        question = parsed(Question, await json_body(request))
        return JSONResponse((await self._compute(answer, question, self.entries)).model_dump())

    async def code(self, request: Request) -> Response:
        question = parsed(Question, await json_body(request))
        text = await self._compute(code, question, self.entries)
        return JSONResponse(Code(code=text).model_dump())

    async def episode(self, request: Request) -> Response:
        wanted = parsed(EpisodeRequest, dict(request.query_params))
        reply = await self._compute(episode, wanted, self.data, self.classes)
        return JSONResponse(reply.model_dump())

    async def _compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with anyio.move_on_after(ANSWER_SECONDS):
            return await to_thread.run_sync(
                _in_one_thread, function, *arguments, limiter=self.one_at_a_time
            )
        raise HTTPException(503, "too many requests at a time: try again")


def _in_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    # Tensors are too small to be worth sharing out; each thread has a setting of its own.
    torch.set_num_threads(1)
    return function(*arguments)


def parsed(part: type[Part], values: Any) -> Part:
    """`values` as a message of this kind; raises a `UserError` that names what is wrong."""
    try:
        return part.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise UserError(f"{where}: {first['msg']}") from None


async def json_body(request: Request, most: int = MAX_BODY) -> Any:
    """The body of a request as JSON, of at most so many bytes.

    Raises:
        HTTPException: it is too large, too slow, not said to be JSON, or none.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS) as waiting:
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise HTTPException(413, f"the body has more than {most:,} bytes")
    if waiting.cancelled_caught:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS} seconds")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON ({error})") from None


def _constant(value: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(value)

    return endpoint


async def _nothing(request: Request) -> Response:
    return Response(media_type="text/javascript")


def _error(status: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _user_error(request: Request, error: Exception) -> Response:
    return _error(400, str(error))


class _Headers:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await self.app(scope, receive, with_headers)
