//! What each command does.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode as ProcessCode;
use std::sync::Arc;

use bartizan_cli::{
    Chosen, Cli, Client, ClientError, Command, ConfigCommand, DecisionCommand, DeliveryCommand, EpochCommand,
    ExitCode, Global, KeyCommand, Output, PolicyCommand, SessionCommand, Table,
};
use bartizan_model::ReasonCode;
use bartizan_secret::Secret;
use clap::Parser as _;
use serde_json::{Value, json};

use crate::config::{Config, Raw, Role, SETTINGS, Strings};
use crate::ground::DataFolder;
use crate::node::Node;
use crate::offline::seconds;
use crate::{
    WitnessNode, authoring, authority_commands, certificate_commands, connection_commands, demo,
    directory_commands, init, lock_commands, log, personal, policy_commands, recover, replay_commands,
    resource_commands, sign_in_commands, tool_commands,
};

/// How a command failed.
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// A failure with everything that caused it.
    pub(crate) fn of(code: ExitCode, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            next = cause.source();
        }
        Self::new(code, message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { code: error.exit(), hint: error.hint(), message: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // A reader that has seen enough is no failure.
        let code = if error.kind() == io::ErrorKind::BrokenPipe { ExitCode::Ok } else { ExitCode::Failed };
        Self::new(code, error.to_string())
    }
}

/// The process's environment.
pub(crate) struct Environment;

impl Strings for Environment {
    fn variables(&self) -> Vec<(String, String)> {
        std::env::vars().filter(|(name, _)| name.starts_with("BARTIZAN_")).collect()
    }
}

/// Runs the program.
#[must_use]
pub fn run() -> ProcessCode {
    #[cfg(feature = "proofs")]
    if std::env::args_os().nth(1).is_some_and(|argument| argument == crate::proofs::WORKER) {
        return crate::proofs::worker();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            // Nowhere left to say that even this could not be written.
            error.print().unwrap_or_default();
            return code.into();
        }
    };
    // The one crypto provider of the process.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::Failed.into();
    }
    match command(cli) {
        Ok(code) => code.into(),
        Err(failure) => {
            if failure.code != ExitCode::Ok {
                let mut err = io::stderr();
                writeln!(err, "error: {}", failure.message).unwrap_or_default();
                if let Some(hint) = &failure.hint {
                    writeln!(err, "\nhint: {hint}").unwrap_or_default();
                }
            }
            failure.code.into()
        }
    }
}

fn command(cli: Cli) -> Result<ExitCode, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Serve { data_folder, upstream, set } => {
            serve(&global, data_folder, upstream.as_deref(), &set)
        }
        Command::Init { data_folder, recovery } => initialise(&global, data_folder, &recovery),
        Command::Claim { name } => claim(&global, &name),
        Command::Recover(command) => recover::run(&global, command),
        Command::Demo { once, env_file } => demo::run(once, env_file.as_deref()),
        Command::Doctor { data_folder } => doctor(&global, data_folder),
        Command::Login(args) => sign_in_commands::log_in(&global, args),
        Command::Logout => sign_in_commands::log_out(&global),
        Command::Context(command) => sign_in_commands::context(&global, &command),
        Command::Whoami { json } => sign_in_commands::whoami(&global, json),
        Command::Authority(command) => authority_commands::run(&global, &command),
        Command::Invite { name } => {
            show(&global, "POST", &format!("/api/v1/users/{name}/invitation"), None, |v| {
                format!("{}\ngood once, until {}", text(v, "/link"), text(v, "/ends"))
            })
        }
        Command::Key(command) => key(&global, command),
        Command::Resource(command) => resource_commands::run(&global, command),
        Command::Directory(command) => directory_commands::run(&global, &command),
        Command::Upstream(command) => resource_commands::upstream(&global, command),
        Command::Certificate(command) => certificate_commands::run(&global, &command),
        Command::Connection(command) => connection_commands::run(&global, command),
        Command::Delivery(command) => delivery(&global, &command),
        Command::Tool(command) => tool_commands::run(&global, command),
        Command::Session(command) => session(&global, command),
        Command::Policy(command) => policy(&global, command),
        Command::Decision(command) => decision(&global, &command),
        Command::Subject(command) => personal::subject(&global, &command),
        Command::Vault(command) => personal::vault(&global, command),
        Command::Epoch(EpochCommand::Advance { kind, name }) => {
            show(&global, "POST", "/api/v1/epochs", Some(&json!({"kind": kind, "name": name})), |v| {
                format!("done: everything issued up to now is dead{}", acknowledged(v))
            })
        }
        Command::Lock(command) => lock_commands::run(&global, &command),
        Command::Log(command) => log::run(&global, command),
        Command::Config(command) => config_command(&global, &command),
        Command::Explain { code } => explain(&global, &code),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut bartizan_cli::command(), "bartizan", &mut io::stdout());
            Ok(ExitCode::Ok)
        }
        Command::Man { directory } => {
            fs::create_dir_all(&directory)?;
            clap_mangen::generate_to(bartizan_cli::command(), &directory)?;
            Ok(ExitCode::Ok)
        }
    }
}

