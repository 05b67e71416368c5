//! `bartizan recover`: what the holders of the offline keys order, sign and apply.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bartizan_base::Name;
use bartizan_cli::{ExitCode, Global, Output, RecoverCommand};
use bartizan_control::{Control, RecoveryOrder};
use bartizan_identify::RecoverySignature;
use bartizan_keys::{PrintedError, RecoveryKey};
use bartizan_model::Problem;
use bartizan_secret::Secret;
use serde_json::{Value, json};

use crate::commands::{Failure, config, logging, new_key, runtime, text};
use crate::node::{Assembled, Machine};

/// Recovery works on a stopped installation: whoever holds the quorum and the machine needs nobody's leave.
pub(crate) fn run(global: &Global, command: RecoverCommand) -> Result<ExitCode, Failure> {
    match command {
        RecoverCommand::Order { data_folder, administrator, bundle } => {
            let administrator = administrator
                .map(|name| name.parse::<Name>().map_err(|e| Failure::usage(format!("`{name}`: {e}"))));
            let administrator = administrator.transpose()?;
            stopped(global, data_folder, async |control| {
                let order = control.order_recovery(administrator, bundle).await.map_err(|p| refused(&p))?;
                // The bytes that are signed, with nothing before or after them.
                let message = order.message().map_err(|p| refused(&p))?;
                Ok(io::stdout().write_all(&message)?)
            })
        }
        RecoverCommand::Sign { order } => {
            // Signed is what the order says, not how its file happens to end.
            let message = read_order(&order)?.message().map_err(|p| refused(&p))?;
            let mut key = String::new();
            io::stdin().read_to_string(&mut key)?;
            let key = Secret::new(key);
            let key: RecoveryKey =
                key.expose().trim().parse().map_err(|e: PrintedError| Failure::usage(e.to_string()))?;
            writeln!(io::stdout(), "{}", key.sign(&message))?;
            Ok(ExitCode::Ok)
        }
        RecoverCommand::Apply { data_folder, order, signatures } => {
            let order = read_order(&order)?;
            let signatures = signatures.iter().map(|text| text.parse::<RecoverySignature>());
            let signatures = signatures
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| Failure::new(ExitCode::Invalid, e.to_string()))?;
            stopped(global, data_folder, async |control| {
                let done = control.recover(&order, &signatures).await.map_err(|s| refused(&s.problem))?;
                let key = done.value.key.as_ref().map(|made| {
                    json!({"id": made.key.id, "principal": made.key.principal, "expires": made.key.expires, "text": made.text.expose()})
                });
                let value = json!({"decision": done.decision, "key": key, "version": done.value.version});
                Output::new(global.output, io::stdout()).value(&value, |v| {
                    let mut out = format!("Recovered; recorded as {}.", text(v, "/decision"));
                    if let Some(version) = v.pointer("/version").and_then(Value::as_u64) {
                        out.push_str(&format!("\nThe earlier bundle is in force as version {version}."));
                    }
                    if let Some(key) = v.pointer("/key").filter(|key| !key.is_null()) {
                        out.push_str(&format!("\n{}", new_key(key)));
                    }
                    out
                })?;
                Ok(())
            })
        }
    }
}

pub(crate) fn refused(problem: &Problem) -> Failure {
    Failure::new(ExitCode::Denied, format!("{}: {}", problem.reason.code(), problem.message()))
}

fn read_order(path: &Path) -> Result<RecoveryOrder, Failure> {
    let bytes = fs::read(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(ExitCode::Invalid, format!("not an order of `recover order`: {e}")))
}

/// Does something with an installation that no node runs on.
pub(crate) fn stopped(
    global: &Global,
    data_folder: Option<PathBuf>,
    work: impl AsyncFnOnce(&Control) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let config = config(global, data_folder, &[])?;
    logging("warn", false);
    runtime()?.block_on(async {
        let assembled = Assembled::new(&config, Machine::default()).await;
        let assembled = assembled.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let worked = work(&assembled.control).await;
        assembled.close().await;
        worked.map(|()| ExitCode::Ok)
    })
}
