//! Commands about locks.

use bartizan_cli::{ExitCode, Global, LockCommand, Table};
use serde_json::json;

use crate::commands::{Failure, acknowledged, show, text};
use crate::offline::seconds;

pub(crate) fn run(global: &Global, command: &LockCommand) -> Result<ExitCode, Failure> {
    match command {
        LockCommand::Add { on, reason, lasts, ask } => {
            let wrong =
                |text: &str| Failure::usage(format!("`{text}`: expected a time such as 15m, 8h or 2d"));
            let lasts = lasts.as_deref().map(|text| seconds(text).ok_or_else(|| wrong(text))).transpose()?;
            let body = json!({"on": on, "reason": reason, "for_s": lasts, "ask": ask});
            show(global, "POST", "/api/v1/locks", Some(&body), |v| {
                format!("locked: {} as {}{}", text(v, "/on"), text(v, "/id"), acknowledged(v))
            })
        }
        LockCommand::List => {
            let fields = [("id", "/id"), ("on", "/on"), ("until", "/until_us"), ("reason", "/reason")];
            show(global, "GET", "/api/v1/locks", None, |v| Table::of(v, &fields).to_string())
        }
        LockCommand::Release { id } => {
            let released = |_: &serde_json::Value| format!("released: {id}");
            show(global, "DELETE", &format!("/api/v1/locks/{id}"), None, released)
        }
    }
}