// --- configuration ---------------------------------------------------------------------------------------------------

fn raw(global: &Global, flags: &[(&'static str, String)]) -> Result<Raw, Failure> {
    let found = global.config.clone().or_else(|| {
        [PathBuf::from("bartizan.toml"), PathBuf::from("/etc/bartizan/config.toml")]
            .into_iter()
            .find(|p| p.exists())
    });
    let text = match &found {
        None => None,
        Some(path) => {
            Some(fs::read_to_string(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?)
        }
    };
    let file = found.as_deref().zip(text.as_deref());
    Raw::load(file, &Environment, flags).map_err(|e| Failure::usage(e.to_string()))
}

pub(crate) fn config(
    global: &Global,
    data_folder: Option<PathBuf>,
    set: &[String],
) -> Result<Config, Failure> {
    let mut flags = Vec::new();
    if let Some(folder) = data_folder {
        flags.push(("data.folder", folder.to_string_lossy().into_owned()));
    }
    for pair in set {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`--set {pair}`: expected SETTING=VALUE")))?;
        let setting = SETTINGS
            .iter()
            .find(|s| s.path == name)
            .ok_or_else(|| Failure::usage(format!("unknown setting `{name}`")))?;
        flags.push((setting.path, value.to_owned()));
    }
    Config::resolve(&raw(global, &flags)?).map_err(|e| Failure::usage(e.to_string()))
}

fn config_command(global: &Global, command: &ConfigCommand) -> Result<ExitCode, Failure> {
    let raw = raw(global, &[])?;
    match command {
        ConfigCommand::Validate => {
            Config::resolve(&raw).map_err(|e| Failure::usage(e.to_string()))?;
            writeln!(io::stdout(), "ok")?;
        }
        ConfigCommand::Show { origin } => {
            let rows: Vec<Value> = raw
                .shown()
                .map(|(setting, value, from)| json!({"setting": setting.path, "value": value, "origin": from.to_string()}))
                .collect();
            let mut fields = vec![("setting", "/setting"), ("value", "/value")];
            if *origin {
                fields.push(("origin", "/origin"));
            }
            Output::new(global.output, io::stdout())
                .value(&rows.into(), |rows| Table::of(rows, &fields).to_string())?;
        }
    }
    Ok(ExitCode::Ok)
}

// --- the node --------------------------------------------------------------------------------------------------------

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from)
}

pub(crate) fn logging(filter: &str, json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start in one process keeps the first one's settings.
    if json { builder.json().try_init().unwrap_or_default() } else { builder.try_init().unwrap_or_default() }
}

fn serve(
    global: &Global,
    data_folder: Option<PathBuf>,
    upstream: Option<&str>,
    set: &[String],
) -> Result<ExitCode, Failure> {
    let config = config(global, data_folder, set)?;
    logging(&config.log.filter, config.log.json);
    if config.role == Role::Witness {
        return witness(&config);
    }
    runtime()?.block_on(async {
        let claim = match upstream {
            Some(_) if !init::is_founded(&config).await.map_err(|e| Failure::of(ExitCode::Failed, &e))? => {
                let founded = init::found(&config, "1/1").await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
                Some(founded.claim)
            }
            _ => None,
        };
        let node = Node::start(&config).await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let mut out = io::stdout();
        writeln!(out, "data        http://{}\ncontrol     http://{}\noperations  http://{}", node.data, node.control, node.operations)?;
        if let (Some(given), Some(claim)) = (upstream, claim) {
            let (base, given) = (format!("http://{}", node.control), given.to_owned());
            let ready = tokio::task::spawn_blocking(move || demo::quick_start(&base, &claim, &given)).await;
            let key = ready.map_err(|e| Failure::of(ExitCode::Failed, &e))??;
            writeln!(out, "\nAn installation was created for trying out. Your key, shown once:\n\n  export OPENAI_API_KEY={}\n  export OPENAI_BASE_URL=http://{}/v1", key.expose(), node.data)?;
        }
        out.flush()?;
        ended().await;
        node.stop().await;
        Ok(ExitCode::Ok)
    })
}

/// Runs a witness until it is asked to end.
fn witness(config: &Config) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let node = WitnessNode::start(config).await.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let mut out = io::stdout();
        writeln!(
            out,
            "witness     http://{}\noperations  http://{}\nkey         {}",
            node.data, node.operations, node.key
        )?;
        out.flush()?;
        ended().await;
        node.stop().await;
        Ok(ExitCode::Ok)
    })
}

