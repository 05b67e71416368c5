//! `bartizan login`, `logout`, `context`, `whoami`; and which server a command talks to as whom.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bartizan_cli::login::{Login, LoginError, Machine, Shown, SignedIn, Wish};
use bartizan_cli::{
    Chosen, Client, Context, ContextCommand, ContextName, Contexts, ExitCode, Global, LoginArgs, NotAContext,
    NotAServer, Output, OutputFormat, PrivateError, Said, Server, Table, Target, TargetError,
};
use bartizan_rt::{SystemClock, SystemRandom};
use bartizan_secret::Secret;
use serde_json::{Value, json};

use crate::commands::{Failure, client, text};

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        Self { code: error.exit(), hint: error.hint(), message: error.to_string() }
    }
}

impl From<PrivateError> for Failure {
    fn from(error: PrivateError) -> Self {
        LoginError::File(error).into()
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let hint = matches!(error, TargetError::Unknown(_)).then(|| "see `bartizan context list`".to_owned());
        Self { code: ExitCode::Usage, hint, message: error.to_string() }
    }
}

impl From<NotAContext> for Failure {
    fn from(error: NotAContext) -> Self {
        Self::usage(error.to_string())
    }
}

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<OsString> {
    std::env::vars_os().find(|(found, _)| found == name).map(|(_, value)| value).filter(|v| !v.is_empty())
}

