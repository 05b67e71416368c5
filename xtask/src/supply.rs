//! What comes from others: banned crates, licences, sources; by the lists of `deny.toml`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::floors::{items, metadata, text};
use crate::{Failure, root};

pub(crate) fn check() -> Result<(), Failure> {
    let config = std::fs::read_to_string(root().join("deny.toml")).map_err(|e| e.to_string())?;
    let config: toml::Table = config.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let list = |section: &str, name: &str| {
        config
            .get(section)
            .and_then(|s| s.get(name))
            .and_then(toml::Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let allowed: BTreeSet<String> =
        list("licenses", "allow").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    let banned: BTreeSet<String> =
        list("bans", "deny").iter().filter_map(|v| v.get("name")?.as_str().map(str::to_owned)).collect();
    let metadata = metadata()?;
    let mut wrong = Vec::new();
    let used = used(&metadata);
    for package in items(&metadata, "packages").iter().filter(|p| used.contains(text(p, "id"))) {
        let name = text(package, "name");
        if banned.contains(name) {
            wrong.push(format!("`{name}` is banned"));
        }
        let source = text(package, "source");
        if !source.is_empty() && !source.starts_with("registry+") {
            wrong.push(format!("`{name}` does not come from the registry"));
        }
        let licence = text(package, "license");
        if !expression_allowed(licence, &allowed) {
            wrong.push(format!("`{name}` has the licence `{licence}`"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

/// What is really built: the lock file also names what optional features would bring.
fn used(metadata: &Value) -> BTreeSet<&str> {
    let nodes = metadata.get("resolve").map(|r| items(r, "nodes")).unwrap_or_default();
    let mut seen: BTreeSet<&str> =
        items(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    let mut queue: Vec<&str> = seen.iter().copied().collect();
    while let Some(next) = queue.pop() {
        let deps = nodes
            .iter()
            .find(|n| text(n, "id") == next)
            .map(|n| items(n, "dependencies"))
            .unwrap_or_default();
        queue.extend(deps.iter().filter_map(Value::as_str).filter(|d| seen.insert(d)));
    }
    seen
}

/// An SPDX expression of AND and OR: some alternative must be allowed whole.
fn expression_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    // Every AND inside alternatives of this flat form; parentheses group only ORs in practice, which this reads strictly.
    if expression.contains(") AND") || expression.contains("AND (") {
        return expression
            .split(" AND ")
            .all(|part| expression_allowed(part.trim_matches(['(', ')']), allowed));
    }
    flat.split(" OR ").any(|alternative| alternative.split(" AND ").all(|one| allowed.contains(one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_others_is_allowed() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn expressions_need_one_allowed_alternative() {
        let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT AND Apache-2.0", false),
            ("ISC AND (Apache-2.0 OR MIT)", true),
            ("GPL-3.0", false),
            ("Apache-2.0/MIT", true),
            ("", false),
        ] {
            assert_eq!(expression_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
