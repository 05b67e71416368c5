//! The Cerbos server over HTTP on one kept connection, started offline with policies on disk. What an asker is and has is part of
//! each request there, so its entities cost it nothing.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bartizan_bench::Error;
use bartizan_bench::report::Value;
use serde_json::{Value as Json, json};

use crate::timing::Times;
use crate::workload::{Asked, ENVIRONMENTS, Rule, SENSITIVITIES, Size, World};
use crate::{Effort, short};

const PORT: u16 = 39_592;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn drive(effort: &Effort, program: Option<&Path>, work: &Path) -> Result<Vec<Value>, Error> {
    let program = program.ok_or("no Cerbos: `--cerbos FILE` names its program")?;
    let mut values = Vec::new();
    for rules in effort.rules.iter().copied() {
        let entities = if rules > 1_000 { 100_000 } else { 1_000 };
        let world = World::new(Size { rules, entities, unscoped: true });
        let folder = work.join("cerbos");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("model.yaml"), policy(&world)?)?;
        let server = Command::new(program)
            .args(["server", "--debug-listen-addr=", "--log-level=error"])
            .arg(format!("--set=storage.disk.directory={}", folder.display()))
            .args(["--set=storage.driver=disk", "--set=telemetry.disabled=true"])
            .arg(format!("--set=server.httpListenAddr=127.0.0.1:{PORT}"))
            .arg(format!("--set=server.grpcListenAddr=127.0.0.1:{}", PORT + 1))
            .stdout(Stdio::null())
            .spawn()?;
        let _server = Server(server);
        let mut connection = connect()?;
        let asks = world.asks(effort.asks.min(1_000));
        let (mut permitted, mut failed) = (0, None);
        let times = Times::of(&asks, 50, |ask| match connection.ask(&request(&world, ask)) {
            Ok(allowed) => permitted += usize::from(allowed),
            Err(error) => failed = Some(error),
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let name = format!("decide_{}_{}", short(rules), short(entities));
        eprintln!(
            "  {name}: p50 {:.1} us, {permitted} of {} permitted",
            times.quantile_us(0.5),
            asks.len() + 50
        );
        // Its processor time is in another process.
        values.extend(times.values(&name).into_iter().filter(|value| !value.metric.ends_with("_cpu")));
    }
    Ok(values)
}

struct Connection(BufReader<TcpStream>);

fn connect() -> Result<Connection, Error> {
    for _ in 0..600 {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", PORT)) {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(b"GET /_cerbos/health HTTP/1.1\r\nHost: cerbos\r\n\r\n")?;
            let mut connection = Connection(BufReader::new(stream));
            if connection.answer().is_ok_and(|body| body["status"] == "SERVING") {
                return Ok(connection);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("Cerbos did not start".into())
}

impl Connection {
    fn ask(&mut self, request: &Json) -> Result<bool, Error> {
        let body = request.to_string();
        let head = format!(
            "POST /api/check/resources HTTP/1.1\r\nHost: cerbos\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let answer = self.answer()?;
        let actions =
            answer["results"][0]["actions"].as_object().ok_or_else(|| format!("Cerbos said {answer}"))?;
        Ok(actions.values().any(|effect| effect == "EFFECT_ALLOW"))
    }

    fn answer(&mut self) -> Result<Json, Error> {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

fn request(world: &World, ask: &Asked) -> Json {
    // It wants them without repetition.
    let roles: std::collections::BTreeSet<String> =
        world.roles_of(ask.user).iter().map(|r| format!("role{r}")).collect();
    let model = ask.model;
    json!({
        "principal": {
            "id": format!("user{}", ask.user), "roles": roles,
            "attr": { "team": format!("team{}", world.team_of(ask.user)), "level": ask.level, "inside": ask.inside },
        },
        "resources": [{
            "actions": [if ask.embed { "model:embed" } else { "model:invoke" }],
            "resource": { "kind": "model", "id": format!("model{model}"), "attr": {
                "project": format!("project{}", world.project_of(model)), "environment": format!("env{}", model % ENVIRONMENTS),
                "status": if model % 20 == 0 { "disabled" } else { "active" }, "sensitivity": SENSITIVITIES[model / 7 % 3],
            } },
        }],
    })
}

/// One resource policy with a rule for each of ours.
fn policy(world: &World) -> Result<String, Error> {
    let mut text = String::from(
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: model\n  version: default\n  rules:\n",
    );
    for rule in &world.rules {
        let (actions, effect, role, condition) = match rule {
            Rule::Role { role, project } => (
                "model:invoke",
                "ALLOW",
                format!("role{role}"),
                format!("R.attr.project == \"project{project}\""),
            ),
            Rule::Direct { user, model } => (
                "model:invoke",
                "ALLOW",
                "*".to_owned(),
                format!("P.id == \"user{user}\" && R.id == \"model{model}\""),
            ),
            Rule::Team { team, project, sensitivity, level } => (
                "*",
                "ALLOW",
                "*".to_owned(),
                format!(
                    "P.attr.team == \"team{team}\" && R.attr.project == \"project{project}\" && R.attr.sensitivity == \"{}\" \
                     && P.attr.level >= {level} && P.attr.inside",
                    SENSITIVITIES[*sensitivity]
                ),
            ),
            Rule::Closed { team, project } => (
                "*",
                "DENY",
                "*".to_owned(),
                format!(
                    "P.attr.team == \"team{team}\" && R.attr.project == \"project{project}\" && R.attr.status == \"disabled\""
                ),
            ),
            Rule::Strong { environment } => (
                "*",
                "DENY",
                "*".to_owned(),
                format!("P.attr.level < 3 && R.attr.environment == \"env{environment}\""),
            ),
        };
        let condition = serde_json::to_string(&condition)?;
        writeln!(
            text,
            "    - actions: ['{actions}']\n      effect: EFFECT_{effect}\n      roles: ['{role}']\n      condition:\n        match:\n          expr: {condition}"
        )?;
    }
    Ok(text)
}
