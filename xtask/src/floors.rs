//! The floors: who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{Failure, root};

pub(crate) fn metadata() -> Result<Value, Failure> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("cargo metadata: {e}: {}", String::from_utf8_lossy(&output.stderr)))
}

pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn short(name: &str) -> &str {
    name.strip_prefix("bartizan-").unwrap_or(name)
}

/// Reads `floors.toml` and the graph, and refuses what does not fit.
pub(crate) fn check() -> Result<(), Failure> {
    let config = std::fs::read_to_string(root().join("floors.toml")).map_err(|e| e.to_string())?;
    let config: toml::Table = config.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let list = |value: Option<&toml::Value>| -> BTreeSet<String> {
        value
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let mut floors: BTreeMap<String, u32> = BTreeMap::new();
    for (floor, crates) in config.get("floors").and_then(toml::Value::as_table).into_iter().flatten() {
        let number = floor.parse().map_err(|_| format!("floors.toml: `{floor}` is not a floor"));
        if floor != "side" && floor != "sideways" && floor != "impure" {
            let number = number?;
            floors.extend(list(Some(crates)).into_iter().map(|c| (c, number)));
        }
    }
    let table = config.get("floors").and_then(toml::Value::as_table);
    let named = |name: &str| list(config.get(name).or_else(|| table.and_then(|t| t.get(name))));
    let (side, sideways, impure) = (named("side"), named("sideways"), named("impure"));
    let metadata = metadata()?;
    let packages: BTreeMap<&str, &Value> =
        items(&metadata, "packages").iter().map(|p| (text(p, "id"), p)).collect();
    let members: BTreeSet<&str> =
        items(&metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    let readme = std::fs::read_to_string(root().join("crates/README.md"))
        .map_err(|e| format!("crates/README.md: {e}"))?;
    let graph = normal_graph(&metadata);
    let mut wrong = Vec::new();
    for id in &members {
        let Some(package) = packages.get(id) else { continue };
        let from = short(text(package, "name"));
        if !readme.contains(&format!("`{from}`")) && !["xtask", "reference"].contains(&from) {
            wrong.push(format!("`{from}` has no line in crates/README.md"));
        }
        let Some(floor) = floors.get(from) else {
            if !side.contains(from) {
                wrong.push(format!("`{from}` has no floor in floors.toml"));
            }
            continue;
        };
        for target in graph.get(id).into_iter().flatten().filter(|t| members.contains(*t)) {
            let to = packages.get(target).map_or("", |p| short(text(p, "name")));
            let listed = sideways.contains(&format!("{from} -> {to}"));
            let tool = side.contains(to) && from == "bartizan";
            let down = floors.get(to).is_some_and(|t| t < floor);
            if !down && !listed && !tool {
                wrong.push(format!("`{from}` on floor {floor} depends on `{to}`, which is not below it"));
            }
        }
        if *floor <= 1 {
            let reached = reach(id, &graph);
            for name in reached
                .iter()
                .filter_map(|r| packages.get(r))
                .map(|p| text(p, "name"))
                .filter(|n| impure.contains(*n))
            {
                wrong.push(format!("`{from}` on floor {floor} reaches `{name}`; floors 0 and 1 are pure"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("the floors do not hold:\n  {}", wrong.join("\n  "))) }
}

/// Normal dependencies, by package id.
fn normal_graph(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    let nodes = metadata.get("resolve").map(|r| items(r, "nodes")).unwrap_or_default();
    let normal =
        |dep: &&Value| items(dep, "dep_kinds").iter().any(|k| k.get("kind").is_some_and(Value::is_null));
    nodes
        .iter()
        .map(|n| (text(n, "id"), items(n, "deps").iter().filter(normal).map(|d| text(d, "pkg")).collect()))
        .collect()
}

fn reach<'a>(from: &'a str, graph: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![from];
    while let Some(next) = queue.pop() {
        for target in graph.get(next).into_iter().flatten() {
            if seen.insert(*target) {
                queue.push(target);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_floors_hold() {
        assert_eq!(super::check(), Ok(()));
    }
}
