//! `bartizan demo`: an example organisation and a story with real calls, which checks itself.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bartizan_base::Random as _;
use bartizan_cli::{Client, ExitCode};
use bartizan_ledger::VerifierKey;
use bartizan_rt::SystemRandom;
use bartizan_secret::Secret;
use bartizan_simulated_model::{Options, spawn};
use serde_json::{Value, json};

use crate::commands::{Environment, Failure, ended, logging, runtime};
use crate::config::{Config, Raw};
use crate::init;
use crate::node::Node;

const POLICY: &str = include_str!("../demo/policy.cedar");

/// A folder that goes when the demo ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's cleaning of its temporary folder.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// The example organisation with its keys.
struct Cast {
    data: String,
    control: Client,
    admin: Secret<String>,
    alice: (String, Secret<String>),
    carol: Secret<String>,
    mallory: Secret<String>,
}

pub(crate) fn run(once: bool, env_file: Option<&Path>) -> Result<ExitCode, Failure> {
    logging("warn", false);
    let mut suffix = [0; 8];
    SystemRandom::new().fill(&mut suffix);
    let folder = std::env::temp_dir().join(format!("bartizan-demo-{:016x}", u64::from_be_bytes(suffix)));
    let scratch = Scratch(folder.clone());
    runtime()?.block_on(async move {
        let config = configuration(&folder, once)?;
        let founded = init::found(&config, "2/3").await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let node = Node::start(&config).await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let model = spawn(local, Options { gap_ms: if once { 0 } else { 15 }, ..Options::default() }).await?;
        let (data, control) = (format!("http://{}", node.data), format!("http://{}", node.control));
        let env_file = env_file.map(Path::to_owned);
        let told = tokio::task::spawn_blocking(move || -> Result<(Stage, Cast), Failure> {
            let cast = found_organisation(&data, &control, &founded.claim, model)?;
            if let Some(path) = env_file {
                write_env(&path, &cast, &control)?;
            }
            let mut stage = Stage { out: io::stdout(), failed: 0, number: 0 };
            story(&mut stage, &cast)?;
            Ok((stage, cast))
        });
        let (mut stage, cast) = told.await.map_err(|e| Failure::of(ExitCode::Failed, &e))??;
        node.seal().await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        verified(&mut stage, &folder)?;
        if !once {
            invitation(&cast)?;
            ended().await;
        }
        node.stop().await;
        drop(scratch);
        if stage.failed > 0 {
            return Err(Failure::new(
                ExitCode::Failed,
                format!("{} of the story's expectations did not hold", stage.failed),
            ));
        }
        Ok(ExitCode::Ok)
    })
}

