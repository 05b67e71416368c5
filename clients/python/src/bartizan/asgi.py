"""ASGI middleware: no request reaches the application that policy does not permit."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from ._client import Answer, DecisionError, Obligation, Question

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("bartizan")


class Asks(Protocol):
    """What the guard asks: an :class:`~bartizan.AsyncClient`."""

    async def evaluate(self, question: Question) -> Answer:
        """Asks one question."""


class Guard:
    """Asks for every request over HTTP and WebSocket before the application sees it.

    `question` says what a request is, from its scope; it must take the subject from what the application has verified (a session, a
    checked token), never from the request's own word. `None` means that the application has no question for it, which is denied:
    name what is open to everybody in `open_paths`.

    `obligations` are what the application can apply, by kind; each is called with the scope and the obligation and says with `True`
    that it did (or noted in the scope that it will). What is not named there makes the answer a no.
    """

    def __init__(
        self,
        app: App,
        client: Asks,
        question: Callable[[Scope], Question | None],
        *,
        obligations: dict[str, Callable[[Scope, Obligation], object]] | None = None,
        open_paths: frozenset[str] | set[str] = frozenset(),
    ) -> None:
        self._app = app
        self._client = client
        self._question = question
        self._obligations = dict(obligations or {})
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is permitted, and what is no request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        status, reasons = await self._decide(scope)
        if status == 200:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008 if status == 403 else 1013})
        else:
            body = json.dumps({"error": {"code": reasons[0] if reasons else "denied", "reasons": reasons}}).encode()
            headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _decide(self, scope: Scope) -> tuple[int, list[str]]:
        try:
            question = self._question(scope)
            if question is None:
                return 403, ["no_question"]
            answer = await self._client.evaluate(question)
        except DecisionError as error:
            log.error("there is no decision, so the request is refused: %s", error)
            return 503, ["no_decision"]
        except Exception:
            log.exception("the question could not be asked, so the request is refused")
            return 500, ["no_decision"]
        unable: list[str] = []

        def apply(obligation: Obligation) -> bool:
            for kind, doing in self._obligations.items():
                if obligation.own(kind) is not None:
                    try:
                        return doing(scope, obligation) is True
                    except Exception:
                        log.exception("an obligation could not be applied")
                        return False
            unable.append("obligation_unsupported")
            return False

        if answer.permits(apply):
            return 200, []
        return 403, list(answer.reasons) or unable or ["obligation_failed"]
