"""Foreign judges on the golden files of the exports: the OCSF schema on the events, OpenTelemetry's own protocol definition on the
requests, Apache Arrow on the table, and plain Python on the hashes and on what the formats say about the same record."""

import copy
import hashlib
import json
import pathlib
import re
import sys

import pyarrow.parquet
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "crates" / "export" / "tests" / "golden"
VERSION = "1.8.0"
passed, failed = 0, 0


def check(what, problem):
    global passed, failed
    passed, failed = passed + (not problem), failed + bool(problem)
    print(("FAIL " if problem else "ok   ") + what + (f": {problem}" if problem else ""))


def lines(extension):
    return (GOLDEN / f"records.{extension}").read_text().splitlines()


schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))
# The same as data: captions, profiles and what is given up are not in the JSON Schema.
compiled = json.loads((pathlib.Path(sys.modules["ocsf_json_schema"].__file__).parent / "ocsf" / f"{VERSION}.json").read_text())
classes = {c["uid"]: c for c in compiled["classes"].values()}


def schema_of(event):
    name = schema.lookup_class_name_from_uid(event["class_uid"])
    return schema.get_class_schema(name, event["metadata"].get("profiles", []))


def faults(event):
    """What the schema of the event's own class and profiles says against it."""
    unknown = set(event["metadata"].get("profiles", [])) - set(classes[event["class_uid"]]["profiles"])
    if unknown:
        return [f"the class has no profiles {sorted(unknown)}"]
    validator = Draft202012Validator(schema_of(event))
    return [f"{error.json_path}: {error.message:.200}" for error in validator.iter_errors(event)]


def deprecated(schema_part, value, at="$", root=None):
    """Attributes in use that the schema gives up."""
    root = root or schema_part
    if "$ref" in schema_part:
        schema_part = root["$defs"][schema_part["$ref"].rsplit("/", 1)[1]]
    found = []
    if isinstance(value, dict):
        for name, inner in value.items():
            attribute = schema_part.get("properties", {}).get(name, {})
            found += [f"{at}.{name}"] if attribute.get("deprecated") else []
            found += deprecated(attribute, inner, f"{at}.{name}", root)
    elif isinstance(value, list):
        for inner in value:
            found += deprecated(schema_part.get("items", {}), inner, f"{at}[]", root)
    return found


def captions(event):
    """Numbers and captions that do not belong together: JSON Schema cannot see them."""
    wrong = []
    kind = classes[event["class_uid"]]
    objects = [("user", event.get("user")), ("user", event.get("actor", {}).get("user")), ("managed_entity", event.get("entity"))]
    inside = [(compiled["objects"][name]["attributes"], holder) for name, holder in objects if holder]
    for attributes, holder in [(kind["attributes"], event), *inside]:
        for name, attribute in attributes.items():
            if name in holder and attribute.get("enum") and attribute.get("sibling") in holder and holder[name] != 99:
                caption = attribute["enum"].get(str(holder[name]), {}).get("caption")
                if name not in ("type_uid", "class_uid", "category_uid") and holder[attribute["sibling"]] != caption:
                    wrong.append(f"{name} {holder[name]} is {caption}, not {holder[attribute['sibling']]}")
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        wrong.append("type_uid")
    if (event["class_name"], event["category_uid"]) != (kind["caption"], kind["category_uid"]):
        wrong.append("class_name or category_uid")
    category = next((c for c in compiled["categories"]["attributes"].values() if c["uid"] == event["category_uid"]), None)
    if category and category["caption"] != event["category_name"]:
        wrong.append(f"category_name is {category['caption']}")
    if event["type_name"] != f"{event['class_name']}: {event['activity_name']}":
        wrong.append("type_name")
    return wrong


records = [json.loads(line) for line in lines("jsonl")]
events = [json.loads(line) for line in lines("ocsf.jsonl")]

