//! The words of a bundle: its own schema files and those of tool servers, joined with the house's.
//!
//! A file adds namespaces, types and actions. It can neither change a word of the house nor give the same name to something
//! else, in whatever namespace: readers of rules must not be deceived. What it declares `external` (Cedar's RFC 116) must be
//! declared elsewhere.

mod size;

use std::collections::BTreeSet;

use bartizan_base::Name;
use cedar_policy::{Schema, SchemaFragment};
use serde_json::Value;

use crate::declared::Declared;
use crate::platform;
use crate::servers::{ServerWords, TOOLS};

/// Bytes of a bundle's schema files.
pub(crate) const BYTES_MAX: usize = 1 << 20;
/// Types and actions of a bundle's own.
const WORDS_MAX: usize = 2_000;
/// Combinations of principal, action and resource that a bundle's own actions apply to: each rule is checked for each.
const COMBINATIONS_MAX: usize = 20_000;

/// What is wrong, in which file, and what would help.
pub(crate) type Wrong = (String, String, Option<&'static str>);

/// What the words of a bundle make.
pub(crate) struct Linked {
    pub(crate) schema: Schema,
    /// Tool servers whose words do not fit, with the reason: their tools cannot be asked for.
    pub(crate) disabled: Vec<(Name, String)>,
    /// What all of it declares.
    pub(crate) declared: Declared,
}

/// A file of a bundle, read.
struct File<'a> {
    name: &'a str,
    json: Value,
}

