//! `bartizan connection`: accounts outside, connected from the person's own machine.

use std::io::Write as _;
use std::time::Duration;

use bartizan_cli::login::Loopback;
use bartizan_cli::{ConnectionCommand, ExitCode, Global, Table};
use serde_json::{Value, json};

use crate::commands::{Failure, client, show, text};
use crate::connection_try;

/// How long the answer of a browser is waited for: its state is good no longer.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) fn run(global: &Global, command: ConnectionCommand) -> Result<ExitCode, Failure> {
    match command {
        ConnectionCommand::Add { provider, agent, client, scopes } => {
            let wish = json!({"provider": provider, "agent": agent, "client": client, "scopes": scopes});
            add(global, wish)
        }
        ConnectionCommand::List => show(global, "GET", "/api/v1/connections", None, |v| {
            let fields = [
                ("id", "/id"),
                ("provider", "/provider"),
                ("agent", "/agent"),
                ("client", "/client"),
                ("resource", "/resource"),
                ("alive", "/alive"),
            ];
            Table::of(v, &fields).to_string()
        }),
        ConnectionCommand::Withdraw { id } => {
            show(global, "DELETE", &format!("/api/v1/connections/{id}"), None, |v| {
                match v.pointer("/ended_at_provider") {
                    Some(Value::Bool(true)) => format!("ended, also at the provider: {id}"),
                    _ => format!("ended here: {id}; the provider did not say that it has ended it too"),
                }
            })
        }
        ConnectionCommand::Try(args) => connection_try::run(global, &args),
    }
}

fn add(global: &Global, mut wish: Value) -> Result<ExitCode, Failure> {
    let waiting = Loopback::new()?;
    if let Some(members) = wish.as_object_mut() {
        members.insert("redirect".to_owned(), waiting.address.as_str().into());
    }
    let begun = client(global)?.call("POST", "/api/v1/connections", Some(&wish))?;
    writeln!(
        std::io::stderr(),
        "Open this address, at {}, and allow what you want to allow there:\n\n  {}\n",
        text(&begun, "/host"),
        text(&begun, "/address")
    )?;
    let query = came_back(&waiting)?;
    show(global, "POST", "/api/v1/connections/answer", Some(&json!({ "query": query })), |v| {
        format!("connected: {}", text(v, "/id"))
    })
}

/// The query that the browser comes back with. The house looks at what is in it.
pub(crate) fn came_back(waiting: &Loopback) -> Result<String, Failure> {
    let query = waiting.answer(PATIENCE, |_| true)?;
    query.ok_or_else(|| Failure::new(ExitCode::Failed, "nobody answered in the browser"))
}
