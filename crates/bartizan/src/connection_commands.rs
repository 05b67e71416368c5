//! `bartizan connection`: accounts outside, connected from the person's own machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use bartizan_cli::{ConnectionCommand, ExitCode, Global, Table};
use serde_json::{Value, json};

use crate::commands::{Failure, client, show, text};
use crate::connection_try;

/// The longest request line that is read.
const LINE_MAX: u64 = 16 << 10;
/// For how long one caller may take to send it.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let waiting = Waiting::new()?;
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
    let query = waiting.answer()?;
    show(global, "POST", "/api/v1/connections/answer", Some(&json!({ "query": query })), |v| {
        format!("connected: {}", text(v, "/id"))
    })
}

/// A place on this machine where the browser comes back to (RFC 8252, 7.3).
pub(crate) struct Waiting {
    listener: TcpListener,
    /// Its address.
    pub(crate) address: String,
}

impl Waiting {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = format!("http://127.0.0.1:{}/answer", listener.local_addr()?.port());
        Ok(Self { listener, address })
    }

    /// The query that the browser comes back with. Whatever else calls is sent away.
    pub(crate) fn answer(&self) -> Result<String, Failure> {
        loop {
            let (mut stream, _) = self.listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut line = String::new();
            let read = BufReader::new((&stream).take(LINE_MAX)).read_line(&mut line);
            let path = read.ok().and_then(|_| line.strip_prefix("GET ")?.split(' ').next());
            let query = path.and_then(|path| path.strip_prefix("/answer?")).map(str::to_owned);
            let (status, said) = match query {
                Some(_) => ("200 OK", "You can close this page."),
                None => ("404 Not Found", "Nothing is here."),
            };
            let head =
                "content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: close";
            let length = said.len();
            // Whoever has gone does not need it.
            write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{said}")
                .unwrap_or_default();
            if let Some(query) = query {
                return Ok(query);
            }
        }
    }
}