# The records against the published schema of records.
record_schema = Draft202012Validator(json.loads((ROOT / "docs" / "reference" / "record.schema.json").read_text()))
known = [line["record"] for line in records if isinstance(line["record"], dict) and line["record"]["v"] == 1]
strangers = [f"{record['seq']}: {error.message:.200}" for record in known for error in record_schema.iter_errors(record)]
check(f"{len(known)} records fit the published schema", strangers or (None if len(known) > 20 else "too few"))
for what, record in [
    ("without a tenant", {name: value for name, value in known[0].items() if name != "tenant"}),
    ("of an unknown kind", {**known[0], "kind": "vote"}),
    ("with a number that is not one", {**known[0], "seq": "7"}),
]:
    check(f"a record {what} is refused", None if list(record_schema.iter_errors(record)) else "it was accepted")

# The events against the schema.
for record, event in zip(records, events):
    name = f"{record['index']}: {event['type_name']}, {event['message'][:60]}"
    check(f"event {name}", faults(event) or captions(event) or deprecated(schema_of(event), event))

# A judge that never says no is none.
api = next(e for e in events if e["class_uid"] == 6003 and "ai_operation" in e["metadata"].get("profiles", []))
login = next(e for e in events if e["class_uid"] == 3002)


def spoiled(event, change):
    other = copy.deepcopy(event)
    change(other)
    return other


for what, event in [
    ("without api.operation", spoiled(api, lambda e: e["api"].pop("operation"))),
    ("with an unknown attribute", spoiled(api, lambda e: e.update(verdict="permit"))),
    ("with an unknown attribute inside", spoiled(api, lambda e: e["actor"]["user"].update(verdict="permit"))),
    ("without its source", spoiled(api, lambda e: e.pop("src_endpoint"))),
    ("with nobody as actor", spoiled(api, lambda e: e.update(actor={}))),
    ("with a model and without the profile", spoiled(api, lambda e: e["metadata"].update(profiles=["security_control"]))),
    ("with an activity that is not listed", spoiled(api, lambda e: e.update(activity_id=50))),
    ("a login without a user", spoiled(login, lambda e: e.pop("user"))),
    ("a login to nothing", spoiled(login, lambda e: e.pop("service"))),
]:
    check(f"an event {what} is refused", None if faults(event) else "it was accepted")
for what, event in [
    ("type_uid", spoiled(api, lambda e: e.update(type_uid=600301))),
    ("severity", spoiled(api, lambda e: e.update(severity="Fatal"))),
    ("disposition", spoiled(api, lambda e: e.update(disposition="Blocked"))),
]:
    check(f"a wrong {what} is noticed", None if captions(event) else "it was not")
given_up = spoiled(login, lambda e: e["user"].update(credential_uid="key_1"))
check("an attribute that the schema gives up is noticed", None if deprecated(schema_of(given_up), given_up) else "it was not")

# The formats about the same records.
same = [len(records), len(events), len(lines("cef"))]
check("every format has every record", None if len(set(same)) == 1 and same[0] > 20 else same)


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


faulty = []
for record, event, cef in zip(records, events, lines("cef")):
    text = record["record"] if isinstance(record["record"], str) else canonical(record["record"])
    leaf = hashlib.sha256(b"\0" + text.encode()).hexdigest()
    problems = []
    if leaf != record["leaf"] or leaf != event["metadata"]["uid"] or f" cs2={leaf} " not in cef:
        problems.append("the leaf is not the hash of the record")
    if event["raw_data"] != text:
        problems.append("raw_data is not the record")
    if (event["metadata"]["sequence"], event["metadata"]["log_name"]) != (record["index"], record["origin"]):
        problems.append("the event stands elsewhere")
    if not re.fullmatch(r"CEF:0\|Bartizan\|Bartizan\|1\|[a-z_.]+\|(?:[^|\\]|\\[|\\])*\|\d+\|.*", cef):
        problems.append("the CEF header is not one")
    faulty += [f"{record['index']}: {problem}" for problem in problems]
check("a record has the same words, hash and place in every format", faulty)

# The requests of OpenTelemetry, as the protocol's own definition reads them.
def read(request):
    return json_format.ParseDict(request, ExportLogsServiceRequest())