/// Resolves when the process is asked to end.
pub(crate) async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(interrupt.await),
    }
}

fn initialise(global: &Global, data_folder: Option<PathBuf>, recovery: &str) -> Result<ExitCode, Failure> {
    let config = config(global, data_folder, &[])?;
    let founded =
        runtime()?.block_on(init::found(&config, recovery)).map_err(|e| Failure::of(ExitCode::Failed, &e))?;
    let value = json!({
        "folder": config.folder, "claim": founded.claim.expose(), "needed": founded.needed,
        "recovery": founded.recovery.iter().map(|k| k.expose().clone()).collect::<Vec<_>>()
    });
    Output::new(global.output, io::stdout()).value(&value, |_| {
        let keys: String = founded.recovery.iter().map(|k| format!("  {}\n", k.expose())).collect();
        format!(
            "Created an installation in {}.\n\nRecovery keys, shown once; keep them offline and apart ({} of {} are needed):\n\n{keys}\n\
             The first administrator's claim, good for 24 hours and one use:\n\n  {}\n\n\
             Next: run `bartizan serve`, then `bartizan claim --name YOU` and paste the claim.",
            config.folder.display(), founded.needed, founded.recovery.len(), founded.claim.expose()
        )
    })?;
    Ok(ExitCode::Ok)
}

