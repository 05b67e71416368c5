"""The client against a decision point that answers whatever a test wants."""

import http.server
import json
import threading

import pytest

from bartizan import AddressError, Answer, Client, DecisionError, ForeignAnswer, Obligation, Question, Refused, Unreachable

REDACT = {"id": "obl-1", "type": "custom", "properties": {"vendor": "bartizan", "obligation": {"kind": "redact", "detectors": ["email"]}}}
OTHER = {"id": "obl-2", "type": "notification", "properties": {}}
QUESTION = Question(("user", "alice"), "read", ("record", "7"), context={"ip": "192.0.2.1"})


@pytest.fixture
def point():
    """A decision point; `answers` are what it says next, `asked` what it was asked."""

    class Point(http.server.BaseHTTPRequestHandler):
        answers, asked = [], []

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            Point.asked.append((self.path, self.headers["authorization"], json.loads(body)))
            status, headers, answer = Point.answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Point)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Point.base = f"http://127.0.0.1:{server.server_port}"
    yield Point
    server.shutdown()
    server.server_close()


def says(point, value, status=200, **headers):
    point.answers.append((status, headers, value if isinstance(value, bytes) else json.dumps(value).encode()))


def redacts(obligation):
    return obligation.own("redact") is not None


def test_only_a_yes_whose_every_obligation_is_applied_is_a_permit():
    def answer(decision, *obligations):
        return Answer.read({"decision": decision, "context": {"obligations": list(obligations)}})

    assert answer(True).permits()
    assert not answer(False).permits(lambda _: True)
    assert answer(True, REDACT).permits(redacts)
    assert not answer(True, REDACT).permits()
    assert not answer(True, REDACT, OTHER).permits(redacts)
    assert not answer(False, REDACT).permits(redacts)
    assert not answer(True, REDACT).permits(lambda _: "yes"), "only `True` is done"
    seen = []
    answer(True, OTHER, REDACT).permits(lambda one: seen.append(one.id))
    assert seen == ["obl-2", "obl-1"], "what can be applied is applied, whatever else there is"
    with pytest.raises(TypeError):
        bool(answer(True))


@pytest.mark.parametrize(
    "value",
    [
        {}, [], None, True, {"decision": "true"}, {"decision": 1}, {"decision": None}, {"decision": True, "context": []},
        {"decision": True, "context": {"obligations": {}}}, {"decision": True, "context": {"obligations": [{"id": "x"}]}},
        {"decision": True, "context": {"obligations": [{"id": "x", "type": "y", "properties": []}]}},
    ],
)
def test_what_is_no_decision_is_no_answer(point, value):
    says(point, value)
    with pytest.raises(ForeignAnswer):
        Client(point.base, "k").evaluate(QUESTION)


def test_a_question_is_sent_as_the_specification_writes_it(point):
    says(point, {"decision": True})
    assert Client(point.base + "/", "the-key").evaluate(QUESTION).permits()
    path, authorization, body = point.asked.pop()
    assert (path, authorization) == ("/access/v1/evaluation", "Bearer the-key")
    assert body == {"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "7"}, "context": {"ip": "192.0.2.1"}}


@pytest.mark.parametrize("answer", [b"", b"{", b'{"decision":false,"decision":true}', b"<html>"])
def test_what_is_no_json_or_can_be_read_in_two_ways_is_no_answer(point, answer):
    says(point, answer)
    with pytest.raises(ForeignAnswer):
        Client(point.base, "k").evaluate(QUESTION)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_a_refusal_to_answer_is_no_permit_whatever_it_says(point, status):
    says(point, {"decision": True, "error": {"code": "forbidden", "message": "no"}}, status)
    with pytest.raises(Refused) as refused:
        Client(point.base, "k").evaluate(QUESTION)
    assert (refused.value.status, refused.value.code) == (status, "forbidden")


def test_the_key_follows_no_redirect(point):
    says(point, b"", 307, location=point.base + "/elsewhere")
    says(point, {"decision": True})
    with pytest.raises(DecisionError):
        Client(point.base, "k").evaluate(QUESTION)
    assert [path for path, *_ in point.asked] == ["/access/v1/evaluation"]
    point.asked.clear()


def test_the_key_goes_to_no_proxy_of_the_environment(point, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    says(point, {"decision": True})
    assert Client(point.base, "k").evaluate(QUESTION).permits()


def test_a_decision_point_that_is_not_there_permits_nothing():
    with pytest.raises(Unreachable):
        Client("http://127.0.0.1:1", "k").evaluate(QUESTION)


@pytest.mark.parametrize("bad", ["", "gateway", "ftp://gateway", "https://", "file:///etc", "https://a@b", "https://a?b"])
def test_an_address_is_one(bad):
    with pytest.raises(AddressError):
        Client(bad, "k")


def test_the_key_is_not_shown():
    assert "secret" not in repr(Client("https://gateway.example.com", "secret"))


def test_several_questions_have_as_many_answers(point):
    client = Client(point.base, "k")
    assert client.evaluate_all([]) == []
    says(point, {"evaluations": [{"decision": True}, {"decision": False}]})
    assert [one.permits() for one in client.evaluate_all([QUESTION, QUESTION])] == [True, False]
    for short in ({"evaluations": [{"decision": True}]}, {"evaluations": None}, []):
        says(point, short)
        with pytest.raises(ForeignAnswer):
            client.evaluate_all([QUESTION, QUESTION])


def test_a_search_is_whole_or_none(point):
    client = Client(point.base, "k")
    says(point, {"results": [{"type": "record", "id": "1"}], "page": {"next_token": "a"}})
    says(point, {"results": [{"type": "record", "id": "2"}], "page": {"next_token": ""}})
    assert client.resources(QUESTION) == ["1", "2"]
    assert "id" not in point.asked[-1][2]["resource"]
    for _ in range(2):
        says(point, {"results": [], "page": {"next_token": "again"}})
    with pytest.raises(ForeignAnswer):
        client.resources(QUESTION)
    says(point, {"results": [{"type": "record"}]})
    with pytest.raises(ForeignAnswer):
        client.resources(QUESTION)


def test_an_obligation_of_another_vendor_is_not_ours():
    assert Obligation("1", "custom", {"vendor": "other", "obligation": {"kind": "redact"}}).own("redact") is None
    assert Obligation("1", "other", {"vendor": "bartizan", "obligation": {"kind": "redact"}}).own("redact") is None
    assert Obligation("1", "custom", {"vendor": "bartizan", "obligation": "redact"}).own("redact") is None
