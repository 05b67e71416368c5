//! Bartizan with everything on: a token or a key, 1,000 policies, and a durable record before each call.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Error;
use crate::credentials::{AUDIENCE, ISSUER, SUBJECT};
use crate::process::{GATEWAY_CORE, free_address};
use crate::rivals::{Gateway, Setting, bearer};

/// What the caller shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    Token,
    Key,
}

/// Rules in force, those of the starting bundle included.
const POLICIES: usize = 1_000;

/// A fresh installation in the setting's folder, declared over its own control API as an administrator would.
pub fn start(setting: &Setting<'_>, binary: &Path, credential: Credential) -> Result<Gateway, Error> {
    Ok(installation(setting, binary, credential, None)?.0)
}

/// The same with an MCP server behind it, whose one tool is approved.
pub fn with_tools(setting: &Setting<'_>, binary: &Path, credential: Credential) -> Result<Gateway, Error> {
    let (gateway, api) = installation(setting, binary, credential, None)?;
    let documents = json!([
        {"name": "tools", "spec": {
            "kind": "upstream", "base_url": format!("http://{}", setting.upstream), "allow_private": true,
        }},
        {"name": "bench", "spec": {"kind": "tool_server"}},
        {"name": "bench", "spec": {"kind": "tool_route", "upstream": "tools"}},
    ]);
    api.call("POST", "/api/v1/resources", &documents)?;
    let offered = api.call("GET", "/api/v1/tools/bench", &Value::Null)?;
    let tools: serde_json::Map<String, Value> = offered
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| Some((tool.get("name")?.as_str()?.to_owned(), tool.get("digest")?.clone())))
        .collect();
    api.call("POST", "/api/v1/tools/bench/approve", &json!({"tools": tools}))?;
    Ok(gateway)
}

/// The same for proxies that ask, which is at the address that comes with it.
pub fn behind_proxies(
    setting: &Setting<'_>,
    binary: &Path,
    credential: Credential,
) -> Result<(Gateway, SocketAddr), Error> {
    let mesh = free_address()?;
    let (gateway, api) = installation(setting, binary, credential, Some(mesh))?;
    let documents = json!([
        {"name": "bench", "spec": {"kind": "api", "confidentiality": "internal"}},
        {"name": "bench", "spec": {
            "kind": "mesh_route", "hosts": ["gateway.bench"], "methods": ["POST"], "path": "/**",
            "action": "api:call", "resource": "bench",
        }},
    ]);
    api.call("POST", "/api/v1/resources", &documents)?;
    Ok((gateway, mesh))
}

fn installation(
    setting: &Setting<'_>,
    binary: &Path,
    credential: Credential,
    mesh: Option<SocketAddr>,
) -> Result<(Gateway, Api), Error> {
    let data_folder = setting.folder.join("data").display().to_string();
    let binary = binary.display().to_string();
    let founded = Command::new(&binary).args(["init", "--data-folder", &data_folder]).output()?;
    let told = [founded.stdout, founded.stderr].concat();
    let claim = claim(&String::from_utf8_lossy(&told)).ok_or("`bartizan init` printed no claim")?;

    let (data, control, operations) = (free_address()?, free_address()?, free_address()?);
    let mut command = vec![binary, "serve".into(), "--data-folder".into(), data_folder];
    let mut listeners = vec![("data", data), ("control", control), ("operations", operations)];
    listeners.extend(mesh.map(|mesh| ("mesh", mesh)));
    for (listener, address) in listeners {
        command.extend(["--set".to_owned(), format!("listeners.{listener}={address}")]);
    }
    command.extend(["--set".to_owned(), "log.filter=warn".to_owned()]);
    let program = setting.start("bartizan", GATEWAY_CORE, &command, &[])?;

    let api = Api { address: control, key: None };
    api.await_ready()?;
    let body = json!({"claim": claim, "name": "bench-administrator"});
    let redeemed = api.call("POST", "/api/v1/claim", &body)?;
    let api = Api { key: Some(text(&redeemed, "/key/text")?), ..api };
    api.call("POST", "/api/v1/resources", &documents(setting))?;
    api.call("PUT", "/api/v1/policy", &json!({"files": {"policy.cedar": policies()}, "expect": 1}))?;
    let shown = match credential {
        Credential::Token => setting.token.to_owned(),
        Credential::Key => {
            let wanted = json!({"principal_kind": "user", "principal": SUBJECT, "label": "bench"});
            text(&api.call("POST", "/api/v1/keys", &wanted)?, "/text")?
        }
    };
    let gateway = Gateway {
        program: Some(program),
        beside: Vec::new(),
        address: data,
        headers: bearer(&shown),
        model: "bench".into(),
    };
    Ok((gateway, api))
}