fn doctor(global: &Global, data_folder: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let config = config(global, data_folder, &[])?;
    let mut checks: Vec<(&str, Result<String, String>)> = Vec::new();
    checks.push((
        "installation",
        match runtime()?.block_on(init::is_founded(&config)) {
            Ok(true) => Ok(config.folder.display().to_string()),
            Ok(false) => Err("none; run `bartizan init`".to_owned()),
            Err(error) => Err(Failure::of(ExitCode::Failed, &error).message),
        },
    ));
    checks.push((
        "declared things",
        match runtime()?.block_on(init::misfits(&config)) {
            Ok(misfits) => misfits.first().map_or_else(
                || Ok("all fit the schema in force".to_owned()),
                |first| Err(format!("{} do not fit the schema in force; the first: {first}", misfits.len())),
            ),
            Err(error) => Err(Failure::of(ExitCode::Failed, &error).message),
        },
    ));
    let held = DataFolder::open(&config.folder);
    checks.push((
        "data folder",
        held.as_ref().map(|_| "free; no node runs on it".to_owned()).map_err(ToString::to_string),
    ));
    let keys = bartizan_keys::KeyFolder::open(&config.folder.join("keys"));
    checks.push((
        "keys",
        keys.map(|_| "readable by the service user alone".to_owned()).map_err(|e| e.to_string()),
    ));
    if let (true, Ok(_)) = (config.vault.enabled, &held) {
        checks.push(("vault", vault_check(&config.folder)));
    }
    checks.push(("tool servers", crate::children::check(&config)));
    checks.push(("code", crate::code::check(&config)));
    let probe = config.folder.join("doctor.probe");
    let synced = fs::File::create(&probe)
        .and_then(|mut f| f.write_all(&[0; 4_096]).and_then(|()| f.sync_all()))
        .and_then(|()| fs::remove_file(&probe));
    checks.push(("disk", synced.map(|()| "writes and syncs".to_owned()).map_err(|e| e.to_string())));
    let bad = checks.iter().any(|(_, r)| r.is_err());
    let rows: Vec<Value> = checks
        .iter()
        .map(|(what, r)| json!({"check": what, "ok": r.is_ok(), "detail": r.as_ref().map_or_else(Clone::clone, Clone::clone)}))
        .collect();
    Output::new(global.output, io::stdout()).value(&rows.into(), |rows| {
        Table::of(rows, &[("check", "/check"), ("ok", "/ok"), ("detail", "/detail")]).to_string()
    })?;
    Ok(if bad { ExitCode::Failed } else { ExitCode::Ok })
}

/// Opens every key, value and payload of the vault; what there is none of yet is not made.
fn vault_check(folder: &Path) -> Result<String, String> {
    if !folder.join("vault.db").exists() {
        return Ok("nothing kept yet".to_owned());
    }
    let keys = bartizan_keys::KeyFolder::open(&folder.join("keys")).map_err(|e| e.to_string())?;
    let sealer = Arc::new(keys.sealer().map_err(|e| e.to_string())?);
    let vault = bartizan_vault::Vault::open(folder, sealer, Arc::new(bartizan_rt::SystemRandom::new()));
    let checked = vault.and_then(|vault| vault.check()).map_err(|e| e.to_string())?;
    let bartizan_vault::Checked { subjects, items, payloads } = checked;
    Ok(format!("{subjects} subjects, {items} values and {payloads} payloads open"))
}

// --- the control API -------------------------------------------------------------------------------------------------

pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let target = sign_in_commands::target(global)?;
    let key = match target.credential {
        Chosen::KeyFile(path) => Secret::new(
            fs::read_to_string(&path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?,
        ),
        Chosen::Key(key) => key,
        Chosen::Context(context) => return sign_in_commands::signed_in(&target.url, &context),
        Chosen::Nothing => {
            let message = format!("nobody is logged in at {}, and there is no API key", target.url);
            let mut failure = Failure::new(ExitCode::Unauthenticated, message);
            failure.hint = Some(
                "`bartizan login`, or set BARTIZAN_API_KEY or --api-key-file; the first key comes from `bartizan claim`"
                    .to_owned(),
            );
            return Err(failure);
        }
    };
    Ok(Client::new(&target.url, Some(Secret::new(key.expose().trim().to_owned()))))
}

