//! `bartizan certificate`: a certificate of the house for the workload whose key is at hand, kept fresh.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use bartizan_base::Clock as _;
use bartizan_cli::{CertificateCommand, ExitCode, Global};
use bartizan_rt::SystemClock;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use crate::commands::{Failure, client, show, text};

/// Between two tries after one that failed.
const AGAIN: Duration = Duration::from_secs(30);

pub(crate) fn run(global: &Global, command: &CertificateCommand) -> Result<ExitCode, Failure> {
    match command {
        CertificateCommand::Issue { folder, renew } => issue(global, folder, *renew),
        CertificateCommand::Withdraw { thumbprint } => {
            show(global, "DELETE", &format!("/api/v1/certificates/{thumbprint}"), None, |_| {
                format!("taken back: {thumbprint}")
            })
        }
    }
}

fn issue(global: &Global, folder: &Path, renew: bool) -> Result<ExitCode, Failure> {
    let mut issued = once(global, folder)?;
    say(&format!("{}, until {}", text(&issued, "/spiffe_id"), moment(&issued, "/ends_us")))?;
    if !renew {
        return Ok(ExitCode::Ok);
    }
    loop {
        let now = SystemClock::new().now().as_micros();
        let at = issued.pointer("/renew_us").and_then(Value::as_u64).unwrap_or_default();
        // Never at once, whatever the answer said.
        std::thread::sleep(Duration::from_micros(at.saturating_sub(now)).max(AGAIN));
        match once(global, folder) {
            Ok(next) => {
                say(&format!("renewed, until {}", moment(&next, "/ends_us")))?;
                issued = next;
            }
            // What is there still holds for a third of its life; whoever is not let in any more is not tried for.
            Err(failure) if matches!(failure.code, ExitCode::Failed) => {
                tracing::warn!(error = failure.message, "the certificate was not renewed; tried again soon");
                std::thread::sleep(AGAIN);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A new key, and a certificate for it. The key never leaves this machine.
fn once(global: &Global, folder: &Path) -> Result<Value, Failure> {
    let broken = |error: rcgen::Error| Failure::of(ExitCode::Failed, &error);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(broken)?;
    let issued =
        client(global)?.call("POST", "/api/v1/certificates", Some(&json!({ "request": request })))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The certificate last: whoever reads the folder looks at that one for changes, and key and certificate must be of one pair.
    replace(&folder.join("trust.pem"), text(&issued, "/trust"))?;
    replace(&folder.join("key.pem"), &key.serialize_pem())?;
    replace(&folder.join("cert.pem"), text(&issued, "/certificate"))?;
    Ok(issued)
}

/// Puts a file in the place of another one, whole or not at all.
fn replace(path: &Path, content: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(())
}

fn moment(value: &Value, pointer: &str) -> String {
    let micros = value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    bartizan_base::Timestamp::from_micros(micros).to_string()
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
