"""The control API keeps what its OpenAPI document says: the document is valid, and real answers fit it."""

import json
import os
import pathlib
import sys
import urllib.error
import urllib.request

import openapi_spec_validator
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BASE = os.environ["BARTIZAN_CONTROL_URL"]
KEY = os.environ["BARTIZAN_API_KEY"]
passed, failed = 0, 0


def check(what, problem):
    global passed, failed
    passed, failed = passed + (not problem), failed + bool(problem)
    print(("FAIL " if problem else "ok   ") + what + (f": {problem}" if problem else ""))


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, {"authorization": f"Bearer {KEY}", "content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


document = call("GET", "/api/v1/openapi.json")[1]
try:
    openapi_spec_validator.validate(document)
    check("the document is valid OpenAPI 3.1", None)
except Exception as error:  # whatever the validator finds
    check("the document is valid OpenAPI 3.1", error)
registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))


def fits(schema, value):
    """What does not fit, or nothing. References point into the document as a whole."""
    absolute = json.loads(json.dumps(schema).replace('"$ref": "#/', '"$ref": "urn:api#/'))
    return next((error.message for error in Draft202012Validator(absolute, registry=registry).iter_errors(value)), None)


def conforms(method, path, actual, body=None):
    operation = document["paths"][path][method.lower()]
    if body is not None:
        check(f"{method} {path}: what is sent", fits(operation["requestBody"]["content"]["application/json"]["schema"], body))
    status, value = call(method, actual, body)
    answer = operation["responses"]["200" if status == 200 else "default"]
    check(f"{method} {path}: {status}", fits(answer["content"]["application/json"]["schema"], value))
    return value


decision = conforms("GET", "/api/v1/decisions", "/api/v1/decisions?limit=5")[0]["record"]["id"]
conforms("GET", "/api/v1/decisions/{id}", f"/api/v1/decisions/{decision}")
conforms("GET", "/api/v1/whoami", "/api/v1/whoami")
conforms("GET", "/api/v1/resources", "/api/v1/resources")
conforms("GET", "/api/v1/policy", "/api/v1/policy")
conforms("GET", "/api/v1/checkpoints", "/api/v1/checkpoints")
key = conforms("POST", "/api/v1/keys", "/api/v1/keys", {"principal_kind": "user", "principal": "alice", "label": "contract", "life_s": 60})
conforms("POST", "/api/v1/keys/{id}/revoke", f"/api/v1/keys/{key['id']}/revoke")
conforms("GET", "/api/v1/keys", "/api/v1/keys")
conforms("POST", "/api/v1/policy/explain", "/api/v1/policy/explain", {"principal": "user/mallory", "action": "model:invoke", "resource": "assistant"})
conforms("GET", "/api/v1/decisions/{id}", "/api/v1/decisions/dec_nothing")
# The schema refuses what the server refuses.
for path, wrong in [
    ("/api/v1/keys", {"principal_kind": "user", "principal": "alice", "lifes": 60}),
    ("/api/v1/keys", {"principal_kind": "robot", "principal": "alice"}),
    ("/api/v1/policy/explain", {"principal": "user/mallory", "action": "model:destroy", "resource": "assistant"}),
]:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    check(f"POST {path} refuses {wrong} in the schema", None if fits(schema, wrong) else "the schema takes it")
    status, value = call("POST", path, wrong)
    check(f"POST {path} refuses {wrong} with {value.get('reason')}", None if status == 400 else f"status {status}")
# The decision API: its document is valid, and the certification scenario's requests are what it describes, or not.
root = pathlib.Path(__file__).resolve().parents[2]
document = json.loads((root / "docs/reference/decision-openapi.json").read_text())
try:
    openapi_spec_validator.validate(document)
    check("the decision API's document is valid OpenAPI 3.1", None)
except Exception as error:  # whatever the validator finds
    check("the decision API's document is valid OpenAPI 3.1", error)
registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))
wrong = []
for case in json.loads((root / "crates/bartizan/tests/house/authzen/certification.json").read_text()):
    schema = document["paths"][case["path"]]["post"]["requestBody"]["content"]["application/json"]["schema"]
    misfit = fits(schema, case["body"])
    # That an id is missing where one is needed is said in words, not in the schema: which one depends on the search.
    if misfit and case.get("status") != 400:
        wrong.append(f"{case['section']}: {misfit}")
check("the certification scenario's requests fit the decision API's document", "; ".join(wrong) or None)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
