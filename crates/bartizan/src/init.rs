//! Creating an installation.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock as _, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Entities, starter_bundle};
use bartizan_keys::{
    ClaimToken, KeyFolder, KeyFolderError, PolicySignatureError, PolicySigner, RecoverySet, Statement,
};
use bartizan_model::directory::{NodeSpec, Spec};
use bartizan_model::record::System;
use bartizan_model::{Document, Tenant};
use bartizan_rt::{SystemClock, SystemRandom};
use bartizan_secret::Secret;
use bartizan_store::{BundleRow, ClaimRow, Founding, StoreError};

use crate::config::Config;
use crate::ground::{DataFolder, NodeError, StateDb};
use crate::node::{Machine, recorder};

/// How long the first administrator's claim is open.
const CLAIM_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// What is shown once, when an installation is created.
#[derive(Debug)]
pub struct Founded {
    /// The recovery keys, to be kept offline and apart.
    pub recovery: Vec<Secret<String>>,
    /// How many of them are needed.
    pub needed: u32,
    /// The first administrator's claim.
    pub claim: Secret<String>,
}

/// Why no installation was created.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The folder, its lock or its keys.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The form of the quorum.
    #[error("`{0}` is not a quorum; write such as `2/3`, at most 9 keys")]
    Quorum(String),
    /// The key folder.
    #[error(transparent)]
    Keys(#[from] KeyFolderError),
    /// The first bundle could not be signed.
    #[error("the first bundle could not be signed")]
    Sign(#[from] PolicySignatureError),
}

/// Creates the installation: state, recovery keys, starter bundle, claim. Changes nothing where there is one already.
///
/// # Errors
/// [`InitError`].
pub async fn found(config: &Config, quorum: &str) -> Result<Founded, InitError> {
    let wrong = || InitError::Quorum(quorum.to_owned());
    let (needed, all) = quorum.split_once('/').ok_or_else(wrong)?;
    let (needed, all): (u32, u32) = (needed.parse().map_err(|_| wrong())?, all.parse().map_err(|_| wrong())?);
    if needed == 0 || needed > all || all > 9 {
        return Err(wrong());
    }
    let folder = DataFolder::open(&config.folder)?;
    let store = StateDb::open(config).await?;
    let (clock, random) = (SystemClock::new(), Arc::new(SystemRandom::new()));
    let recovery = RecoverySet::generate(all, needed, &*random).map_err(|_| wrong())?;
    let claim = ClaimToken::generate(&*random);
    let tenant = Tenant::default_tenant();
    if store.state().load().await?.is_founded() {
        return Err(StoreError::Conflict("the installation exists already".to_owned()).into());
    }
    // Before the founding: an installation never lacks its keys, and those of an attempt that broke off are as good as new.
    let keys = KeyFolder::create(&config.folder.join("keys"))?;
    for made in [
        keys.create_log_seed(&*random).map(drop),
        keys.create_sealer(&*random).map(drop),
        keys.create_policy_seed(&*random).map(drop),
    ] {
        match made {
            Ok(()) | Err(KeyFolderError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let bundle = first_policy(&keys.policy_seed()?, &tenant, clock.now())?;
    let roles = ["administrator", "auditor", "model-user"];
    let founding = Founding {
        recovery: (needed, recovery.publics),
        claim: ClaimRow { digest: claim.digest(), expires: clock.now().saturating_add(CLAIM_LIFE) },
        documents: roles
            .iter()
            .map(|role| {
                let spec = Spec::Role(NodeSpec::default());
                (tenant.clone(), Document { name: bartizan_base::Name::literal(role), principal: None, spec })
            })
            .collect(),
        bundle: Some(bundle),
    };
    tell(config, &folder, &keys, &store).await?;
    store.state().found(founding).await?;
    Ok(Founded { recovery: recovery.privates, needed, claim: claim.text() })
}

/// Records that the installation is created, before it is: whoever reads the ledger finds how it began.
async fn tell(
    config: &Config,
    folder: &DataFolder,
    keys: &KeyFolder,
    store: &StateDb,
) -> Result<(), NodeError> {
    let Machine { clock, random, disk, .. } = Machine::default();
    let recorder = recorder(config, folder, keys, &clock, &random, disk, store).await?;
    let told = recorder.system(System::Initialised).await;
    recorder.close().await;
    told.map(drop).map_err(|error| NodeError::Part { what: "the ledger", source: error.into() })
}

/// The starter bundle, as the first version that the house signs.
fn first_policy(seed: &Secret<[u8; 32]>, tenant: &Tenant, now: Timestamp) -> Result<BundleRow, InitError> {
    let bundle = starter_bundle();
    let statement = Statement {
        tenant: tenant.clone(),
        name: bundle.name(),
        version: 1,
        base: None,
        bundle: bundle.digest(),
        candidate: None,
        restores: None,
        created: now,
        author: None,
        authored: None,
    };
    Ok(BundleRow {
        tenant: tenant.clone(),
        version: 1,
        base: 0,
        digest: statement.bundle,
        files: bundle.files,
        candidate: None,
        signed: PolicySigner::from_seed(seed)?.sign(&statement)?,
    })
}

/// Whether there is an installation. Creates nothing.
///
/// # Errors
/// When the state database does not answer.
/// The declared things that policies do not see, because they do not fit the schema of the bundle in force, in words.
pub(crate) async fn misfits(config: &Config) -> Result<Vec<String>, InitError> {
    if !is_founded(config).await? {
        return Ok(Vec::new());
    }
    let state = StateDb::open(config).await?.state().load().await?;
    let mut out = Vec::new();
    for row in state.bundles.iter() {
        let documents: Vec<Document> =
            state.documents.iter().filter(|(t, ..)| *t == row.tenant).map(|(_, d, _)| d.clone()).collect();
        let compiled = CompiledBundle::in_force(&Bundle { files: row.files.clone() }, &[], &[]).ok();
        match Entities::build_for(&documents, compiled.as_ref()) {
            Ok(entities) => out.extend(entities.misfits().iter().map(ToString::to_string)),
            Err(error) => out.push(error.to_string()),
        }
    }
    Ok(out)
}

pub(crate) async fn is_founded(config: &Config) -> Result<bool, InitError> {
    if config.postgres.is_none() && !config.folder.join("state.db").exists() {
        return Ok(false);
    }
    Ok(StateDb::open(config).await?.state().load().await?.is_founded())
}