requests = [json.loads(line) for line in lines("otlp.jsonl")]
logs = [log for r in requests for g in read(r).resource_logs for s in g.scope_logs for log in s.log_records]
problems = []
for line, log in zip(records, logs, strict=True):
    record = line["record"] if isinstance(line["record"], dict) else {}
    attributes = {a.key: a.value for a in log.attributes}
    expected = {
        "leaf": line["leaf"], "index": line["index"], "time": record.get("time_us", 0) * 1000,
        "input": record.get("input_tokens", 0), "raw": canonical(record) if record else line["record"],
    }
    found = {
        "leaf": attributes["bartizan.log.leaf"].string_value, "index": attributes["bartizan.log.index"].int_value,
        "time": log.time_unix_nano, "raw": attributes["log.record.original"].string_value,
        "input": attributes["gen_ai.usage.input_tokens"].int_value if "gen_ai.usage.input_tokens" in attributes else 0,
    }
    if expected != found:
        problems.append(f"{line['index']}: {found}, not {expected}")
    if not 1 <= log.severity_number <= 24 or not log.event_name.startswith("bartizan.") or not log.body.string_value:
        problems.append(f"{line['index']}: severity, name or body")
check("the protocol reads the requests as the records", problems)
check("integers are written as texts", [] if '"intValue":"' in lines("otlp.jsonl")[0] else "they are not")
try:
    read(spoiled(requests[0], lambda r: r["resourceLogs"][0].update(verdict="permit")))
    check("a request with an unknown field is refused", "it was read")
except json_format.ParseError:
    check("a request with an unknown field is refused", None)

# The table, as Apache Arrow reads it.
rows = pyarrow.parquet.read_table(GOLDEN / "records.parquet").to_pylist()
check("the table has every record", None if len(rows) == len(records) else len(rows))
INSIDE = {
    "tenant": ["tenant"], "node": ["node"], "seq": ["seq"], "decision": ["id", "of"], "verdict": ["verdict"], "bytes_out": ["bytes"],
    "input_tokens": ["input_tokens"], "output_tokens": ["output_tokens"], "took_us": ["took_us"], "status": ["status"],
}
problems = []
for row, line in zip(rows, records):
    record = line["record"]
    known = isinstance(record, dict) and record["v"] == 1
    text = record if isinstance(record, str) else canonical(record)
    expected = {"origin": line["origin"], "index": line["index"], "leaf": line["leaf"], "verified_size": line["verified_size"], "raw": text}
    if known:
        kind = record["kind"]
        # A recovery's `what` is words.
        who, what, grounds = record.get("who", {}), record.get("what", {}) if kind != "system" else {}, record.get("grounds", {})
        expected |= {name: next((record[i] for i in inside if i in record), None) for name, inside in INSIDE.items()}
        expected["verdict"] = "permit" if kind == "intent" else record.get("verdict")
        expected["bytes_out"] = record["bytes"] if kind == "outcome" else None
        expected |= {
            "kind": f"{kind}.{record['event']}" if kind == "system" else kind,
            "subject": who.get("subject"), "key": who.get("key"), "issuer": who.get("issuer"), "assurance": who.get("assurance"),
            "actors": " ".join(who.get("actors", [])) or None,
            "action": what.get("action"), "resource": what.get("resource", {}).get("name"), "bytes_in": what.get("bytes"),
            "rules": " ".join(grounds.get("rules", [])) or None, "policy": grounds.get("policy"),
            "reasons": " ".join(record.get("reasons", [])) or record.get("end", {}).get("reason"),
            "end": record.get("end", {}).get("how"), "upstream": record.get("target", {}).get("upstream"),
            "repeated": record.get("repeated", 0) if kind == "refusal" else None,
        }
        moment = round(row["time"].timestamp() * 1_000_000)
        if moment != record["time_us"] or row["time"].utcoffset().total_seconds() != 0:
            problems.append(f"{line['index']}: time is {row['time']}")
    for name, value in expected.items():
        if row[name] != value:
            problems.append(f"{line['index']}: {name} is {row[name]!r}, not {value!r}")
check("the rows of the table are the records", problems)
broken = bytearray((GOLDEN / "records.parquet").read_bytes())
broken[-6] ^= 1
try:
    pyarrow.parquet.read_table(pyarrow.BufferReader(bytes(broken)))
    check("a table with a changed footer is refused", "it was read")
except (pyarrow.ArrowException, OSError):
    check("a table with a changed footer is refused", None)

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
