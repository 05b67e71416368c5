"""Questions, answers, and the client that carries them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: The longest answer that is read, in bytes.
ANSWER_MAX = 16 << 20


class DecisionError(Exception):
    """There is no answer. That is no permit."""


class AddressError(DecisionError, ValueError):
    """The address of the decision point is not one."""


class Unreachable(DecisionError):
    """The decision point could not be reached, or not in time."""


class ForeignAnswer(DecisionError):
    """What came back is not an answer of the specification."""


class Refused(DecisionError):
    """The decision point does not answer: the question is malformed, the key is not good, or policy does not let it ask."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code} (HTTP {status}): {message}")
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Question:
    """May this subject do this to that resource? Subject and resource are a type and an id."""

    subject: tuple[str, str]
    action: str
    resource: tuple[str, str]
    subject_properties: Mapping[str, Any] = field(default_factory=dict)
    action_properties: Mapping[str, Any] = field(default_factory=dict)
    resource_properties: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The question as it is sent."""

        def entity(of: tuple[str, str], properties: Mapping[str, Any]) -> dict[str, Any]:
            out: dict[str, Any] = {"type": of[0], "id": of[1]}
            return {**out, "properties": dict(properties)} if properties else out

        action: dict[str, Any] = {"name": self.action}
        if self.action_properties:
            action["properties"] = dict(self.action_properties)
        out: dict[str, Any] = {
            "subject": entity(self.subject, self.subject_properties),
            "action": action,
            "resource": entity(self.resource, self.resource_properties),
        }
        if self.context:
            out["context"] = dict(self.context)
        return out


@dataclass(frozen=True)
class Obligation:
    """What must be done for an answer to stand (AuthZEN obligations profile)."""

    id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)

    def own(self, kind: str) -> Mapping[str, Any] | None:
        """The obligation in Bartizan's own words, where it is of the kind `kind` (`redact`, `cap` …)."""
        own = self.properties.get("obligation")
        ours = self.type == "custom" and self.properties.get("vendor") == "bartizan"
        return own if ours and isinstance(own, dict) and own.get("kind") == kind else None


@dataclass(frozen=True)
class Answer:
    """What was decided. To be let through, ask :meth:`permits`: an answer has no truth of its own."""

    decision: bool
    obligations: tuple[Obligation, ...] = ()
    reasons: tuple[str, ...] = ()

    def permits(self, apply: Callable[[Obligation], object] | None = None) -> bool:
        """Whether it may happen, where `apply` applies an obligation and says with `True` that it did.

        Every obligation is applied that can be, also one that stands beside another which cannot. Without `apply` none is.
        """
        done = [apply(one) is True if apply else False for one in self.obligations]
        return self.decision is True and all(done)

    def __bool__(self) -> bool:
        raise TypeError("ask `permits()`: an answer can be a yes under obligations")

    @classmethod
    def read(cls, value: object) -> Answer:
        """Reads an answer strictly.

        :raises ForeignAnswer: when it is not one.
        """
        if not isinstance(value, dict) or not isinstance(value.get("decision"), bool):
            raise ForeignAnswer("the answer has no decision")
        context = value.get("context", {})
        if not isinstance(context, dict):
            raise ForeignAnswer("the context is not an object")
        obligations = context.get("obligations", [])
        reasons = context.get("reasons", [])
        if not isinstance(obligations, list) or not isinstance(reasons, list):
            raise ForeignAnswer("obligations and reasons are lists")
        return cls(value["decision"], tuple(_obligation(one) for one in obligations), tuple(str(one) for one in reasons))


