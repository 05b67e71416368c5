//! The page about records: their kinds and fields from the schema of `bartizan-model`, the rest from `bartizan-export`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bartizan_export::ocsf::{Activity, activity_of, activity_of_kind};
use bartizan_export::{Format, Kind, Placed, Said, catalogue, parquet};
use bartizan_model::Action;
use bartizan_model::record::{ENCODED_MAX, Record};
use serde_json::Value;

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Types that a table cell explains better than a section.
const PLAIN: &[(&str, &str)] = &[
    ("Action", "[action](actions.md)"),
    ("Digest", "SHA-256 in hexadecimal digits"),
    ("Name", "name"),
    ("ReasonCode", "[reason code](reason-codes.md)"),
    ("Tenant", "name"),
    ("Timestamp", "microseconds since 1970"),
];

/// Types whose fields stand with the kinds of records.
const IN_KINDS: &[&str] = &["Intent", "Outcome", "Refusal", "System"];

/// The JSON Schema of a record.
pub(crate) fn schema() -> Value {
    schemars::schema_for!(Record).to_value()
}

/// The page.
pub(crate) fn page(note: &str) -> String {
    let schema = schema();
    let definitions: BTreeMap<&str, &Value> = schema
        .get("$defs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, definition)| (name.as_str(), definition))
        .collect();
    let mut out = format!(
        "# Records\n{note}\nWhat the ledger holds: one record an entry, in canonical JSON (RFC 8785), at most {ENCODED_MAX} bytes. \
         Principals appear as random pseudonyms, credentials by id. The same as a JSON Schema: \
         [record.schema.json](record.schema.json).\n\n## Every record\n\n"
    );
    fields(&mut out, &schema);
    out.push_str("| `kind` | text | yes | What it says: one of the kinds below. |\n\n");
    kinds(&mut out, &definitions);
    for (name, definition) in &definitions {
        if !IN_KINDS.contains(name) && !PLAIN.iter().any(|(plain, _)| plain == name) {
            write!(out, "## {name}\n\n{}\n\n", text(definition, "description")).unwrap_or_default();
            section(&mut out, definition);
        }
    }
    actions(&mut out);
    formats(&mut out);
    out
}

fn kinds(out: &mut String, definitions: &BTreeMap<&str, &Value>) {
    out.push_str("## Kinds\n\n| kind | means | OCSF |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let class = activity_of_kind(*kind).map_or("by its action".to_owned(), class);
        let (name, anchor) = (kind.name(), anchor(kind.name()));
        writeln!(out, "| [`{name}`](#{anchor}) | {} | {class} |", kind.meaning().trim()).unwrap_or_default();
    }
    out.push('\n');
    let placed = catalogue::placed();
    for kind in Kind::ALL {
        write!(out, "### {}\n\n{}\n\n", kind.name(), kind.meaning().trim()).unwrap_or_default();
        let definition = match kind {
            Kind::Intent => definitions.get("Intent").copied(),
            Kind::Refusal => definitions.get("Refusal").copied(),
            Kind::Outcome => definitions.get("Outcome").copied(),
            system => definitions.get("System").and_then(|all| event(all, system.name())),
        };
        if let Some(definition) = definition {
            fields(out, definition);
        }
        let of_kind = |p: &&Placed| matches!(p.said(), Said::Record(r) if Kind::of(&r.body) == *kind);
        let example = placed.iter().find(of_kind).map_or("", Placed::text);
        let example: Value = serde_json::from_str(example).unwrap_or_default();
        write!(out, "\n```json\n{example:#}\n```\n\n").unwrap_or_default();
    }
}

/// The schema of one event of the house.
fn event<'a>(all: &'a Value, name: &str) -> Option<&'a Value> {
    let event = name.strip_prefix("system.")?;
    items(all, "oneOf").iter().find(|v| v.pointer("/properties/event/const").is_some_and(|e| e == event))
}

fn anchor(title: &str) -> String {
    title.to_lowercase().replace('.', "")
}

fn class(activity: Activity) -> String {
    let class = activity.class;
    format!("{} {}: {} ({})", class.uid(), class.caption(), activity.name, activity.id)
}