pub(crate) fn show(
    global: &Global,
    method: &str,
    path: &str,
    body: Option<&Value>,
    people: impl FnOnce(&Value) -> String,
) -> Result<ExitCode, Failure> {
    let value = client(global)?.call(method, path, body)?;
    Output::new(global.output, io::stdout()).value(&value, people)?;
    Ok(ExitCode::Ok)
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

/// At how many nodes, after how long, and which of them did not answer.
pub(crate) fn acknowledged(value: &Value) -> String {
    let names = |pointer: &str| {
        let nodes = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        nodes.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let (Some(ms), Some(nodes)) = (number("/acknowledged/ms"), number("/acknowledged/nodes")) else {
        return String::new();
    };
    let plural = if nodes == 1 { "" } else { "s" };
    let mut said = format!(", in force on {nodes} node{plural} after {ms} ms");
    for (pointer, what) in [
        ("/acknowledged/ran_out", "did not answer, and may decide nothing until they have caught up"),
        ("/acknowledged/behind", "are still compiling the new policy"),
    ] {
        let nodes = names(pointer);
        if !nodes.is_empty() {
            said.push_str(&format!("; {nodes} {what}"));
        }
    }
    said
}

fn claim(global: &Global, name: &str) -> Result<ExitCode, Failure> {
    let mut claim = String::new();
    io::stdin().read_to_string(&mut claim)?;
    let body = json!({"claim": claim.trim(), "name": name});
    let url = sign_in_commands::target(global)?.url;
    let value = Client::new(&url, None).call("POST", "/api/v1/claim", Some(&body))?;
    Output::new(global.output, io::stdout()).value(&value, |v| new_key(v.pointer("/key").unwrap_or(v)))?;
    Ok(ExitCode::Ok)
}

pub(crate) fn new_key(value: &Value) -> String {
    format!(
        "Key {} for {}, until {}. Shown once:\n\n  {}",
        text(value, "/id"),
        text(value, "/principal"),
        text(value, "/expires"),
        text(value, "/text")
    )
}

/// Splits `user/alice`.
fn principal(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('/')
        .filter(|(kind, _)| ["user", "agent", "workload"].contains(kind))
        .ok_or_else(|| Failure::usage(format!("`{text}`: expected user/NAME, agent/NAME or workload/NAME")))
}

fn duration(text: &str) -> Result<u64, Failure> {
    seconds(text)
        .ok_or_else(|| Failure::usage(format!("`{text}`: expected a duration such as 90s, 15m, 12h or 30d")))
}

fn key(global: &Global, command: KeyCommand) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Create { principal: of, label, scopes, life } => {
            let (kind, name) = principal(&of)?;
            let scopes = if scopes.is_empty() { Value::Null } else { json!(scopes) };
            let body = json!({"principal_kind": kind, "principal": name, "label": label, "scopes": scopes, "life_s": duration(&life)?});
            show(global, "POST", "/api/v1/keys", Some(&body), new_key)
        }
        KeyCommand::List => {
            let fields = [
                ("id", "/id"),
                ("handle", "/handle"),
                ("principal", "/principal"),
                ("state", "/state"),
                ("expires", "/expires"),
                ("last used", "/last_used"),
                ("label", "/label"),
            ];
            show(global, "GET", "/api/v1/keys", None, |keys| Table::of(keys, &fields).to_string())
        }
        KeyCommand::Revoke { id } => show(global, "POST", &format!("/api/v1/keys/{id}/revoke"), None, |v| {
            format!("revoked {}{}", text(v, "/id"), acknowledged(v))
        }),
        KeyCommand::Rotate { id, overlap } => {
            let body = json!({"overlap_s": duration(&overlap)?});
            show(global, "POST", &format!("/api/v1/keys/{id}/rotate"), Some(&body), new_key)
        }
    }
}

fn session(global: &Global, command: SessionCommand) -> Result<ExitCode, Failure> {
    const PATH: &str = "/api/v1/session-labels";
    let fields = [
        ("session", "/session"),
        ("of", "/of"),
        ("confidentiality", "/label/confidentiality"),
        ("integrity", "/label/integrity"),
        ("categories", "/label/categories"),
        ("version", "/version"),
    ];
    match command {
        SessionCommand::List => show(global, "GET", PATH, None, |v| Table::of(v, &fields).to_string()),
        SessionCommand::Endorse { id, seen, integrity, confidentiality, categories, reason } => {
            let all = client(global)?.call("GET", PATH, None)?;
            let is = |one: &&Value| one.get("session").and_then(Value::as_str) == Some(id.as_str());
            let known = all.as_array().into_iter().flatten().find(is).and_then(|one| one.get("label"));
            let Some(mut label) = known.cloned() else {
                return Err(Failure::usage(format!(
                    "nothing is known of session `{id}`; see `bartizan session list`"
                )));
            };
            if let Some(label) = label.as_object_mut() {
                label.extend(integrity.map(|to| ("integrity".to_owned(), to.into())));
                label.extend(confidentiality.map(|to| ("confidentiality".to_owned(), to.into())));
                if !categories.is_empty() {
                    label.insert("categories".to_owned(), categories.into());
                }
            }
            let body = json!({"session": id, "version": seen, "label": label, "reason": reason});
            show(global, "POST", &format!("{PATH}/endorse"), Some(&body), |_| format!("endorsed {id}"))
        }
    }
}