def _obligation(value: object) -> Obligation:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not isinstance(value.get("type"), str):
        raise ForeignAnswer("an obligation has an id and a type")
    properties = value.get("properties", {})
    if not isinstance(properties, dict):
        raise ForeignAnswer("the properties of an obligation are an object")
    return Obligation(value["id"], value["type"], properties)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """Asks a decision point. Calls block, and nothing is asked twice: what is not answered is not permitted."""

    def __init__(self, base: str, key: str, *, timeout: float = 5.0) -> None:
        """:param base: the address of the data plane, such as ``https://gateway.example.com``.
        :param key: the key of a workload that may ask.
        :param timeout: seconds that an answer may take.
        :raises AddressError: when `base` is no address.
        """
        parts = urllib.parse.urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise AddressError(f"`{base}` is not an address such as `https://gateway.example.com`")
        self._base = base.rstrip("/")
        self._key = key
        self._timeout = timeout
        # Neither redirects nor proxies of the environment: the key goes to the decision point alone.
        self._opener = urllib.request.build_opener(_NoRedirect(), urllib.request.ProxyHandler({}))

    def __repr__(self) -> str:
        return f"Client({self._base!r})"

    def evaluate(self, question: Question) -> Answer:
        """Asks one question.

        :raises DecisionError: when there is no answer.
        """
        return Answer.read(self._post("/access/v1/evaluation", question.to_json()))

    def evaluate_all(self, questions: Iterable[Question]) -> list[Answer]:
        """Asks several questions at once; the answers stand in their order.

        :raises DecisionError: when there is no answer to each.
        """
        asked = [question.to_json() for question in questions]
        if not asked:
            return []
        told = self._post("/access/v1/evaluations", {"evaluations": asked})
        answers = told.get("evaluations") if isinstance(told, dict) else None
        if not isinstance(answers, list) or len(answers) != len(asked):
            raise ForeignAnswer("there are not as many answers as questions")
        return [Answer.read(one) for one in answers]

    def resources(self, question: Question) -> list[str]:
        """The ids of everything of the resource's type that `question` may be said of; the resource's id in it means nothing.

        :raises DecisionError: when there is no answer, or it has no end.
        """
        asked = question.to_json()
        del asked["resource"]["id"]
        found: list[str] = []
        token = ""
        while True:
            told = self._post("/access/v1/search/resource", {**asked, "page": {"token": token, "limit": 1000}})
            results = told.get("results") if isinstance(told, dict) else None
            if not isinstance(results, list) or not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in results):
                raise ForeignAnswer("a search answers with a list of results")
            found += [one["id"] for one in results]
            page = told.get("page") or {}
            after = page.get("next_token") or "" if isinstance(page, dict) else ""
            if not after:
                return found
            if after == token:
                raise ForeignAnswer("a page that goes on with itself")
            token = after

    def _post(self, path: str, body: object) -> Any:
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        request = urllib.request.Request(self._base + path, json.dumps(body).encode(), headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, text = answer.status, answer.read(ANSWER_MAX + 1)
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except (OSError, ValueError) as error:
            raise Unreachable(f"the decision point at {self._base} does not answer: {error}") from error
        except Exception as error:  # `http.client` has errors of its own for broken answers
            raise Unreachable(f"the decision point at {self._base} broke off: {type(error).__name__}") from error
        if status != 200 or len(text) > ANSWER_MAX:
            raise ForeignAnswer(f"HTTP {status}, {len(text)} bytes")
        try:
            return json.loads(text, object_pairs_hook=_once)
        except ValueError as error:
            raise ForeignAnswer(str(error)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a member stands twice")
    return out


def _refused(error: urllib.error.HTTPError) -> Refused:
    try:
        told = json.loads(error.read(ANSWER_MAX))["error"]
        return Refused(error.code, str(told.get("code", "unknown")), str(told.get("message", "")))
    except Exception:  # whatever stands there, it is no answer
        return Refused(error.code, "unknown", "the decision point refused to answer")


class AsyncClient:
    """The same for programs that wait for many things at once; each question waits in a thread."""

    def __init__(self, base: str, key: str, *, timeout: float = 5.0) -> None:
        """As for :class:`Client`."""
        self._client = Client(base, key, timeout=timeout)

    def __repr__(self) -> str:
        return f"Async{self._client!r}"

    async def evaluate(self, question: Question) -> Answer:
        """As :meth:`Client.evaluate`."""
        return await asyncio.to_thread(self._client.evaluate, question)

    async def evaluate_all(self, questions: Iterable[Question]) -> list[Answer]:
        """As :meth:`Client.evaluate_all`."""
        return await asyncio.to_thread(self._client.evaluate_all, list(questions))

    async def resources(self, question: Question) -> list[str]:
        """As :meth:`Client.resources`."""
        return await asyncio.to_thread(self._client.resources, question)
