//! Creating an installation.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock as _, Random as _};
use bartizan_control::claim_digest;
use bartizan_decide::starter_bundle;
use bartizan_keys::RecoveryKey;
use bartizan_model::directory::{NodeSpec, Spec};
use bartizan_model::{Document, Tenant};
use bartizan_rt::{SystemClock, SystemRandom};
use bartizan_secret::Secret;
use bartizan_store::{BundleRow, ClaimRow, Founding, StoreError};

use crate::config::Config;
use crate::node::{DataFolder, NodeError, StateDb};

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
    /// The generator failed.
    #[error("a recovery key could not be made")]
    Key,
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
    let _folder = DataFolder::open(&config.folder)?;
    let store = StateDb::open(config).await?;
    let (clock, random) = (SystemClock::new(), Arc::new(SystemRandom::new()));
    let keys: Vec<RecoveryKey> = (0..all).map(|_| RecoveryKey::generate(&*random)).collect();
    let publics =
        keys.iter().map(RecoveryKey::public).collect::<Result<Vec<_>, _>>().map_err(|_| InitError::Key)?;
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let claim = Secret::new(format!("btzc_{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()));
    let tenant = Tenant::default_tenant();
    let bundle = starter_bundle();
    let roles = ["administrator", "auditor", "model-user"];
    let founding = Founding {
        recovery: (needed, publics),
        claim: ClaimRow {
            digest: claim_digest(claim.expose()),
            expires: clock.now().saturating_add(CLAIM_LIFE),
        },
        documents: roles
            .iter()
            .map(|role| {
                let spec = Spec::Role(NodeSpec::default());
                (tenant.clone(), Document { name: bartizan_base::Name::literal(role), principal: None, spec })
            })
            .collect(),
        bundle: Some(BundleRow { tenant, version: 1, digest: bundle.digest(), files: bundle.files }),
    };
    store.state().found(founding).await?;
    Ok(Founded { recovery: keys.iter().map(RecoveryKey::text).collect(), needed, claim })
}

/// Whether there is an installation. Creates nothing.
///
/// # Errors
/// When the state database does not answer.
pub(crate) async fn is_founded(config: &Config) -> Result<bool, InitError> {
    if config.postgres.is_none() && !config.folder.join("state.db").exists() {
        return Ok(false);
    }
    Ok(StateDb::open(config).await?.state().load().await?.is_founded())
}