fn configuration(folder: &Path, once: bool) -> Result<Config, Failure> {
    let mut flags = vec![
        ("data.folder", folder.to_string_lossy().into_owned()),
        ("record.segment_bytes", "4194304".to_owned()),
    ];
    if once {
        for listener in ["listeners.data", "listeners.control", "listeners.operations"] {
            flags.push((listener, "127.0.0.1:0".to_owned()));
        }
    }
    let raw =
        Raw::load(None, &Environment, &flags).map_err(|e| Failure::new(ExitCode::Usage, e.to_string()))?;
    Config::resolve(&raw).map_err(|e| Failure::new(ExitCode::Usage, e.to_string()))
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn redeem(control: &str, claim: &Secret<String>, name: &str) -> Result<Secret<String>, Failure> {
    let body = json!({"claim": claim.expose(), "name": name});
    let value = Client::new(control, None).call("POST", "/api/v1/claim", Some(&body))?;
    Ok(Secret::new(text(&value, "/key/text")))
}

fn new_key(control: &Client, kind: &str, name: &str) -> Result<(String, Secret<String>), Failure> {
    let value = control.call(
        "POST",
        "/api/v1/keys",
        Some(&json!({"principal_kind": kind, "principal": name, "label": "demo"})),
    )?;
    Ok((text(&value, "/id"), Secret::new(text(&value, "/text"))))
}

fn found_organisation(
    data: &str,
    control: &str,
    claim: &Secret<String>,
    model: SocketAddr,
) -> Result<Cast, Failure> {
    let admin = redeem(control, claim, "ada")?;
    let client = Client::new(control, Some(admin.clone()));
    let node = |kind: &str, name: &str| json!({"name": name, "spec": {"kind": kind}});
    let all = ["openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages"];
    let a_model = |name: &str, environment: &str| json!({"name": name, "spec": {"kind": "model", "upstream": "simulated", "dialects": all, "environment": environment, "project": "support"}});
    let user =
        |name: &str, groups: &[&str]| json!({"name": name, "spec": {"kind": "user", "groups": groups}});
    let agent = json!({"name": "reporter", "spec": {"kind": "agent", "owner": "alice", "purpose": "weekly reports", "groups": ["engineers"]}});
    client.call(
        "PUT",
        "/api/v1/credentials/simulated",
        Some(&json!({"credential": "the-houses-own-credential"})),
    )?;
    let documents = json!([
        node("environment", "development"), node("environment", "production"), node("project", "support"),
        {"name": "engineers", "spec": {"kind": "group", "roles": ["model-user"]}},
        {"name": "contractors", "spec": {"kind": "group", "roles": ["model-user"]}},
        {"name": "simulated", "spec": {"kind": "upstream", "base_url": format!("http://{model}"), "allow_private": true, "credential": "simulated"}},
        a_model("assistant", "development"), a_model("assistant-prod", "production"), a_model("weights-lab", "development"),
        user("alice", &["engineers"]), user("carol", &["contractors"]), user("mallory", &[]), agent
    ]);
    client.call("POST", "/api/v1/resources", Some(&documents))?;
    client.call("PUT", "/api/v1/policy", Some(&json!({"files": {"policy.cedar": POLICY}, "expect": 1})))?;
    let alice = new_key(&client, "user", "alice")?;
    let (_, carol) = new_key(&client, "user", "carol")?;
    let (_, mallory) = new_key(&client, "user", "mallory")?;
    Ok(Cast { data: data.to_owned(), control: client, admin, alice, carol, mallory })
}

/// What `serve --upstream NAME=URL` sets up on an empty data folder: a person, a key, and every model the upstream lists.
pub(crate) fn quick_start(
    control: &str,
    claim: &Secret<String>,
    given: &str,
) -> Result<Secret<String>, Failure> {
    let (name, url) = given
        .split_once('=')
        .ok_or_else(|| Failure::new(ExitCode::Usage, format!("`--upstream {given}`: expected NAME=URL")))?;
    let admin = redeem(control, claim, "me")?;
    let client = Client::new(control, Some(admin.clone()));
    let variable = format!("{}_API_KEY", name.to_uppercase().replace('-', "_"));
    let credential = std::env::vars().find(|(n, _)| *n == variable).map(|(_, v)| Secret::new(v));
    if let Some(credential) = &credential {
        client.call(
            "PUT",
            &format!("/api/v1/credentials/{name}"),
            Some(&json!({"credential": credential.expose()})),
        )?;
    }
    let upstream = Client::new(url, credential.clone());
    let listed = upstream.call("GET", "/v1/models", None)?;
    let models = listed.pointer("/data").and_then(Value::as_array).cloned().unwrap_or_default();
    let sealed = credential.as_ref().map(|_| name);
    let mut documents = vec![
        json!({"name": "development", "spec": {"kind": "environment"}}),
        json!({"name": name, "spec": {"kind": "upstream", "base_url": url, "allow_private": true, "credential": sealed}}),
        json!({"name": "me", "spec": {"kind": "user", "roles": ["administrator", "model-user"]}}),
    ];
    let dialects = ["openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages"];
    documents.extend(models.iter().filter_map(|m| m.get("id")?.as_str()).map(|id| {
        json!({"name": id, "spec": {"kind": "model", "upstream": name, "dialects": dialects, "environment": "development"}})
    }));
    client.call("POST", "/api/v1/resources", Some(&documents.into()))?;
    Ok(admin)
}

// --- the story -------------------------------------------------------------------------------------------------------

/// Tells scenes and counts expectations that do not hold.
struct Stage {
    out: io::Stdout,
    failed: u32,
    number: u32,
}

impl Stage {
    fn scene(&mut self, title: &str) -> io::Result<()> {
        self.number += 1;
        writeln!(self.out, "\n{}. {title}", self.number)
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "   {line}")
    }

    fn expect(&mut self, what: &str, holds: bool) -> io::Result<()> {
        self.failed += u32::from(!holds);
        writeln!(self.out, "   {} {what}", if holds { "ok  " } else { "FAIL" })
    }
}

