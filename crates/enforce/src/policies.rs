//! Which policy may come into force here: what the house has signed, and never less than it has signed before.
//!
//! The state database is not trusted with that: whoever holds it can change its rows, but not sign them; and what this node
//! has seen in force it keeps, so that an older version put back is recognised, also after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle, ServerWords};
use bartizan_keys::{PolicySignatureError, PolicyVerifier, Stage, Statement};
use bartizan_model::{ReasonCode, Spec, Status, Tenant};
use bartizan_store::{BundleRow, State};

/// The kind that declares the words of tool servers.
pub(crate) const WORDS: &str = "tool_words";
/// Compiled bundles that are held beside those in force.
const HELD_MAX: usize = 8;

/// Policy as it is in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The row, with the exact signed bytes.
    pub row: Arc<BundleRow>,
    /// What they say.
    pub statement: Statement,
    /// The bundle.
    pub bundle: Arc<CompiledBundle>,
    /// The digest of the tools' words that it was compiled with.
    pub words: Digest,
    /// What is tried beside it.
    pub candidate: Option<(Arc<CompiledBundle>, Stage)>,
}

/// Something that may not come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) tenant: Tenant,
    pub(crate) bundle: Option<Digest>,
    pub(crate) reason: ReasonCode,
    pub(crate) detail: String,
}

/// A bundle, and the words of tool servers that it is compiled with.
type Key = (Digest, Digest);

/// The words of tool servers that a tenant has declared.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    servers: Vec<ServerWords>,
    digest: Digest,
}

impl Words {
    pub(crate) fn of(state: &State, tenant: &Tenant) -> Self {
        let servers = declared_words(state, tenant).map(|(server, tools)| {
            ServerWords::of(server, tools).unwrap_or_else(|why| {
                tracing::error!(%tenant, %server, %why, "what a tool server offers cannot be read; its tools cannot be asked for");
                ServerWords::unusable(server, &why)
            })
        });
        Self { servers: servers.collect(), digest: Self::digest(state, tenant) }
    }

