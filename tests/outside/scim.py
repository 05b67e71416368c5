"""Provisioning as foreign programs do it: scim2-tester's whole catalogue, then scim2-client's flows for groups, PATCH, bulk, tags and pages."""

import json
import os
import sys
import urllib.error
import urllib.request
import uuid

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import PatchOp, PatchOperation, SearchRequest, UniquenessException
from scim2_tester import Status, check_server

BASE = os.environ["BARTIZAN_CONTROL_URL"]
ADMIN = os.environ["BARTIZAN_API_KEY"]
passed, failed = 0, 0


def check(what, fine, problem=None):
    global passed, failed
    passed, failed = passed + bool(fine), failed + (not fine)
    print(("ok   " if fine else "FAIL ") + what + ("" if fine or problem is None else f": {problem}"))


def call(key, method, path, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/scim+json" if path.startswith("/scim") else "application/json", **(headers or {})}
    request = urllib.request.Request(BASE + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.headers
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None, error.headers


def connector():
    """A workload whose key is good for the directory alone."""
    owner = call(ADMIN, "GET", "/api/v1/whoami")[1]["name"]
    spec = {"kind": "workload", "owner": owner, "purpose": "provisioning", "roles": ["administrator"]}
    status, body, _ = call(ADMIN, "POST", "/api/v1/resources", [{"name": "provisioning", "spec": spec}])
    assert status == 200, body
    key = {"principal_kind": "workload", "principal": "provisioning", "scopes": ["identity:read", "identity:change"]}
    status, body, _ = call(ADMIN, "POST", "/api/v1/keys", key)
    assert status == 200, body
    return body["text"]


KEY = connector()
http = Client(base_url=f"{BASE}/scim/v2", headers={"Authorization": f"Bearer {KEY}"}, timeout=60)

# scim2-tester: what the service says of itself, and every attribute of every resource by POST, GET, PUT, PATCH, DELETE.
results = check_server(SyncSCIMClient(http))
by_status = {}
for result in results:
    by_status[result.status.name] = by_status.get(result.status.name, 0) + 1
    if result.status not in (Status.SUCCESS, Status.SKIPPED):
        print("FAIL", result.resource_type, result.title, str(result.reason)[:600])
print("scim2-tester:", by_status)
others = {name: count for name, count in by_status.items() if name != "SUCCESS"}
check("scim2-tester finds nothing, and skips nothing", not others and by_status.get("SUCCESS", 0) > 100, by_status)

# scim2-client: flows with groups.
scim = SyncSCIMClient(http)
scim.discover()
User, Group = scim.get_resource_model("User"), scim.get_resource_model("Group")
name = f"ann-{uuid.uuid4().hex[:8]}"
ann = scim.create(User(user_name=name, display_name="Ann"))
group = scim.create(Group(display_name=f"Guides {name}", members=[{"value": ann.id}]))
check("a group has its member", [m.value for m in group.members] == [ann.id])
found = scim.query(User, ann.id)
check("a member sees the group", [g.value for g in found.groups] == [group.id])
bob = scim.create(User(user_name=f"bob-{name}"))
operations = PatchOp[Group](operations=[PatchOperation(op="add", path="members", value=[{"value": bob.id}])])
group = scim.modify(Group, group.id, operations)
check("PATCH adds a member", {m.value for m in group.members} == {ann.id, bob.id})
operations = PatchOp[Group](operations=[PatchOperation(op="remove", path=f'members[value eq "{ann.id}"]')])
group = scim.modify(Group, group.id, operations)
check("PATCH removes a member by a filter", [m.value for m in group.members] == [bob.id])
listed = scim.query(User, query_parameters=SearchRequest(filter=f'userName eq "{name.upper()}"'))
check("a filter finds a person in any spelling", listed.total_results == 1 and listed.resources[0].id == ann.id)
try:
    scim.create(User(user_name=name))
    check("a second person of the name is refused", False)
except UniquenessException:
    check("a second person of the name is refused", True)

# Tags, pages and bulk, on the wire.
at = f"/scim/v2/Users/{ann.id}"
status, body, headers = call(KEY, "GET", at)
tag = headers["etag"]
patch = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [{"op": "replace", "path": "title", "value": "Guide"}]}
check("If-Match with the tag", call(KEY, "PATCH", at, patch, {"if-match": tag})[0] == 200)
check("If-Match with an old tag is refused", call(KEY, "PATCH", at, patch, {"if-match": tag})[0] == 412)
now = call(KEY, "GET", at)[2]["etag"]
check("the tag changed with the content", now != tag and call(KEY, "GET", at, headers={"if-none-match": now})[0] == 304)
bulk = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [
    {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": f"all {name}", "members": [{"value": f"bulkId:{n}"} for n in range(5)]}},
    *({"method": "POST", "path": "/Users", "bulkId": str(n), "data": {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": f"u{n}-{name}"}} for n in range(5)),
]}
status, body, _ = call(KEY, "POST", "/scim/v2/Bulk", bulk)
statuses = [operation["status"] for operation in body["Operations"]]
check("bulk operations refer to each other", status == 200 and statuses == ["201"] * 6, body)
seen, cursor = [], ""
while cursor is not None:
    status, body, _ = call(KEY, "GET", f"/scim/v2/Users?count=3&cursor={cursor}")
    seen += [user["id"] for user in body["Resources"]]
    cursor = body.get("nextCursor")
check("pages by cursor give everybody once", len(seen) == len(set(seen)) == body["totalResults"], len(seen))

# Dead with the next request.
key = call(ADMIN, "POST", "/api/v1/keys", {"principal_kind": "user", "principal": name})[1]["text"]
check("a person with a key is known", call(key, "GET", "/api/v1/whoami")[0] == 200)
patch["Operations"] = [{"op": "replace", "path": "active", "value": False}]
check("deactivated", call(KEY, "PATCH", at, patch)[1]["active"] is False)
check("and dead with the next request", call(key, "GET", "/api/v1/whoami")[0] == 401)

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