fn documents(setting: &Setting<'_>) -> Value {
    let upstream = format!("http://{}", setting.upstream);
    json!([
        {"name": "production", "spec": {"kind": "environment"}},
        {"name": "bench", "spec": {"kind": "project"}},
        {"name": "mock", "spec": {"kind": "upstream", "base_url": upstream, "allow_private": true}},
        {"name": "bench", "spec": {
            "kind": "model", "upstream": "mock", "dialects": ["openai.chat"], "environment": "production", "project": "bench",
        }},
        {"name": "bench", "spec": {
            "kind": "issuer", "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": format!("{upstream}/jwks"), "allow_private": true,
        }},
        {"name": SUBJECT, "spec": {"kind": "user", "roles": ["model-user"]}},
    ])
}

/// A bundle as a large organisation has it: most rules are about somebody else or something else, a few about everyone.
fn policies() -> String {
    let mut text = String::from(
        "@id(\"administrators\")\npermit (principal in Role::\"administrator\", action in [Action::\"house:change\", Action::\"house:read\"], resource);\n\
         @id(\"users\")\npermit (principal in Role::\"model-user\", action in [Action::\"model:use\", Action::\"model:list\"], resource);\n\
         @id(\"tools\")\npermit (principal in Role::\"model-user\", action in [Action::\"tool:use\", Action::\"tool:list\"], resource in ToolServer::\"bench\");\n\
         @id(\"services\")\npermit (principal in Role::\"model-user\", action == Action::\"api:call\", resource == Api::\"bench\");\n",
    );
    let everyone = 8;
    for number in 0..everyone {
        text += &format!(
            "@id(\"everyone-{number}\")\nforbid (principal, action in Action::\"model:use\", resource) when {{ context.assurance.level > {} }};\n",
            100 + number
        );
    }
    for number in 0..POLICIES - 4 - everyone {
        text += &match number % 2 {
            0 => format!(
                "@id(\"team-{number}\")\npermit (principal in Group::\"team-{number}\", action in Action::\"model:use\", resource in Project::\"project-{number}\");\n"
            ),
            _ => format!(
                "@id(\"project-{number}\")\nforbid (principal, action in Action::\"model:use\", resource in Project::\"project-{number}\") unless {{ context.assurance.level >= 3 }};\n"
            ),
        };
    }
    text
}

fn claim(told: &str) -> Option<String> {
    let (_, rest) = told.split_once("btzc_")?;
    Some(format!(
        "btzc_{}",
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    ))
}

fn text(value: &Value, pointer: &str) -> Result<String, Error> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| format!("no `{pointer}` in {value}").into())
}

/// The control API, one connection a call.
struct Api {
    address: SocketAddr,
    key: Option<String>,
}

impl Api {
    fn await_ready(&self) -> Result<(), Error> {
        let limit = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > limit {
                return Err("the control API does not come up; see bartizan.log".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let key = self.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer from the control API")?;
        if !head.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2')) {
            return Err(format!("{method} {path}: {answer}").into());
        }
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundle_has_as_many_rules_as_it_says() {
        assert_eq!(policies().matches("@id(").count(), POLICIES);
    }

    #[test]
    fn claim_is_found_in_what_init_prints() {
        assert_eq!(claim("  claim: btzc_0-f_A\nkeep it").as_deref(), Some("btzc_0-f_A"));
    }
}
