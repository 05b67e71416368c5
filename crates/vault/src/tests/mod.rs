//! What the tests share: a world of two tenants, an eye on every byte of the disk, and crashes.

mod crash;
mod erasure;
mod keeping;
mod payloads;
mod random;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Random, Timestamp};
use bartizan_keys::Sealer;
use bartizan_model::{Commitment, DecisionId, PayloadRef, PrincipalId, Tenant};
use bartizan_secret::Secret;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::address::{SubjectKey, TenantKey};
use crate::vault::Step;
use crate::{Field, Kind, Place, Vault, VaultError, crypt};

/// Where an erasure is to end.
#[derive(Debug, Default)]
pub(crate) struct Fault(Mutex<Plan>);

#[derive(Debug, Default)]
struct Plan {
    /// How many steps go well first; all of them where there is none.
    left: Option<usize>,
    abort: bool,
    seen: Vec<Step>,
}

impl Fault {
    fn after(steps: usize, abort: bool) -> Self {
        Self(Mutex::new(Plan { left: Some(steps), abort, seen: Vec::new() }))
    }

    fn seen(&self) -> Vec<Step> {
        self.0.lock().unwrap().seen.clone()
    }

    pub(crate) fn at(&self, step: Step) -> Result<(), VaultError> {
        let mut plan = self.0.lock().unwrap();
        plan.seen.push(step);
        let Some(left) = plan.left else { return Ok(()) };
        plan.left = left.checked_sub(1);
        if left > 0 {
            return Ok(());
        }
        if plan.abort {
            std::process::abort();
        }
        Err(VaultError::Refused)
    }
}

/// A data folder, and what it takes to open the vault in it.
struct World {
    folder: TempDir,
    random: Arc<dyn Random>,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), random: Arc::new(SeededRandom::new(7)) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self) -> Vault {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Vault, VaultError> {
        Vault::open(self.path(), sealer(1), Arc::clone(&self.random))
    }

    fn open_failing_after(&self, steps: usize) -> Vault {
        let random = Arc::clone(&self.random);
        let fault = Fault::after(steps, false);
        Vault::open_with(self.path(), sealer(1), random, |inner| inner.fault = fault).unwrap()
    }

    /// The database as somebody with root sees it. The vault must be closed.
    fn database(&self) -> Connection {
        Connection::open(self.path().join("vault.db")).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, out) } else { out.push(path) }
            }
        }
        let mut out = Vec::new();
        walk(self.path(), &mut out);
        out.sort();
        out
    }

    /// Files of payloads, finished and not.
    fn payload_files(&self) -> Vec<PathBuf> {
        let root = self.path().join("vault");
        self.files().into_iter().filter(|path| path.starts_with(&root)).collect()
    }

    /// Whether some file of the folder holds `needle`.
    fn holds(&self, needle: &[u8]) -> bool {
        assert!(needle.len() >= 12, "shorter ones are found by chance");
        self.files().iter().any(|path| memchr::memmem::find(&fs::read(path).unwrap(), needle).is_some())
    }
}

fn sealer(seed: u64) -> Arc<Sealer> {
    Arc::new(Sealer::new(crypt::generate(&SeededRandom::new(seed))))
}

fn tenant(name: &str) -> Tenant {
    Tenant(name.parse().unwrap())
}

fn subject(number: u8) -> PrincipalId {
    PrincipalId::from_parts(at(1), [number; 10])
}

fn decision(number: u8) -> DecisionId {
    DecisionId::from_parts(at(1), [number; 10])
}

/// So many seconds after some day.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_790_000_000 + seconds)
}

fn place(tenant: &Tenant, of: u8, about: u8) -> Place<'_> {
    Place { tenant, subject: subject(of), decision: decision(about) }
}

fn put(
    vault: &Vault,
    place: &Place<'_>,
    field: &'static str,
    value: &str,
    seconds: u64,
) -> Result<Commitment, VaultError> {
    let name = Name::literal(field);
    let fields = [Field { name: &name, kind: Kind::Network, value }];
    vault.put(place, &fields, at(seconds)).map(|put| put[0].1)
}

fn put_payload(
    vault: &Vault,
    place: &Place<'_>,
    field: &'static str,
    content: &[u8],
    seconds: u64,
) -> Result<PayloadRef, VaultError> {
    vault.put_payload(place, &Name::literal(field), Kind::Prompt, &mut &*content, at(seconds))
}

fn values(vault: &Vault, place: &Place<'_>) -> Vec<(String, String)> {
    let items = vault.get(place).unwrap();
    items.into_iter().map(|item| (item.field.to_string(), item.value.expose().clone())).collect()
}

fn payload(vault: &Vault, place: &Place<'_>, payload: &PayloadRef) -> Result<Vec<u8>, VaultError> {
    let mut out = Vec::new();
    vault.read_payload(place, payload, &mut out).map(|length| {
        assert_eq!(length, out.len() as u64);
        out
    })
}

/// Text that looks random to a search: no other test or header holds it.
fn marked(what: &str, length: usize) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < length {
        text.push_str(&bartizan_base::Digest::of(format!("{what} {number}").as_bytes()).to_string());
        number += 1;
    }
    text.truncate(length);
    text
}

/// A subject's data key, and its wrapped form as it lies on the disk.
fn data_key(vault: &Vault, of: &Tenant, who: PrincipalId) -> (Secret<[u8; 32]>, Vec<u8>) {
    let connection = vault.0.lock();
    let tenant = TenantKey::find(&connection, &vault.0.tools, of).unwrap().unwrap();
    let address = tenant.subject(who);
    let key = SubjectKey::find(&connection, &vault.0.tools, &tenant, address).unwrap().unwrap();
    let sealed = connection
        .query_row("select sealed from keys where subject = ?1", [address.as_bytes()], |row| row.get(0))
        .unwrap();
    (key.key, sealed)
}