impl Cast {
    fn chat(
        &self,
        key: &Secret<String>,
        model: &str,
        prompt: &str,
        stream: bool,
    ) -> Result<(u16, String), Failure> {
        let body =
            json!({"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream});
        Ok(Client::new(&self.data, Some(key.clone())).raw(
            "POST",
            "/v1/chat/completions",
            Some(&body),
            &[],
        )?)
    }
}

/// The text of a streamed answer.
fn streamed(body: &str) -> String {
    let data = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|d| serde_json::from_str::<Value>(d).ok());
    data.map(|d| text(&d, "/choices/0/delta/content")).collect()
}

fn problem(body: &str) -> (String, String) {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    (text(&value, "/error/bartizan/reason"), text(&value, "/error/message"))
}

fn story(stage: &mut Stage, cast: &Cast) -> Result<(), Failure> {
    writeln!(
        stage.out,
        "An example organisation on embedded defaults. Every call below is a real HTTP call; the model behind it is simulated."
    )?;
    let (alice_id, alice) = &cast.alice;

    stage.scene("Alice, an engineer, asks a model in development. Permitted, streamed.")?;
    let (status, body) =
        cast.chat(alice, "assistant", "say: Hello Alice, this answer came as a stream.", true)?;
    stage.say(&format!("the model says: {}", streamed(&body)))?;
    stage.expect(
        "answered with 200 and the whole text",
        status == 200 && streamed(&body) == "Hello Alice, this answer came as a stream.",
    )?;

    stage.scene("Mallory, who has no role, asks the same. Refused; the answer does not even say that the model exists.")?;
    let (status, body) = cast.chat(&cast.mallory, "assistant", "say: hi", false)?;
    let (reason, message) = problem(&body);
    stage.say(&message)?;
    stage.expect("refused with 404 model_not_found", status == 404 && reason == "model_not_found")?;
    let why = json!({"principal": "user/mallory", "action": "model:invoke", "resource": "assistant"});
    let why = cast.control.call("POST", "/api/v1/policy/explain", Some(&why))?;
    stage.say("an administrator asks why:")?;
    for line in text(&why, "/text").lines().take(3) {
        stage.say(&format!("  {line}"))?;
    }
    stage.expect(
        "the explanation names the reason",
        text(&why, "/explanation/reasons/0") == "no_matching_permit",
    )?;

    stage.scene("Carol, a contractor, asks the same model. Permitted, but personal data is masked, also across the pieces of a stream.")?;
    let (status, body) = cast.chat(
        &cast.carol,
        "assistant",
        "say: Write to ann.lee@mail.example or call +49 30 901820, card 4111 1111 1111 1111.",
        true,
    )?;
    stage.say(&format!("the model says: {}", streamed(&body)))?;
    stage.expect(
        "masked: e-mail, phone and card",
        status == 200 && streamed(&body) == "Write to [email] or call [phone], card [card].",
    )?;

    stage.scene("Alice asks the model in production with a plain key. A stronger login is demanded.")?;
    let (status, body) = cast.chat(alice, "assistant-prod", "say: hi", false)?;
    let (reason, message) = problem(&body);
    stage.say(&message)?;
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    stage.say(&format!(
        "what would help: {}",
        value.pointer("/error/bartizan/remedies").unwrap_or(&Value::Null)
    ))?;
    stage.expect(
        "refused with 401 assurance_too_low and a step-up to level 3",
        status == 401
            && reason == "assurance_too_low"
            && value.pointer("/error/bartizan/remedies/0/level") == Some(&json!(3)),
    )?;

    stage.scene("Alice asks the model of the weights lab. Two people have to approve first.")?;
    let (status, body) = cast.chat(alice, "weights-lab", "say: hi", false)?;
    let (reason, message) = problem(&body);
    stage.say(&message)?;
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    stage.expect(
        "held with 403 approval_required, two approvals",
        status == 403
            && reason == "approval_required"
            && value.pointer("/error/bartizan/remedies/0/any_of/0/0/count") == Some(&json!(2)),
    )?;

    stage.scene("Alice's key is revoked. It is dead on the next call.")?;
    cast.control.call("POST", &format!("/api/v1/keys/{alice_id}/revoke"), None)?;
    let (status, body) = cast.chat(alice, "assistant", "say: hi", false)?;
    let (reason, message) = problem(&body);
    stage.say(&message)?;
    stage.expect("refused with 401 credential_revoked", status == 401 && reason == "credential_revoked")?;
    Ok(())
}

/// The last scene: the ledger is verified offline, then a tampered copy.
fn verified(stage: &mut Stage, folder: &Path) -> Result<(), Failure> {
    stage.scene(
        "The ledger is verified offline, from its files alone; then a copy in which one byte was changed.",
    )?;
    let log = folder.join("log").join("default");
    let period = fs::read_dir(&log)?.flatten().map(|e| e.path()).max().unwrap_or_else(|| log.clone());
    let key: VerifierKey = fs::read_to_string(period.join("key.vkey"))?
        .trim()
        .parse()
        .map_err(|e| Failure::of(ExitCode::Failed, &e))?;
    let report = bartizan_verify::verify_directory(&period, &key, None);
    for check in &report.checks {
        stage.expect(&check.what, check.ok)?;
    }
    stage.expect("every decision above is in it", report.ok && report.size >= 12)?;
    let copy = folder.join("tampered");
    copy_folder(&period, &copy)?;
    let bundle = find_bundle(&copy.join("tile").join("entries"))?;
    let mut bytes = fs::read(&bundle)?;
    let at = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    fs::write(&bundle, bytes)?;
    let report = bartizan_verify::verify_directory(&copy, &key, None);
    let why = report.checks.iter().find(|c| !c.ok).map_or("nothing noticed", |c| c.what.as_str());
    stage.expect(&format!("the tampered copy is caught: {why}"), !report.ok)?;
    Ok(())
}

fn find_bundle(folder: &Path) -> io::Result<PathBuf> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "the log holds no entries");
    let path = fs::read_dir(folder)?.next().ok_or_else(none)??.path();
    if path.is_dir() { find_bundle(&path) } else { Ok(path) }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = path.file_name().map_or_else(|| to.to_owned(), |name| to.join(name));
        if path.is_dir() { copy_folder(&path, &target)? } else { fs::copy(&path, &target).map(drop)? }
    }
    Ok(())
}