fn delivery(global: &Global, command: &DeliveryCommand) -> Result<ExitCode, Failure> {
    match command {
        DeliveryCommand::List => {
            let fields = [
                ("kind", "/kind"),
                ("name", "/name"),
                ("state", "/state"),
                ("behind", "/behind"),
                ("last success", "/last_success"),
                ("failures", "/failures"),
                ("dead letters", "/dead_letters"),
                ("failing", "/failing"),
            ];
            show(global, "GET", "/api/v1/deliveries", None, |v| Table::of(v, &fields).to_string())
        }
        DeliveryCommand::Letters { name } => {
            let fields = [
                ("id", "/id"),
                ("log", "/origin"),
                ("first", "/first"),
                ("last", "/last"),
                ("records", "/records"),
                ("refused", "/refused"),
                ("cause", "/cause"),
            ];
            let path = format!("/api/v1/deliveries/{name}/letters");
            show(global, "GET", &path, None, |v| Table::of(v, &fields).to_string())
        }
        DeliveryCommand::Retry { name, id } => {
            let path = format!("/api/v1/deliveries/{name}/letters/{id}/retry");
            show(global, "POST", &path, None, |_| format!("delivered {id}"))
        }
    }
}

fn policy(global: &Global, command: PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::New { list: true, .. } => authoring::list(global),
        PolicyCommand::New { words, .. } => match words.as_slice() {
            [folder] => authoring::new(global, None, Path::new(folder)),
            [pattern, folder] => authoring::new(global, Some(pattern), Path::new(folder)),
            _ => Err(Failure::usage("name a folder, or a pattern and a folder")),
        },
        PolicyCommand::Fmt { folder, check } => authoring::format(global, &folder, check),
        PolicyCommand::Check { folder } => authoring::check(global, &folder),
        PolicyCommand::Test { folder } => authoring::test(global, &folder),
        PolicyCommand::Coverage { folder } => authoring::coverage(global, &folder),
        PolicyCommand::Graph { folder, drawn } => authoring::graph(global, &folder, drawn),
        PolicyCommand::Schema => authoring::schema(global),
        PolicyCommand::WhoCan { action, resource, after } => {
            // The part that is searched for is passed over, whatever stands there.
            let ask = json!({"principal": "user/anybody", "action": action, "resource": resource});
            let body = json!({"what": "subjects", "ask": ask, "page": {"after": after}});
            show(global, "POST", "/api/v1/policy/reach", Some(&body), authoring::told_reach)
        }
        PolicyCommand::WhatCan { principal, action, after } => {
            let ask = json!({"principal": principal, "action": action, "resource": "anything"});
            let body = json!({"what": "resources", "ask": ask, "page": {"after": after}});
            show(global, "POST", "/api/v1/policy/reach", Some(&body), authoring::told_reach)
        }
        #[cfg(feature = "proofs")]
        PolicyCommand::Prove(args) => crate::proofs::prove(global, &args),
        #[cfg(not(feature = "proofs"))]
        PolicyCommand::Prove(_) => {
            let mut failure =
                Failure::new(ExitCode::Failed, "proofs are unavailable: this build is without them");
            failure.hint = Some("build `bartizan` with the feature `proofs`".to_owned());
            Err(failure)
        }
        PolicyCommand::Apply { folder, plan, signature } => {
            policy_commands::apply(global, folder.as_deref(), plan.as_deref(), &signature)
        }
        PolicyCommand::Plan { folder, since, prove, out } => {
            policy_commands::plan(global, &folder, since.as_deref(), prove.as_deref(), out.as_deref())
        }
        PolicyCommand::Rollback { to } => policy_commands::rollback(global, to),
        PolicyCommand::Shadow(command) => policy_commands::shadow(global, &command),
        PolicyCommand::Rollout { folder, percent, group, abort, signature } => {
            policy_commands::rollout(global, folder.as_deref(), percent, &group, abort, &signature)
        }
        PolicyCommand::Sign { folder, base, tenant } => policy_commands::sign(&folder, base, &tenant),
        PolicyCommand::Key => policy_commands::key(global),
        PolicyCommand::Explain { principal: of, action, resource, assurance } => {
            let body =
                json!({"principal": of, "action": action, "resource": resource, "assurance": assurance});
            show(global, "POST", "/api/v1/policy/explain", Some(&body), |v| text(v, "/text").to_owned())
        }
    }
}