/// Joins the words of the house with those of `files` and `servers`.
pub(crate) fn link(files: &[(&str, SchemaFragment)], servers: &[ServerWords]) -> Result<Linked, Vec<Wrong>> {
    let broken = || vec![(String::new(), "the schema of the house cannot be read".to_owned(), None)];
    if files.is_empty() && servers.is_empty() {
        let schema = platform::schema().cloned().ok_or_else(broken)?;
        return Ok(Linked { schema, disabled: Vec::new(), declared: Declared::default() });
    }
    let mut wrong = Vec::new();
    let mut read = Vec::new();
    for (name, fragment) in files {
        match fragment.clone().to_json_value() {
            Ok(json) => read.push(File { name, json }),
            Err(error) => wrong.push(((*name).to_owned(), error.to_string(), None)),
        }
    }
    bounds(&read, &mut wrong);
    if let Err(message) = size::check(read.iter().map(|file| &file.json)) {
        wrong.push((String::new(), message, Some("write flatter types")));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let defined: BTreeSet<String> = read.iter().flat_map(|file| words(&file.json)).collect();
    for file in &mut read {
        check(file.name, &mut file.json, &defined, &mut wrong);
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let house = platform::fragment().cloned().ok_or_else(broken)?;
    let mut all = vec![house.clone()];
    for file in read {
        match SchemaFragment::from_json_value(file.json) {
            Ok(fragment) => all.push(fragment),
            Err(error) => wrong.push((file.name.to_owned(), chain(&error), None)),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let schema = Schema::from_schema_fragments(all.clone()).map_err(|error| {
        // The engine does not say in which file; one that fails alone is to blame.
        let fails =
            |one: &SchemaFragment| Schema::from_schema_fragments([house.clone(), one.clone()]).is_err();
        let blamed = all.iter().skip(1).zip(files).find(|(one, _)| fails(one));
        let file = blamed.map_or("", |(_, (name, _))| name).to_owned();
        vec![(file, chain(&error), None)]
    })?;
    Ok(with_servers(schema, all, servers))
}

/// Adds the words of one server after the other; those that do not fit are left out.
fn with_servers(mut schema: Schema, mut all: Vec<SchemaFragment>, servers: &[ServerWords]) -> Linked {
    let mut disabled = Vec::new();
    for server in servers {
        let fitted = server.fragment().and_then(|fragment| {
            let joined = all.iter().cloned().chain([fragment.clone()]);
            Schema::from_schema_fragments(joined).map(|schema| (fragment, schema)).map_err(|e| chain(&e))
        });
        match fitted {
            Ok((fragment, joined)) => {
                all.push(fragment);
                schema = joined;
            }
            Err(why) => disabled.push((server.server().clone(), why)),
        }
    }
    let declared = Declared::of(&all);
    Linked { schema, disabled, declared }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn bounds(files: &[File<'_>], wrong: &mut Vec<Wrong>) {
    let (mut count, mut combinations) = (0_usize, 0_usize);
    for file in files {
        for (_, definitions) in members(&file.json) {
            let parts = ["entityTypes", "commonTypes", "actions"];
            count += parts.iter().map(|part| part_of(definitions, part).count()).sum::<usize>();
            for (_, action) in part_of(definitions, "actions") {
                let types = |name: &str| {
                    let list = action.pointer(&format!("/appliesTo/{name}Types")).and_then(Value::as_array);
                    list.map_or(0, Vec::len)
                };
                combinations =
                    combinations.saturating_add(types("principal").saturating_mul(types("resource")));
            }
        }
        if count > WORDS_MAX {
            wrong.push((
                file.name.to_owned(),
                format!("the bundle has more than {WORDS_MAX} types and actions"),
                None,
            ));
            return;
        }
        if combinations > COMBINATIONS_MAX {
            let message = format!(
                "the bundle's actions apply to more than {COMBINATIONS_MAX} combinations of principal and resource"
            );
            wrong.push((
                file.name.to_owned(),
                message,
                Some("declare fewer types, with attributes or parents to tell them apart"),
            ));
            return;
        }
    }
}

fn members(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json.as_object().into_iter().flatten()
}

fn part_of<'a>(
    definitions: &'a Value,
    part: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    definitions.get(part).into_iter().flat_map(members)
}

fn is_external(definition: &Value) -> bool {
    definition.get("external").and_then(Value::as_bool) == Some(true)
}

fn in_namespace(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}::{name}") }
}

/// The types and actions that a file defines, the latter as `Action::NAME`.
fn words(json: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (namespace, definitions) in members(json) {
        let own = |part| part_of(definitions, part).filter(|(_, definition)| !is_external(definition));
        out.extend(own("entityTypes").map(|(name, _)| in_namespace(namespace, name)));
        out.extend(own("actions").map(|(name, _)| in_namespace(namespace, &format!("Action::{name}"))));
    }
    out
}

/// Checks a file's words against the house's, and takes its external declarations out.
fn check(file: &str, json: &mut Value, defined: &BTreeSet<String>, wrong: &mut Vec<Wrong>) {
    let mut tell = |message: String, help| wrong.push((file.to_owned(), message, help));
    for (namespace, definitions) in json.as_object_mut().into_iter().flatten() {
        if namespace.split("::").next() == Some(TOOLS) {
            let message = format!("the namespace `{TOOLS}` holds the words of tool servers");
            tell(message, Some("choose another name"));
        }
        if namespace.split("::").any(platform::has_type) {
            tell(
                format!("the namespace `{namespace}` is called as a type of the house"),
                Some("choose another name"),
            );
        }
        let Some(definitions) = definitions.as_object_mut() else { continue };
        for part in ["entityTypes", "commonTypes"] {
            let Some(types) = definitions.get_mut(part).and_then(Value::as_object_mut) else { continue };
            types.retain(|name, definition| {
                if is_external(definition) {
                    let full = in_namespace(namespace, name);
                    if !(defined.contains(&full) || platform::has_type(&full)) {
                        tell(format!("`{full}` is external, and nothing declares it"), None);
                    }
                    if definition
                        .get("memberOfTypes")
                        .and_then(Value::as_array)
                        .is_some_and(|m| !m.is_empty())
                    {
                        tell(
                            format!("`{full}` is external, so its parents stand where it is declared"),
                            None,
                        );
                    }
                    return false;
                }
                if platform::has_type(name) {
                    let message = format!(
                        "`{name}` is a word of the house, which a bundle can neither change nor shadow"
                    );
                    tell(message, Some("choose another name; to speak of the house's own, declare nothing"));
                }
                true
            });
        }
        let Some(actions) = definitions.get_mut("actions").and_then(Value::as_object_mut) else { continue };
        actions.retain(|name, definition| {
            let of_house = namespace.is_empty() && platform::has_action(name);
            if is_external(definition) {
                let full = in_namespace(namespace, &format!("Action::{name}"));
                if !(of_house || defined.contains(&full)) {
                    tell(format!("the action `{full}` is external, and nothing declares it"), None);
                }
                return false;
            }
            let noun = name.split_once(':').map_or("", |(noun, _)| noun);
            if of_house || namespace.is_empty() && platform::has_noun(noun) {
                let message = format!("the action `{name}` is a word of the house, or could become one");
                tell(message, Some("declare it in a namespace of your own"));
            }
            let applies =
                |to: &str| definition.pointer(to).and_then(Value::as_array).is_some_and(|t| !t.is_empty());
            let is_asked_for = applies("/appliesTo/principalTypes") && applies("/appliesTo/resourceTypes");
            let context = definition.pointer("/appliesTo/context");
            let is_houses = context.is_some_and(|c| {
                c.get("name").or_else(|| c.get("type")).and_then(Value::as_str) == Some("Context")
            });
            // In a namespace of its own an action can be one of an application, which tells its circumstances itself.
            if is_asked_for && !is_houses && namespace.is_empty() {
                let message = format!("the action `{name}` must take the house's context");
                tell(message, Some("write `context: Context`, or declare it in a namespace of your own"));
            }
            true
        });
    }
}

#[cfg(test)]
mod tests;
