//! Nodes of Bartizan as they are run, and their control API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use bartizan_bench::process::{Program, free_address};
use serde_json::{Value, json};

const POLICY: &str = "@id(\"administrators\")\n\
    permit (principal in Role::\"administrator\", action in [Action::\"house:change\", Action::\"house:read\"], resource);\n\
    @id(\"users\")\n\
    permit (principal in Role::\"model-user\", action in [Action::\"model:use\", Action::\"model:list\"], resource);\n";

/// A node that runs.
pub struct Node {
    program: Program,
    pub data: SocketAddr,
    pub control: SocketAddr,
}

impl Node {
    /// Starts one on `folder`, with its state in PostgreSQL at `url` if there is one.
    pub fn start(binary: &Path, folder: &Path, url: Option<&str>) -> Result<Self, Error> {
        let (data, control, operations) = (free_address()?, free_address()?, free_address()?);
        let mut command: Vec<String> =
            vec![binary.display().to_string(), "serve".into(), "--data-folder".into()];
        command.push(folder.join("data").display().to_string());
        for (listener, address) in [("data", data), ("control", control), ("operations", operations)] {
            command.extend(["--set".to_owned(), format!("listeners.{listener}={address}")]);
        }
        command.extend(["--set".to_owned(), "log.filter=warn".to_owned()]);
        let program = Program::start(None, &command, &environment(url), &folder.join("node.log"))?;
        let limit = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(data).is_err() {
            if Instant::now() > limit {
                return Err(format!("it does not come up; see {}", folder.join("node.log").display()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { program, data, control })
    }

    /// The processor time that it has used, in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.program.cpu_s()
    }

    fn is_stopped(&self) -> Result<bool, Error> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.program.id()))? {
            let told = std::fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            if told.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stops it where it stands, or lets it go on.
    pub fn suspend(&self, suspended: bool) -> Result<(), Error> {
        let signal = if suspended { "STOP" } else { "CONT" };
        let status = Command::new("kill").args(["-s", signal, &self.program.id().to_string()]).status()?;
        if !status.success() {
            return Err("the node cannot be suspended".into());
        }
        // Each of its threads must have had its turn to stop before it is silent.
        while suspended && !self.is_stopped()? {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn environment(url: Option<&str>) -> Vec<(&str, &str)> {
    url.map(|url| ("BARTIZAN_STATE__POSTGRES_URL", url)).into_iter().collect()
}

/// Makes an installation in `folder` and gives the first administrator's claim.
pub fn found(binary: &Path, folder: &Path, url: Option<&str>) -> Result<String, Error> {
    std::fs::create_dir_all(folder)?;
    let mut command = Command::new(binary);
    command.args(["init", "--data-folder"]).arg(folder.join("data")).envs(environment(url));
    let told = command.output()?;
    let text = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    let (_, rest) = text.split_once("btzc_").ok_or_else(|| format!("`bartizan init`: {text}"))?;
    let word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    Ok(format!("btzc_{}", rest.chars().take_while(word).collect::<String>()))
}

/// A folder for a further node, with copies of the first one's keys.
pub fn beside(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let other = folder.join(name);
    std::fs::create_dir_all(other.join("data"))?;
    let copied =
        Command::new("cp").arg("-a").arg(folder.join("data/keys")).arg(other.join("data")).status()?;
    if copied.success() { Ok(other) } else { Err("the keys cannot be copied".into()) }
}

/// The control API, one connection a call.
#[derive(Clone)]
pub struct Admin {
    address: SocketAddr,
    key: Option<String>,
}

impl Admin {
    /// Redeems the claim and declares a model, a user and rules.
    pub fn furnish(control: SocketAddr, claim: &str, model: SocketAddr) -> Result<Self, Error> {
        let nobody = Self { address: control, key: None };
        let redeemed = nobody.call("POST", "/api/v1/claim", &json!({"claim": claim, "name": "ada"}))?;
        let admin = Self { key: Some(text(&redeemed, "/key/text")?), ..nobody };
        let documents = json!([
            {"name": "production", "spec": {"kind": "environment"}},
            {"name": "bench", "spec": {"kind": "project"}},
            {"name": "simulated", "spec": {"kind": "upstream", "base_url": format!("http://{model}"), "allow_private": true}},
            {"name": "bench", "spec": {
                "kind": "model", "upstream": "simulated", "dialects": ["openai.chat"], "environment": "production", "project": "bench",
            }},
            {"name": "somebody", "spec": {"kind": "user", "roles": ["model-user"]}},
        ]);
        admin.call("POST", "/api/v1/resources", &documents)?;
        admin.call("PUT", "/api/v1/policy", &json!({"files": {"policy.cedar": POLICY}, "expect": 1}))?;
        Ok(admin)
    }

    /// A key of the user: its id and its text.
    pub fn key(&self) -> Result<(String, String), Error> {
        let wanted = json!({"principal_kind": "user", "principal": "somebody", "label": "bench"});
        let made = self.call("POST", "/api/v1/keys", &wanted)?;
        Ok((text(&made, "/id")?, text(&made, "/text")?))
    }

    /// Declares things.
    pub fn apply(&self, documents: &Value) -> Result<(), Error> {
        self.call("POST", "/api/v1/resources", documents).map(drop)
    }

    /// Makes a person over SCIM.
    pub fn provision(&self, name: &str) -> Result<(), Error> {
        let schema = "urn:ietf:params:scim:schemas:core:2.0:User";
        self.call("POST", "/scim/v2/Users", &json!({"schemas": [schema], "userName": name})).map(drop)
    }

    pub fn revoke(&self, id: &str) -> Result<Value, Error> {
        self.call("POST", &format!("/api/v1/keys/{id}/revoke"), &Value::Null)
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

fn text(value: &Value, pointer: &str) -> Result<String, Error> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| format!("no `{pointer}` in {value}").into())
}
