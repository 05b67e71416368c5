"""The guard in front of an application that must not be reached."""

import asyncio

import pytest

from bartizan import Answer, Guard, Question, Unreachable

REDACT = {"id": "obl-1", "type": "custom", "properties": {"vendor": "bartizan", "obligation": {"kind": "redact"}}}


class Says:
    def __init__(self, told):
        self.told, self.asked = told, []

    async def evaluate(self, question):
        self.asked.append(question)
        if isinstance(self.told, Exception):
            raise self.told
        return Answer.read(self.told)


def through(told, scope=None, question=lambda scope: Question(("user", "a"), "get", ("page", scope["path"])), **options):
    """Whether the application was reached, and what was sent."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = scope or {"type": "http", "path": "/x", "method": "GET"}
    asyncio.run(Guard(app, Says(told), question, **options)(scope, receive, send))
    return bool(reached), sent


def test_what_is_permitted_reaches_the_application():
    assert through({"decision": True}) == (True, [])


@pytest.mark.parametrize(
    "told, status",
    [
        ({"decision": False, "context": {"reasons": ["forbidden"]}}, 403),
        ({"decision": True, "context": {"obligations": [REDACT]}}, 403),
        (Unreachable("nobody"), 503),
        ({"decision": "yes"}, 503),
        (RuntimeError("broken"), 500),
    ],
)
def test_everything_else_does_not(told, status):
    reached, sent = through(told)
    assert not reached and sent[0]["status"] == status


def test_a_request_without_a_question_and_one_whose_question_fails_are_refused():
    assert through({"decision": True}, question=lambda scope: None)[0] is False
    assert through({"decision": True}, question=lambda scope: scope["nobody"])[0] is False


def test_obligations_that_are_registered_are_applied_and_must_say_so():
    done = []

    def redact(scope, obligation):
        done.append(obligation.id)
        return True

    with_obligation = {"decision": True, "context": {"obligations": [REDACT]}}
    assert through(with_obligation, obligations={"redact": redact})[0] is True and done == ["obl-1"]
    assert through(with_obligation, obligations={"redact": lambda *_: None})[0] is False
    assert through(with_obligation, obligations={"redact": lambda *_: 1 / 0})[0] is False
    assert through(with_obligation, obligations={"cap": redact})[0] is False


def test_open_paths_are_open_to_the_letter_and_sockets_are_guarded():
    denied = {"decision": False}
    path = lambda path, kind="http": {"type": kind, "path": path, "method": "GET"}
    assert through(denied, path("/health"), open_paths={"/health"})[0] is True
    assert through(denied, path("/health/../admin"), open_paths={"/health"})[0] is False
    assert through(denied, path("/healthz"), open_paths={"/health"})[0] is False
    reached, sent = through(denied, path("/health", "websocket"), open_paths={"/health"})
    assert not reached and sent == [{"type": "websocket.close", "code": 1008}]
    assert through(denied, {"type": "lifespan"})[0] is True
