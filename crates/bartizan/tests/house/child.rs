//! Tool servers as children: what a node and `doctor` make of the commands of the configuration.

use std::collections::BTreeMap;

use bartizan_child::{Bounds, CommandSpec};

use super::*;

fn doctor(folder: &Path, commands: &str) -> (Option<i32>, String) {
    let file = folder.join("bartizan.toml");
    std::fs::write(&file, commands).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command
        .env_clear()
        .args(["--config", file.to_str().unwrap(), "doctor", "--data-folder"])
        .arg(folder.join("data"));
    let output = command.output().unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_would_show_the_data_folder_is_refused_by_doctor_and_by_the_node() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("data"), &[]);
    let _founded = found(&config, "2/3").await.unwrap();
    let (code, out) = doctor(folder.path(), "");
    assert!(code == Some(0) && out.contains("none are configured as commands"), "{out}");
    let (code, out) = doctor(folder.path(), "[commands.sound]\nprogram = \"/bin/cat\"");
    assert!(code == Some(0) && out.contains("1 commands; they run"), "{out}");
    let shows = format!("[commands.shows]\nprogram = \"/bin/cat\"\nfolder = {:?}", folder.path());
    let (code, out) = doctor(folder.path(), &shows);
    assert!(
        code == Some(1) && out.contains("commands.shows") && out.contains("would show the child"),
        "{out}"
    );
    let (code, out) = doctor(folder.path(), "[commands.x]\nprogram = \"/bin/cat\"\nshell = true");
    assert!(code != Some(0) && out.contains("commands.x"), "{out}");
    let spec = CommandSpec {
        program: "/bin/cat".into(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        folder: Some(folder.path().to_owned()),
        readable: Vec::new(),
        network: false,
        bounds: Bounds::default(),
    };
    config.commands.insert("shows".parse().unwrap(), spec.clone());
    assert!(Node::start_on(&config, Machine::default()).await.is_err());
    // Nothing of it is held: with a folder that shows nothing the node starts.
    config.commands.insert("shows".parse().unwrap(), CommandSpec { folder: None, ..spec });
    Node::start_on(&config, Machine::default()).await.unwrap().stop().await;
}

/// A server of tools in a few lines of shell: one tool, which says how it was called.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed 's/.*"id": *\("[^"]*"\|[0-9]*\).*/\1/')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"say","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}]}' ;;
    *'"tools/call"'*) result='{"content":[{"type":"text","text":"said"}]}' ;;
    *) continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

const RULES: &str = r#"
@id("engineers-use-tools") permit (principal in Group::"engineers", action in [Action::"tool:list", Action::"tool:call"], resource);
@id("no-secrets") @reason("forbidden")
forbid (principal, action == Tools::echo::Action::"say", resource) when { context.arguments.text == "secret" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_called_through_the_door_by_its_arguments_and_what_it_gives_enters_the_session() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("data"), &[]);
    let Founded { claim, .. } = found(&config, "2/3").await.unwrap();
    let spec = CommandSpec {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), SERVER.to_owned()],
        environment: BTreeMap::new(),
        folder: None,
        readable: Vec::new(),
        network: false,
        bounds: Bounds::default(),
    };
    config.commands.insert("echo".parse().unwrap(), spec);
    let node = Node::start_on(&config, Machine::default()).await.unwrap();
    let model = spawn(SocketAddr::from(([127, 0, 0, 1], 0)), Options::default()).await.unwrap();
    let (control, data) = (format!("http://{}", node.control), format!("http://{}", node.data));
    let (told, sessions) = blocking(move || {
        let ((admin, _), (_, alice), ..) = furnish(&control, &claim, model);
        let documents = json!([
            {"name": "echo", "spec": {"kind": "tool_server", "confidentiality": "confidential", "integrity": "trusted"}},
            {"name": "echo", "spec": {"kind": "tool_route", "command": "echo"}},
        ]);
        admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap();
        let offered = admin.call("GET", "/api/v1/tools/echo", None).unwrap();
        let digest = offered.pointer("/0/digest").unwrap();
        admin.call("POST", "/api/v1/tools/echo/approve", Some(&json!({"tools": {"say": digest}}))).unwrap();
        let files = json!({"policy.cedar": POLICY, "tools.cedar": RULES});
        admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
        let client = Client::new(&data, Some(alice));
        let call = |text: Value| {
            let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {}});
            let params = json!({"name": "say", "arguments": {"text": text}, "_meta": meta});
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            let headers = [
                ("accept", "application/json, text/event-stream"),
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "tools/call"),
                ("mcp-name", "say"),
            ];
            let (_, text) = client.raw("POST", "/mcp/echo", Some(&body), &headers).unwrap();
            serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text))
        };
        let told = [call(json!("hello")), call(json!("secret")), call(json!(7))];
        (told, admin.call("GET", "/api/v1/session-labels", None).unwrap())
    })
    .await;
    let [said, forbidden, wrong] = &told;
    assert_eq!(said.pointer("/result/content/0/text"), Some(&json!("said")), "{said}");
    assert_eq!(forbidden.pointer("/error/data/reason"), Some(&json!("forbidden")), "{forbidden}");
    assert_eq!(wrong.pointer("/error/data/reason"), Some(&json!("tool_arguments_invalid")), "{wrong}");
    assert!(sessions.to_string().contains("\"confidential\""), "{sessions}");
    node.stop().await;
}