fn decision(global: &Global, command: &DecisionCommand) -> Result<ExitCode, Failure> {
    match command {
        DecisionCommand::Show { id } => {
            show(global, "GET", &format!("/api/v1/decisions/{id}"), None, told_decision)
        }
        DecisionCommand::Content { id } => personal::content(global, id),
        DecisionCommand::Explain { id } => replay_commands::explain(global, id),
        DecisionCommand::Replay { id, save, from, with, since, limit } => match (id, from, with) {
            (Some(id), ..) => replay_commands::one(global, id, save.as_deref()),
            (None, Some(from), _) => replay_commands::saved(global, from),
            (None, None, Some(with)) => replay_commands::under(global, with, since, *limit),
            (None, None, None) => Err(Failure::usage("name a decision, or a draft with `--with`")),
        },
        DecisionCommand::List { limit } => {
            let fields = [
                ("decision", "/record/id"),
                ("kind", "/record/kind"),
                ("subject", "/subject"),
                ("action", "/record/what/action"),
                ("resource", "/record/what/resource/name"),
                ("reasons", "/record/reasons"),
            ];
            show(global, "GET", &format!("/api/v1/decisions?limit={limit}"), None, |v| {
                Table::of(v, &fields).to_string()
            })
        }
    }
}

fn told_decision(value: &Value) -> String {
    let mut out = format!(
        "{} {}\n  who: {}\n  asked: {} on {}\n",
        text(value, "/record/kind"),
        text(value, "/record/id"),
        text(value, "/subject"),
        text(value, "/record/what/action"),
        text(value, "/record/what/resource/name")
    );
    let list = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
            .unwrap_or_default()
    };
    for (label, pointer) in [("why", "/record/reasons"), ("rules", "/record/grounds/rules")] {
        let items = list(pointer);
        if !items.is_empty() {
            out.push_str(&format!("  {label}: {items}\n"));
        }
    }
    out.push_str(&format!("  policy: {}\n", text(value, "/record/grounds/policy")));
    match value.pointer("/outcome/end/how").and_then(Value::as_str) {
        Some(how) => out.push_str(&format!("  ended: {how}\n")),
        None => out.push_str("  ended: not yet, or nothing was begun\n"),
    }
    match value.pointer("/sealed/1") {
        Some(index) => out.push_str(&format!("  sealed: {} at {index}\n", text(value, "/sealed/0"))),
        None => out.push_str("  sealed: at the next checkpoint\n"),
    }
    out
}

fn explain(global: &Global, code: &str) -> Result<ExitCode, Failure> {
    let reason: ReasonCode = code
        .parse()
        .map_err(|_| Failure::new(ExitCode::Failed, format!("no reason has the code `{code}`")))?;
    let value = json!({"code": reason.code(), "status": reason.status(), "meaning": reason.meaning().trim(), "way_forward": reason.way_forward()});
    Output::new(global.output, io::stdout()).value(&value, |_| {
        format!(
            "{} (HTTP {})\n\n{}\n{}",
            reason.code(),
            reason.status(),
            reason.meaning().trim(),
            reason.way_forward()
        )
    })?;
    Ok(ExitCode::Ok)
}