fn section(out: &mut String, definition: &Value) {
    let variants = items(definition, "oneOf");
    if !variants.is_empty() {
        out.push_str("| value | means | with |\n|---|---|---|\n");
        for variant in variants {
            let (name, with) = variant_of(variant);
            writeln!(out, "| `{name}` | {} | {with} |", text(variant, "description")).unwrap_or_default();
        }
    } else if definition.get("properties").is_some() {
        fields(out, definition);
    } else {
        writeln!(out, "Type: {}.", type_of(definition)).unwrap_or_default();
    }
    out.push('\n');
}

/// The name of a variant and what goes with it.
fn variant_of(variant: &Value) -> (String, String) {
    let mut name = text(variant, "const").to_owned();
    let mut with = Vec::new();
    for (field, schema) in properties(variant) {
        match schema.get("const").and_then(Value::as_str) {
            Some(value) => name = format!("{field}: {value}"),
            None => with.push(format!("`{field}` ({}): {}", type_of(schema), text(schema, "description"))),
        }
    }
    (name, with.join(" "))
}

fn fields(out: &mut String, definition: &Value) {
    let required: BTreeSet<&str> = items(definition, "required").iter().filter_map(Value::as_str).collect();
    out.push_str("| field | type | always | means |\n|---|---|---|---|\n");
    for (name, schema) in properties(definition) {
        let always = if required.contains(name) { "yes" } else { "no" };
        let fixed = schema.get("const").and_then(Value::as_str).map(|value| format!("`{value}`"));
        let means = if fixed.is_some() { "Which one it is." } else { text(schema, "description") };
        let kind = fixed.unwrap_or_else(|| type_of(schema));
        writeln!(out, "| `{name}` | {kind} | {always} | {means} |").unwrap_or_default();
    }
}

fn properties(definition: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = definition.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, schema)| (name.as_str(), schema))
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = text(schema, "$ref").strip_prefix("#/$defs/") {
        let plain = PLAIN.iter().find(|(plain, _)| *plain == name);
        return plain
            .map_or_else(|| format!("[{name}](#{})", anchor(name)), |(_, words)| (*words).to_owned());
    }
    if let Some(inner) = items(schema, "anyOf").iter().find(|s| text(s, "type") != "null") {
        return type_of(inner);
    }
    if let Some(item) = schema.get("items") {
        return format!("list of {}", type_of(item));
    }
    let kinds = items(schema, "type").iter().filter_map(Value::as_str);
    let kind = kinds.chain([text(schema, "type")]).find(|t| !t.is_empty() && *t != "null");
    match (kind, text(schema, "pattern").strip_prefix('^')) {
        (Some("string"), Some(prefix)) if prefix.ends_with('_') => format!("id `{prefix}…`"),
        (Some("string"), _) => "text".to_owned(),
        (Some(other), _) => other.to_owned(),
        (None, _) => "anything".to_owned(),
    }
}

fn actions(out: &mut String) {
    out.push_str("## Actions in OCSF\n\nOf intents, and of refusals other than failed logins.\n\n| action | class and activity |\n|---|---|\n");
    for action in Action::ALL {
        let class = activity_of(*action).map_or("-".to_owned(), class);
        writeln!(out, "| `{}` | {class} |", action.name()).unwrap_or_default();
    }
    out.push_str("\nA refusal whose reason is about the credential is 3002 Authentication: Logon (1). What a reader does not know, such as a kind of a later version, is 0 Base Event with the whole entry under `unmapped`.\n\n");
}

fn formats(out: &mut String) {
    out.push_str("## Formats\n\n| format | media type | file | holds |\n|---|---|---|---|\n");
    for format in Format::ALL {
        let (media_type, extension) = (format.media_type(), format.extension());
        writeln!(out, "| `{format}` | `{media_type}` | `.{extension}` | {} |", format.meaning())
            .unwrap_or_default();
    }
    out.push_str(
        "\nA line of `jsonl` has the members `origin` (the log's name), `index` (of the entry in it, from 0), `leaf` (RFC 6962: \
         SHA-256 of a zero byte and the entry), `verified_size` (of the signed checkpoint that the entry was held against) and \
         `record`: the entry word for word, as text if it is not canonical JSON.\n\n\
         ## Columns of the table\n\nEvery column is optional; a list is one text with a space between its items.\n\n\
         | column | type | holds |\n|---|---|---|\n",
    );
    for column in parquet::COLUMNS {
        writeln!(out, "| `{}` | {} | {} |", column.name, column.kind(), column.meaning).unwrap_or_default();
    }
}
