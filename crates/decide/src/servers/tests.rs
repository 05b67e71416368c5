use serde_json::{Value, json};

use super::*;
use crate::{Bundle, CompiledBundle};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn read(server: &str, tools: &Value) -> Result<ServerWords, ServerError> {
    ServerWords::read(&name(server), json!({"tools": tools}).to_string().as_bytes())
}

fn files() -> ServerWords {
    let read_file = json!({"name": "read file/é\"", "inputSchema": {"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"}, "lines": {"type": "integer"}, "ratio": {"type": "number"}, "any": {}, "one_of": {"oneOf": []},
        "also": {"type": ["string", "null"]}, "tags": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object", "properties": {"follow": {"type": "boolean"}}},
    }}});
    read("files-1", &json!([read_file, {"name": "ping"}])).unwrap()
}

fn compile(rule: &str, servers: &[ServerWords]) -> Result<CompiledBundle, String> {
    let files = [("a.cedar".to_owned(), format!("@id(\"a\") {rule}"))].into();
    CompiledBundle::compile_with(&Bundle { files }, servers).map_err(|e| e.to_string())
}

#[test]
fn rules_speak_of_the_arguments_of_a_tool_and_of_the_house_beside_them() {
    let tool = r#"Tools::files_2d1::Action::"read file/é\"""#;
    let rule = |condition: &str| {
        compile(
            &format!("forbid (principal, action == {tool}, resource) when {{ {condition} }};"),
            &[files()],
        )
        .map(|_| ())
    };
    for good in [
        "context.arguments.path like \"/etc/*\" && context.assurance.level < 2",
        "context.arguments has lines && context.arguments.lines > 3",
        "context.arguments has tags && context.arguments.tags.contains(\"x\")",
        "context.arguments has options && context.arguments.options has follow && context.arguments.options.follow",
    ] {
        assert_eq!(rule(good), Ok(()), "{good}");
    }
    // What has no type in policies cannot be looked at; what can be absent must be guarded.
    for bad in ["ratio", "any", "one_of", "also", "lines"] {
        assert!(rule(&format!("context.arguments.{bad} == context.arguments.{bad}")).is_err(), "{bad}");
    }
    let group =
        "forbid (principal, action in Action::\"tool:call\", resource) when { context.assurance.level < 2 };";
    assert!(compile(group, &[files()]).is_ok());
}

#[test]
fn different_servers_never_share_a_namespace() {
    let names = ["a-b", "a_2d_b", "a_b", "a__b", "a.b", "a_2db", "1a", "_31a", "A-b", "a-2d"];
    let namespaces: BTreeSet<String> =
        names.iter().map(|n| read(n, &json!([])).unwrap().namespace().to_owned()).collect();
    assert_eq!(namespaces.len(), names.len(), "{namespaces:?}");
    for server in names {
        let words = read(server, &json!([{"name": "x"}])).unwrap();
        let rule = format!("forbid (principal, action == {}::Action::\"x\", resource);", words.namespace());
        compile(&rule, &[words]).unwrap();
    }
}

#[test]
fn what_a_hostile_server_lists_is_refused_or_left_out() {
    let property = |n: usize| (format!("p{n}"), json!({"type": "string"}));
    let wide = |n: usize| json!({"type": "object", "properties": (0..n).map(property).collect::<serde_json::Map<_, _>>()});
    let deep = (0..12)
        .fold(json!({"type": "string"}), |inner, _| json!({"type": "object", "properties": {"x": inner}}));
    let tools = |n: usize| (0..n).map(|n| json!({"name": n.to_string()})).collect::<Value>();
    for (listed, why) in [
        (tools(501), "more than 500 tools"),
        (json!([{"name": "a", "inputSchema": wide(5_001)}]), "more than 5000 members"),
        (
            (0..3).map(|n| json!({"name": n.to_string(), "inputSchema": wide(2_000)})).collect(),
            "more than 5000 members",
        ),
        (json!([{"name": ""}]), "its name"),
        (json!([{}]), "its name"),
        (json!([{"name": "a\u{0}"}]), "its name"),
        (json!([{"name": "x".repeat(129)}]), "its name"),
        (json!([{"name": "a"}, {"name": "a"}]), "stands twice"),
        (json!("x".repeat(2 << 20)), "longer than"),
        (json!({}), "no array"),
    ] {
        let told = read("s", &listed).unwrap_err().to_string();
        assert!(told.contains(why), "{why}: {told}");
    }
    let nested = json!([{"name": "a", "inputSchema": {"type": "object", "properties": {"deep": deep, "ok": {"type": "string"}}}}]);
    let rule =
        r#"forbid (principal, action == Tools::s::Action::"a", resource) when { context.arguments has ok };"#;
    compile(rule, &[read("s", &nested).unwrap()]).unwrap();
    // Members that look like the engine's own, or like facts of the house, stay arguments.
    let odd = json!([{"name": "a", "inputSchema": {"type": "object", "required": ["__entity", "assurance"], "properties": {
        "__entity": {"type": "string"}, "assurance": {"type": "string"}, "": {"type": "string"},
    }}}]);
    let rule = r#"forbid (principal, action == Tools::s::Action::"a", resource) when { context.assurance.level < 2 && context.arguments.assurance == "x" };"#;
    compile(rule, &[read("s", &odd).unwrap()]).unwrap();
}

#[test]
fn a_server_whose_words_do_not_fit_is_disabled_and_nothing_else_is() {
    let rule = r#"forbid (principal, action == Tools::files_2d1::Action::"ping", resource);"#;
    let compiled = compile(rule, &[files(), files()]).unwrap();
    assert!(
        matches!(compiled.disabled_servers(), [(server, _)] if server.as_str() == "files-1"),
        "{:?}",
        compiled.disabled_servers()
    );
    assert_eq!(compile(rule, &[files()]).unwrap().disabled_servers(), []);
}