fn words(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

fn machine() -> Machine {
    Machine::new(Arc::new(SystemClock::new()), Arc::new(SystemRandom::new()))
}

/// The folder of contexts, where this person has one.
fn folder() -> Option<PathBuf> {
    let path = |name| variable(name).map(PathBuf::from);
    Contexts::folder_of(path("XDG_CONFIG_HOME"), path("HOME"))
}

fn need_folder() -> Result<PathBuf, Failure> {
    folder().ok_or_else(|| Failure::usage("no folder for contexts: set HOME or XDG_CONFIG_HOME"))
}

fn said(global: &Global) -> (Said, Said) {
    let flags = Said {
        url: global.control_url.clone(),
        key_file: global.api_key_file.clone(),
        key: None,
        context: global.context.clone(),
    };
    let environment = Said {
        url: words("BARTIZAN_CONTROL_URL"),
        key_file: variable("BARTIZAN_API_KEY_FILE").map(PathBuf::from),
        key: words("BARTIZAN_API_KEY").map(Secret::new),
        context: words("BARTIZAN_CONTEXT"),
    };
    (flags, environment)
}

/// Where a command goes, and as whom.
pub(crate) fn target(global: &Global) -> Result<Target, Failure> {
    let (flags, environment) = said(global);
    let keyed = |said: &Said| said.key_file.is_some() || said.key.is_some();
    let placed = flags.url.is_some() || environment.url.is_some();
    let named = flags.context.is_some() || environment.context.is_some();
    // Whoever says everything needs no file of ours, so none can be in their way.
    let needed = named || !placed || !(keyed(&flags) || keyed(&environment));
    let contexts = if needed { folder().map(|folder| Contexts::open(&folder)).transpose()? } else { None };
    Ok(Target::choose(flags, environment, contexts.as_ref())?)
}

/// Who is logged in in a context, as a client of its server.
pub(crate) fn signed_in(url: &str, context: &ContextName) -> Result<Client, Failure> {
    let server: Server = url.parse().map_err(|error: NotAServer| Failure::usage(error.to_string()))?;
    Ok(Client::signed_in(url, SignedIn::open(&machine(), &need_folder()?, context, &server)?))
}

// --- logging in and out ----------------------------------------------------------------------------------------------

pub(crate) fn log_in(global: &Global, args: LoginArgs) -> Result<ExitCode, Failure> {
    let folder = need_folder()?;
    let (name, server) = place(global, args.server.as_deref())?;
    let machine = machine();
    let wish = Wish { scopes: args.scopes, again: args.again };
    let login = if args.device {
        Login::by_device(&machine, &server, &wish, show_device, std::thread::sleep)?
    } else {
        Login::by_browser(&machine, &server, &wish, |address| show_address(address, !args.no_browser))?
    };
    SignedIn::keep(&machine, &folder, &name, &login)?;
    Contexts::change(&folder, |all| all.put(name.clone(), Context { server: server.clone() }))?;
    let value = json!({"context": name, "server": server, "scope": login.scope()});
    Output::new(global.output, io::stdout()).value(&value, |_| {
        format!("Logged in at {server}; the context is `{name}`, for: {}", login.scope())
    })?;
    Ok(ExitCode::Ok)
}

/// Which context is logged in, and at which server.
fn place(global: &Global, server: Option<&str>) -> Result<(ContextName, Server), Failure> {
    let address =
        |text: &str| text.parse::<Server>().map_err(|error| Failure::usage(format!("`{text}`: {error}")));
    let contexts = folder().map(|folder| Contexts::open(&folder)).transpose()?;
    let named = global.context.clone().or_else(|| words("BARTIZAN_CONTEXT"));
    let named = named.map(|name| name.parse::<ContextName>()).transpose()?;
    let known = |name: &ContextName| contexts.as_ref()?.get(name).map(|context| context.server.clone());
    match (named, server) {
        (Some(name), Some(server)) => Ok((name, address(server)?)),
        (Some(name), None) => match known(&name) {
            Some(server) => Ok((name, server)),
            None => {
                let mut failure = Failure::usage(format!("there is no context `{name}` yet"));
                failure.hint = Some(format!("`bartizan login --context {name} --server https://…` makes it"));
                Err(failure)
            }
        },
        (None, server) => {
            let url = match server {
                Some(server) => server.to_owned(),
                // As for any other command.
                None => {
                    let (flags, environment) = said(global);
                    Target::choose(flags, environment, contexts.as_ref())?.url
                }
            };
            let server = address(&url)?;
            let all = contexts.as_ref();
            let current = all.and_then(Contexts::current).filter(|(_, c)| c.server == server);
            let same = all.and_then(|all| all.all().find(|(_, context)| context.server == server));
            let name = current.or(same).map(|(name, _)| name.clone()).or_else(|| ContextName::of(&server));
            let name = name.ok_or_else(|| Failure::usage("name the context with --context"))?;
            Ok((name, server))
        }
    }
}

/// Nobody is there to read it where this fails.
fn tell(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

fn show_address(address: &str, open: bool) {
    tell(&format!("Log in and allow it at this address:\n\n  {address}\n"));
    if open {
        let address = address.to_owned();
        // Beside the wait: some browsers answer only when they are closed. Whoever has none opens the address elsewhere.
        std::thread::spawn(move || opener::open_browser(&address).unwrap_or_default());
    }
}

fn show_device(shown: &Shown) {
    let Shown { code, address, complete } = shown;
    tell(&format!("Open this address in any browser and type the code:\n\n  {address}\n  {code}\n"));
    if let Some(complete) = complete {
        tell(&format!("Or open this one and compare the code:\n\n  {complete}\n"));
    }
}

/// The context that is meant.
fn chosen(global: &Global, name: Option<&str>) -> Result<(Contexts, ContextName, Context), Failure> {
    let contexts = Contexts::open(&need_folder()?)?;
    let named =
        name.map(str::to_owned).or_else(|| global.context.clone()).or_else(|| words("BARTIZAN_CONTEXT"));
    let found = match named {
        Some(text) => {
            let name: ContextName = text.parse()?;
            let context = contexts.get(&name).cloned().ok_or(TargetError::Unknown(text))?;
            (name, context)
        }
        None => {
            let current = contexts.current().map(|(name, context)| (name.clone(), context.clone()));
            current.ok_or_else(|| {
                let mut failure = Failure::new(ExitCode::Unauthenticated, "there is no current context");
                failure.hint = Some("`bartizan login --server https://…` makes one".to_owned());
                failure
            })?
        }
    };
    Ok((contexts, found.0, found.1))
}

pub(crate) fn log_out(global: &Global) -> Result<ExitCode, Failure> {
    let (contexts, name, context) = chosen(global, None)?;
    let said = ended(&contexts, &name, &context)?;
    let value = json!({"context": name, "server": context.server, "was_logged_in": said});
    Output::new(global.output, io::stdout()).value(&value, |_| match said {
        true => format!("Logged out of {}", context.server),
        false => format!("Nobody was logged in at {}", context.server),
    })?;
    Ok(ExitCode::Ok)
}

/// Ends the login of a context, here in any case.
fn ended(contexts: &Contexts, name: &ContextName, context: &Context) -> Result<bool, Failure> {
    SignedIn::forget(&machine(), contexts.folder(), name).map_err(|error| {
        let told = matches!(error, LoginError::File(_));
        let mut failure = Failure::from(error);
        if !told {
            failure.message =
                format!("forgotten here, but {} was not told: {}", context.server, failure.message);
            failure.hint = Some(format!("withdraw it at {}/account", context.server));
        }
        failure
    })
}

// --- contexts --------------------------------------------------------------------------------------------------------

pub(crate) fn context(global: &Global, command: &ContextCommand) -> Result<ExitCode, Failure> {
    match command {
        ContextCommand::List => {
            let contexts = folder().map(|folder| Contexts::open(&folder)).transpose()?;
            let rows: Vec<_> = contexts.iter().flat_map(|all| all.all().map(|one| row(all, one))).collect();
            let fields = [
                ("current", "/current"),
                ("context", "/context"),
                ("server", "/server"),
                ("logged in", "/logged_in"),
            ];
            Output::new(global.output, io::stdout())
                .value(&rows.into(), |rows| Table::of(rows, &fields).to_string())?;
        }
        ContextCommand::Use { name } => {
            let (contexts, name, context) = chosen(global, Some(name))?;
            let mut there = false;
            Contexts::change(contexts.folder(), |all| there = all.choose(&name))?;
            if !there {
                return Err(TargetError::Unknown(name.to_string()).into());
            }
            let value = json!({"context": name, "server": context.server});
            Output::new(global.output, io::stdout())
                .value(&value, |_| format!("{name} from now on: {}", context.server))?;
        }
        ContextCommand::Show { name } => {
            let (contexts, name, context) = chosen(global, name.as_deref())?;
            let value = row(&contexts, (&name, &context));
            Output::new(global.output, io::stdout()).value(&value, |value| {
                let scope = text(value, "/scope");
                let login = if scope == "-" {
                    "nobody is logged in".to_owned()
                } else {
                    format!("logged in for: {scope}")
                };
                format!("{name}: {}\n{login}", context.server)
            })?;
        }
        ContextCommand::Remove { name } => {
            let (contexts, name, context) = chosen(global, Some(name))?;
            let over = ended(&contexts, &name, &context);
            Contexts::change(contexts.folder(), |all| {
                all.remove(&name);
            })?;
            over?;
            let value = json!({"context": name, "removed": true});
            Output::new(global.output, io::stdout()).value(&value, |_| format!("removed {name}"))?;
        }
    }
    Ok(ExitCode::Ok)
}

fn row(contexts: &Contexts, (name, context): (&ContextName, &Context)) -> Value {
    let current = contexts.current().is_some_and(|(current, _)| current == name);
    let login = SignedIn::open(&machine(), contexts.folder(), name, &context.server);
    json!({
        "current": current, "context": name, "server": context.server, "logged_in": login.is_ok(),
        "scope": login.ok().map(|login| login.scope()),
    })
}

// --- who one is ------------------------------------------------------------------------------------------------------

pub(crate) fn whoami(global: &Global, json: bool) -> Result<ExitCode, Failure> {
    let target = target(global)?;
    let mut value = client(global)?.call("GET", "/api/v1/whoami", None)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("server".to_owned(), target.url.as_str().into());
        let context = if let Chosen::Context(name) = &target.credential { json!(name) } else { Value::Null };
        members.insert("context".to_owned(), context);
    }
    let format = if json { OutputFormat::Json } else { global.output };
    Output::new(format, io::stdout()).value(&value, who)?;
    Ok(ExitCode::Ok)
}

fn who(value: &Value) -> String {
    let list = |pointer: &str| {
        let items = value.pointer(pointer).and_then(Value::as_array)?;
        Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")).filter(|t| !t.is_empty())
    };
    let mut out = format!(
        "{}/{} in {}, assurance {}",
        text(value, "/kind"),
        text(value, "/name"),
        text(value, "/tenant"),
        value.pointer("/assurance").unwrap_or(&Value::Null)
    );
    let proven = value.pointer("/authenticated").and_then(Value::as_str);
    let lines = [
        ("at", Some(text(value, "/server").to_owned())),
        ("context", value.pointer("/context").and_then(Value::as_str).map(str::to_owned)),
        ("by", Some(by(value))),
        ("acting", list("/actors")),
        ("proven", list("/methods").zip(proven).map(|(methods, at)| format!("{methods}, {at}"))),
        ("for", Some(list("/scopes").unwrap_or_else(|| "whatever policy permits".to_owned()))),
        ("until", Some(text(value, "/expires").to_owned())),
    ];
    for (label, line) in lines {
        if let Some(line) = line {
            out.push_str(&format!("\n  {label}: {line}"));
        }
    }
    out
}

fn by(value: &Value) -> String {
    let credential = text(value, "/credential").replace('_', " ");
    let named = ["/key", "/client"].into_iter().find_map(|p| value.pointer(p).and_then(Value::as_str));
    let bound = match text(value, "/binding") {
        "none" | "-" => String::new(),
        binding => format!(", bound ({binding})"),
    };
    named.map_or_else(|| format!("{credential}{bound}"), |name| format!("{credential} ({name}){bound}"))
}
