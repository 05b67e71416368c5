//! The house's own vocabulary, which bundles extend and cannot change.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cedar_policy::{Schema, SchemaFragment};
use serde_json::Value;

/// The schema of the house.
pub(crate) const SCHEMA: &str = include_str!("schema.cedarschema");

/// The house's words.
struct Words {
    fragment: SchemaFragment,
    schema: Schema,
    json: Value,
    /// Types of entities and of records.
    types: BTreeSet<String>,
    actions: BTreeSet<String>,
}

static WORDS: LazyLock<Option<Words>> = LazyLock::new(|| {
    let fragment = SchemaFragment::from_cedarschema_str(SCHEMA).ok()?.0;
    let json = fragment.clone().to_json_value().ok()?;
    let keys = |part: &str| {
        let members = json.get("").and_then(|house| house.get(part)).and_then(Value::as_object);
        members.into_iter().flat_map(|m| m.keys().cloned()).collect::<BTreeSet<String>>()
    };
    let types = &keys("entityTypes") | &keys("commonTypes");
    let schema = Schema::from_schema_fragments([fragment.clone()]).ok()?;
    Some(Words { schema, types, actions: keys("actions"), json, fragment })
});

/// Whether a type is the house's own; types of actions are.
pub(crate) fn has_type(name: &str) -> bool {
    WORDS.as_ref().is_some_and(|words| words.types.contains(name))
        || name.rsplit("::").next() == Some("Action")
}

/// Whether an action of the house, or a group of them, is called so.
pub(crate) fn has_action(name: &str) -> bool {
    WORDS.as_ref().is_some_and(|words| words.actions.contains(name))
}

/// Whether the house has actions of a noun, such as `model`: others of that noun may follow.
pub(crate) fn has_noun(noun: &str) -> bool {
    let of_noun = |action: &String| action.split_once(':').is_some_and(|(n, _)| n == noun);
    WORDS.as_ref().is_some_and(|words| words.actions.iter().any(of_noun))
}

/// The house's part of every schema.
pub(crate) fn fragment() -> Option<&'static SchemaFragment> {
    WORDS.as_ref().map(|words| &words.fragment)
}

/// The schema of a bundle that adds no words.
pub(crate) fn schema() -> Option<&'static Schema> {
    WORDS.as_ref().map(|words| &words.schema)
}

/// The attributes of the context, in the engine's JSON.
pub(crate) fn context_attributes() -> Option<&'static serde_json::Map<String, Value>> {
    let context = WORDS.as_ref()?.json.get("")?.pointer("/commonTypes/Context/attributes")?;
    context.as_object()
}