fn write_env(path: &Path, cast: &Cast, control: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fresh = |name| {
        new_key(&cast.control, "user", name).map(|(_, text)| text).map_err(|f| io::Error::other(f.message))
    };
    // Alice's first key is revoked in the story; scripts get one of their own.
    let text = format!(
        "export BARTIZAN_URL='{}'\nexport BARTIZAN_CONTROL_URL='{control}'\nexport BARTIZAN_API_KEY='{}'\nexport BARTIZAN_KEY_ALLOWED='{}'\n\
         export BARTIZAN_KEY_MASKED='{}'\nexport BARTIZAN_KEY_DENIED='{}'\nexport BARTIZAN_KEY_REVOKED='{}'\nexport BARTIZAN_MODEL='assistant'\n\
         export BARTIZAN_MODEL_PRODUCTION='assistant-prod'\n",
        cast.data,
        cast.admin.expose(),
        fresh("alice")?.expose(),
        cast.carol.expose(),
        cast.mallory.expose(),
        cast.alice.1.expose()
    );
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn invitation(cast: &Cast) -> Result<(), Failure> {
    let (_, key) = new_key(&cast.control, "user", "alice")?;
    let mut out = io::stdout();
    writeln!(
        out,
        "\nThe house stays up; end it with Ctrl-C. A fresh key for Alice:\n\n  export OPENAI_API_KEY={key}\n  export OPENAI_BASE_URL={data}/v1\n\n\
         Try:\n\n  curl -N $OPENAI_BASE_URL/chat/completions -H \"authorization: Bearer $OPENAI_API_KEY\" \\\n    \
         -H 'content-type: application/json' \\\n    -d '{{\"model\":\"assistant\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"say: hello\"}}]}}'\n\n  \
         python3 -c 'import openai; print(openai.OpenAI().chat.completions.create(model=\"assistant\", messages=[{{\"role\":\"user\",\"content\":\"say: hello\"}}]).choices[0].message.content)'\n\n\
         As the administrator:\n\n  export BARTIZAN_API_KEY={admin}\n  bartizan decision list\n  bartizan key list\n",
        key = key.expose(),
        data = cast.data,
        admin = cast.admin.expose()
    )?;
    Ok(())
}
