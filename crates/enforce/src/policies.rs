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

use bartizan_base::Digest;
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle};
use bartizan_keys::{PolicySignatureError, PolicyVerifier, Stage, Statement};
use bartizan_model::{ReasonCode, Tenant};
use bartizan_store::{BundleRow, State};

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

/// Checks, compiles and remembers policy.
#[derive(Debug)]
pub struct Policies {
    verifier: PolicyVerifier,
    folder: PathBuf,
    /// The latest that was in force here, by tenant.
    good: Mutex<BTreeMap<Tenant, Arc<BundleRow>>>,
    compiled: Mutex<HashMap<Digest, Arc<CompiledBundle>>>,
    /// What was told already, so that one bad row is one alarm.
    told: Mutex<BTreeSet<(Tenant, Digest)>>,
    /// Bundles that were signed and do not compile.
    broken: Mutex<BTreeSet<Digest>>,
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

    /// Compiles a bundle and holds it, for whoever is about to put it in force. Blocks.
    pub(crate) fn compile(&self, bundle: &Bundle) -> Result<Arc<CompiledBundle>, BundleErrors> {
        let digest = bundle.digest();
        if let Some(held) = locked(&self.compiled).get(&digest) {
            return Ok(held.clone());
        }
        // What stands in one of them word for word was checked with it.
        let beside: Vec<_> = locked(&self.compiled).values().cloned().collect();
        let made = Arc::new(CompiledBundle::compile_beside(bundle, &[], &beside)?);
        drop(beside);
        let mut held = locked(&self.compiled);
        if held.len() >= HELD_MAX {
            // Drafts and what was in force once: whatever nobody uses any more.
            held.retain(|_, bundle| Arc::strong_count(bundle) > 1);
        }
        held.insert(digest, made.clone());
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
            Ok(_) if self.is_broken(row) && good.is_some() => return good,
            Ok(_) => return Some(Arc::new(row.clone())),
        };
        let detail = format!("version {} of the state database", row.version);
        let mark =
            Digest::of_parts(&[row.signed.as_bytes(), row.digest.as_bytes(), &row.version.to_be_bytes()]);
        self.tell(alarms, tenant, Some(row.digest), reason, detail, mark);
        good
    }

    fn is_broken(&self, row: &BundleRow) -> bool {
        let broken = locked(&self.broken);
        broken.contains(&row.digest) || row.candidate.as_ref().is_some_and(|c| broken.contains(&c.digest))
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
        if let Some(before) = before.filter(|b| b.row.signed == row.signed) {
            return (Some(before.clone()), false);
        }
        let digests = std::iter::once(row.digest).chain(row.candidate.as_ref().map(|c| c.digest));
        if self.is_broken(&row) {
            return (before.cloned(), false);
        }
        let compiled: Option<Vec<_>> =
            digests.map(|digest| locked(&self.compiled).get(&digest).cloned()).collect();
        let (Some(compiled), Ok(statement)) = (compiled, check(self.verifier, &row)) else {
            return (before.cloned(), true);
        };
        let mut compiled = compiled.into_iter();
        let Some(bundle) = compiled.next() else { return (before.cloned(), true) };
        let candidate = compiled.next().zip(statement.candidate.as_ref().map(|c| c.stage.clone()));
        self.remember(&row);
        (Some(Arc::new(InForce { row, statement, bundle, candidate })), false)
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
            // Where the first choice does not compile, the last good one is the second.
            for _ in 0..2 {
                let Some(row) = self.chosen(state, &tenant, &mut alarms) else { break };
                if self.compile_row(&row, &mut wanted, &mut alarms) {
                    break;
                }
            }
        }
        let mut held = locked(&self.compiled);
        if held.len() > HELD_MAX.max(wanted.len()) {
            held.retain(|digest, _| wanted.contains(digest));
        }
        alarms
    }

    /// Compiles a row's bundles; says whether they do.
    fn compile_row(&self, row: &BundleRow, wanted: &mut BTreeSet<Digest>, alarms: &mut Vec<Alarm>) -> bool {
        let candidate = row.candidate.as_ref().map(|c| (c.digest, &c.files));
        for (digest, files) in std::iter::once((row.digest, &row.files)).chain(candidate) {
            wanted.insert(digest);
            if locked(&self.compiled).contains_key(&digest) {
                continue;
            }
            let known = locked(&self.broken).contains(&digest);
            if known {
                return false;
            }
            if let Err(errors) = self.compile(&Bundle { files: files.clone() }) {
                locked(&self.broken).insert(digest);
                self.tell(alarms, &row.tenant, Some(digest), ReasonCode::Invalid, errors.to_string(), digest);
                return false;
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