    fn digest(state: &State, tenant: &Tenant) -> Digest {
        let mut parts = Vec::new();
        for (server, tools) in declared_words(state, tenant) {
            parts.push(server.as_bytes().to_vec());
            // What has just been read as JSON can be written as JSON.
            parts.push(serde_json::to_vec(tools).unwrap_or_default());
        }
        if parts.is_empty() {
            return Digest::EMPTY;
        }
        Digest::of_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

fn declared_words<'a>(
    state: &'a State,
    tenant: &'a Tenant,
) -> impl Iterator<Item = (&'a Name, &'a [serde_json::Value])> {
    state.of_kind(tenant, WORDS).filter_map(|(_, document, _)| match &document.spec {
        Spec::ToolWords(spec) if spec.status == Status::Active => Some((&document.name, &*spec.tools)),
        _ => None,
    })
}

/// Checks, compiles and remembers policy.
#[derive(Debug)]
pub struct Policies {
    verifier: PolicyVerifier,
    folder: PathBuf,
    /// The latest that was in force here, by tenant.
    good: Mutex<BTreeMap<Tenant, Arc<BundleRow>>>,
    compiled: Mutex<HashMap<Key, Arc<CompiledBundle>>>,
    /// What was told already, so that one bad row is one alarm.
    told: Mutex<BTreeSet<(Tenant, Digest)>>,
    /// Bundles that were signed and do not compile.
    broken: Mutex<BTreeSet<Key>>,
    refused: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of these is a single step, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Policies {
    /// Opens the memory of what was in force, in `folder`. What lies there counts only if `verifier` says so.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, verifier: PolicyVerifier) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut good = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let row: Option<BundleRow> = serde_json::from_slice(&fs::read(&path)?).ok();
            match row.filter(|row| check(verifier, row).is_ok()) {
                Some(row) => drop(good.insert(row.tenant.clone(), Arc::new(row))),
                None => {
                    tracing::error!(path = %path.display(), "what was in force here last cannot be read; it is passed over")
                }
            }
        }
        Ok(Self {
            verifier,
            folder: folder.to_owned(),
            good: Mutex::new(good),
            compiled: Mutex::default(),
            told: Mutex::default(),
            broken: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// What a row says, if the house has signed it.
    pub(crate) fn signed(&self, row: &BundleRow) -> Result<Statement, ReasonCode> {
        check(self.verifier, row)
    }

    /// How often something was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Compiles a bundle and holds it, for whoever is about to put it in force: all of it must fit. Blocks.
    pub(crate) fn compile(
        &self,
        bundle: &Bundle,
        words: &Words,
    ) -> Result<Arc<CompiledBundle>, BundleErrors> {
        self.compile_by(bundle, words, CompiledBundle::compile_beside)
    }

    fn compile_by(
        &self,
        bundle: &Bundle,
        words: &Words,
        by: impl Fn(&Bundle, &[ServerWords], &[Arc<CompiledBundle>]) -> Result<CompiledBundle, BundleErrors>,
    ) -> Result<Arc<CompiledBundle>, BundleErrors> {
        let key = (bundle.digest(), words.digest);
        if let Some(held) = locked(&self.compiled).get(&key).filter(|held| held.unusable_tools().is_empty()) {
            return Ok(held.clone());
        }
        // What stands in one of them word for word was checked with it.
        let beside: Vec<_> = locked(&self.compiled).values().cloned().collect();
        let made = Arc::new(by(bundle, &words.servers, &beside)?);
        drop(beside);
        let mut held = locked(&self.compiled);
        if held.len() >= HELD_MAX {
            // Drafts and what was in force once: whatever nobody uses any more.
            held.retain(|_, bundle| Arc::strong_count(bundle) > 1);
        }
        held.insert(key, made.clone());
        Ok(made)
    }

    /// The row that counts for a tenant: the database's if it may follow what was in force here, otherwise that.
    fn chosen(&self, state: &State, tenant: &Tenant, alarms: &mut Vec<Alarm>) -> Option<Arc<BundleRow>> {
        let good = locked(&self.good).get(tenant).cloned();
        let Some(row) = state.bundles.iter().find(|b| b.tenant == *tenant) else {
            if let Some(good) = &good {
                let detail = "the state database holds no policy any more".to_owned();
                self.tell(alarms, tenant, None, ReasonCode::PolicyReplayed, detail, good.digest);
            }
            return good;
        };
        let replayed = good.as_ref().is_some_and(|good| {
            row.version < good.version || (row.version == good.version && row.signed != good.signed)
        });
        let reason = match check(self.verifier, row) {
            Err(reason) => reason,
            Ok(_) if replayed => ReasonCode::PolicyReplayed,
            // That was told when it was compiled.
            Ok(_) if self.is_broken(row, Words::digest(state, tenant)) && good.is_some() => return good,
            Ok(_) => return Some(Arc::new(row.clone())),
        };
        let detail = format!("version {} of the state database", row.version);
        let mark =
            Digest::of_parts(&[row.signed.as_bytes(), row.digest.as_bytes(), &row.version.to_be_bytes()]);
        self.tell(alarms, tenant, Some(row.digest), reason, detail, mark);
        good
    }

    fn is_broken(&self, row: &BundleRow, words: Digest) -> bool {
        let broken = locked(&self.broken);
        broken.contains(&(row.digest, words))
            || row.candidate.as_ref().is_some_and(|c| broken.contains(&(c.digest, words)))
    }

    fn tell(
        &self,
        alarms: &mut Vec<Alarm>,
        tenant: &Tenant,
        bundle: Option<Digest>,
        reason: ReasonCode,
        detail: String,
        mark: Digest,
    ) {
        if locked(&self.told).insert((tenant.clone(), mark)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            alarms.push(Alarm { tenant: tenant.clone(), bundle, reason, detail });
        }
    }

    /// What is in force for a tenant by `state`, as far as it is compiled. `None` inside the `Err` where something is still
    /// to be compiled: then what was in force before stays.
    pub(crate) fn in_force(
        &self,
        state: &State,
        tenant: &Tenant,
        before: Option<&Arc<InForce>>,
        alarms: &mut Vec<Alarm>,
    ) -> (Option<Arc<InForce>>, bool) {
        let Some(row) = self.chosen(state, tenant, alarms) else { return (None, false) };
        let words = Words::digest(state, tenant);
        if let Some(before) = before.filter(|b| b.row.signed == row.signed && b.words == words) {
            return (Some(before.clone()), false);
        }
        let digests = std::iter::once(row.digest).chain(row.candidate.as_ref().map(|c| c.digest));
        if self.is_broken(&row, words) {
            return (before.cloned(), false);
        }
        let compiled: Option<Vec<_>> =
            digests.map(|digest| locked(&self.compiled).get(&(digest, words)).cloned()).collect();
        let (Some(compiled), Ok(statement)) = (compiled, check(self.verifier, &row)) else {
            return (before.cloned(), true);
        };
        let mut compiled = compiled.into_iter();
        let Some(bundle) = compiled.next() else { return (before.cloned(), true) };
        let candidate = compiled.next().zip(statement.candidate.as_ref().map(|c| c.stage.clone()));
        self.remember(&row);
        (Some(Arc::new(InForce { row, statement, bundle, words, candidate })), false)
    }

    /// Compiles what `state` wants in force and is not compiled yet. Blocks.
    pub(crate) fn compile_missing(&self, state: &State) -> Vec<Alarm> {
        let (mut alarms, mut wanted) = (Vec::new(), BTreeSet::new());
        let tenants: BTreeSet<Tenant> = state
            .bundles
            .iter()
            .map(|b| b.tenant.clone())
            .chain(locked(&self.good).keys().cloned())
            .collect();
        for tenant in tenants {
            let words = Words::of(state, &tenant);
            // Where the first choice does not compile, the last good one is the second.
            for _ in 0..2 {
                let Some(row) = self.chosen(state, &tenant, &mut alarms) else { break };
                if self.compile_row(&row, &words, &mut wanted, &mut alarms) {
                    break;
                }
            }
        }
        let mut held = locked(&self.compiled);
        if held.len() > HELD_MAX.max(wanted.len()) {
            held.retain(|key, _| wanted.contains(key));
        }
        alarms
    }

    /// Compiles a row's bundles; says whether they do.
    fn compile_row(
        &self,
        row: &BundleRow,
        words: &Words,
        wanted: &mut BTreeSet<Key>,
        alarms: &mut Vec<Alarm>,
    ) -> bool {
        let candidate = row.candidate.as_ref().map(|c| (c.digest, &c.files));
        for (digest, files) in std::iter::once((row.digest, &row.files)).chain(candidate) {
            let key = (digest, words.digest);
            wanted.insert(key);
            if locked(&self.compiled).contains_key(&key) {
                continue;
            }
            let known = locked(&self.broken).contains(&key);
            if known {
                return false;
            }
            // It was put in force once; tools that do not fit it any more cannot be asked for.
            match self.compile_by(&Bundle { files: files.clone() }, words, CompiledBundle::in_force) {
                Ok(compiled) => {
                    let tools = compiled.unusable_tools();
                    if !tools.is_empty() {
                        tracing::error!(tenant = %row.tenant, ?tools, "rules do not fit these tools any more; they cannot be asked for");
                    }
                }
                Err(errors) => {
                    locked(&self.broken).insert(key);
                    let detail = errors.to_string();
                    self.tell(alarms, &row.tenant, Some(digest), ReasonCode::Invalid, detail, digest);
                    return false;
                }
            }
        }
        true
    }

    /// Keeps what came into force, durably, so that nothing older does after it.
    fn remember(&self, row: &Arc<BundleRow>) {
        if locked(&self.good).get(&row.tenant).is_some_and(|good| good.signed == row.signed) {
            return;
        }
        if let Err(error) = self.write(row) {
            tracing::error!(%error, tenant = %row.tenant, "what is in force could not be kept; an older version would not be recognised after a restart");
        }
        locked(&self.good).insert(row.tenant.clone(), row.clone());
    }

    fn write(&self, row: &BundleRow) -> io::Result<()> {
        // Tenants' names may hold what names of files may not.
        let path = self.folder.join(format!("{}.json", Digest::of(row.tenant.0.as_bytes())));
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(row)?)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// What a row says, if the house has signed it and it is the row that it was signed for.
pub(crate) fn check(verifier: PolicyVerifier, row: &BundleRow) -> Result<Statement, ReasonCode> {
    let statement = verifier.open(&row.signed).map_err(|error| match error {
        PolicySignatureError::Form => ReasonCode::PolicyUnsigned,
        PolicySignatureError::OtherKey | PolicySignatureError::Broken => ReasonCode::PolicySignatureInvalid,
    })?;
    if statement.tenant != row.tenant {
        return Err(ReasonCode::PolicyTenantMismatch);
    }
    if statement.version != row.version {
        // What was said of one version is put under the number of another.
        return Err(ReasonCode::PolicyReplayed);
    }
    let is = |files: &BTreeMap<String, String>, named: Digest, signed: Digest| {
        named == signed && Bundle { files: files.clone() }.digest() == signed
    };
    let candidate = match (&row.candidate, &statement.candidate) {
        (None, None) => true,
        (Some(row), Some(signed)) => is(&row.files, row.digest, signed.bundle),
        _ => false,
    };
    if candidate && is(&row.files, row.digest, statement.bundle) {
        Ok(statement)
    } else {
        Err(ReasonCode::PolicyDigestMismatch)
    }
}
