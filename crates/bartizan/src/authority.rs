//! The authority, put together: what it needs is there already; what it serves is mounted on the control listener.

use std::sync::Arc;
use std::time::Duration;

use bartizan_api::oauth::{Oauth, Visitors};
use bartizan_api::scim::Provisioning;
use bartizan_api::{ConnectionsDesk, Mount, Published, grants, session_labels, signing_keys, workloads};
use bartizan_authority::Authority;
use bartizan_authority::authorize::Desk;
use bartizan_authority::clients::{Fetch, Registry};
use bartizan_authority::connections::{Connections, Outside};
use bartizan_authority::login::risk::NoSignals;
use bartizan_authority::login::{Login, LoginSettings};
use bartizan_authority::metadata::Offered;
use bartizan_authority::scim::Scim;
use bartizan_base::Name;
use bartizan_console::{Console, SignedInVisitors};
use bartizan_control::{Control, SessionLabels};
use bartizan_enforce::Accounts;
use bartizan_identify::{Caller, StepUps};
use bartizan_model::{GrantType, Problem};
use bartizan_rt::Tasks;
use bartizan_store::Rows;
use bartizan_upstream::{Released, Upstreams};
use futures_util::future::BoxFuture;

use crate::config::Config;

/// How often the authority's keys and rows are looked after.
const TEND_EVERY: Duration = Duration::from_secs(60);

/// The authority that `config` names, if it names one.
pub(crate) fn authority(config: &Config, control: &Control, rows: Arc<dyn Rows>) -> Option<Authority> {
    let issuer = config.issuer.as_deref()?;
    let mut settings = config.authority.clone();
    if settings.resources.is_empty() {
        let data = crate::node::base(config);
        // Every door by itself, and both listeners as a whole; programs mean the data plane unless they say otherwise.
        settings.resources =
            ["", "/v1", "/access/v1", "/apis", "/mcp"].map(|door| format!("{data}{door}")).into();
        settings.resources.extend(["", "/api/v1"].map(|door| format!("{issuer}{door}")));
        settings.default_resource = Some(data);
    }
    Some(Authority {
        control: Arc::new(control.clone()),
        rows,
        issuer: issuer.into(),
        settings: Arc::new(settings),
        issuing: Arc::default(),
    })
}

/// What is served on the control listener, and who keeps the accounts outside that people have connected.
type Mounts = (Vec<Arc<dyn Mount>>, Option<Arc<dyn Accounts>>);

/// What the authority serves on the control listener.
pub(crate) fn mounts(
    config: &Config,
    authority: Option<&Authority>,
    upstreams: &Arc<Upstreams>,
    step_ups: Arc<StepUps>,
) -> Mounts {
    let Some(authority) = authority else { return (Vec::new(), None) };
    let fetch: Arc<dyn Fetch> = upstreams.clone();
    let registry = Arc::new(Registry::new(authority.clone(), fetch));
    let login = Arc::new(
        Login::new(authority.clone(), LoginSettings::default(), Arc::new(NoSignals))
            .with_providers(upstreams.clone())
            .with_step_ups(step_ups),
    );
    let offered = Offered {
        grants: GrantType::ALL.iter().copied().collect(),
        endpoints: vec![
            ("jwks_uri", "/oauth/jwks"),
            ("introspection_endpoint", "/oauth/introspect"),
            ("revocation_endpoint", "/oauth/revoke"),
            ("device_authorization_endpoint", "/oauth/device_authorization"),
        ],
        mutual_tls: config.listeners.client_ca.is_some(),
    };
    let visitors: Arc<dyn Visitors> = Arc::new(SignedInVisitors(login.clone()));
    let published =
        Published { issuer: authority.issuer.clone(), certificates: config.listeners.client_ca.is_some() };
    let outside: Arc<dyn Outside> = upstreams.clone();
    let connections = Connections::new(authority.clone(), outside);
    let accounts: Arc<dyn Accounts> = Arc::new(ConnectedAccounts(connections.clone()));
    let control = authority.control.clone();
    let desk = Arc::new(Desk::new(registry));
    let mounts: Vec<Arc<dyn Mount>> = vec![
        Arc::new(ConnectionsDesk::new(connections, control, visitors.clone(), published.clone())),
        grants(authority.clone(), published.clone()),
        workloads(authority.clone(), published.clone()),
        signing_keys(authority.clone(), published),
        Arc::new(Oauth::new(desk.clone(), visitors, offered)),
        Arc::new(Console::new(login, Some(desk))),
    ];
    (mounts, Some(accounts))
}

/// The accounts that people have connected, for the doors.
#[derive(Debug)]
struct ConnectedAccounts(Connections);

impl Accounts for ConnectedAccounts {
    fn release<'a>(
        &'a self,
        caller: &'a Caller,
        provider: &'a Name,
    ) -> BoxFuture<'a, Result<Released, Problem>> {
        Box::pin(async move { self.0.release(caller, provider).await.map_err(|stopped| stopped.problem) })
    }
}

/// Provisioning, which needs no authority: API keys are good for it as well.
pub(crate) fn provisioning(config: &Config, control: &Control, rows: Arc<dyn Rows>) -> Arc<dyn Mount> {
    let published = config.issuer.as_deref().map(|issuer| Published {
        issuer: issuer.into(),
        certificates: config.listeners.client_ca.is_some(),
    });
    let scim = Scim { control: Arc::new(control.clone()), rows };
    Arc::new(Provisioning::new(scim, published, config.listeners.tls.is_some()))
}

/// What has entered sessions, which needs no authority either.
pub(crate) fn labels(config: &Config, control: &Control, rows: Arc<dyn Rows>) -> Arc<dyn Mount> {
    let published = config.issuer.as_deref().map(|issuer| Published {
        issuer: issuer.into(),
        certificates: config.listeners.client_ca.is_some(),
    });
    session_labels(SessionLabels { control: control.clone(), rows }, published)
}

/// Keeps the authority's signing keys fresh, and sweeps what is over. The first look is over when this returns, so that tokens can be signed.
pub(crate) async fn follow(tasks: &Tasks, authority: Option<&Authority>) {
    let Some(authority) = authority.cloned() else { return };
    tend(&authority).await;
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("authority", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(TEND_EVERY) => tend(&authority).await,
                () = shutdown.requested() => {}
            }
        }
    });
}

async fn tend(authority: &Authority) {
    if let Err(stopped) = authority.tend_keys().await {
        tracing::warn!(reason = %stopped.problem.reason, "the authority's keys were not looked after; tried again soon");
    }
    if let Err(error) = authority.sweep().await {
        tracing::warn!(%error, "what is over was not swept; tried again soon");
    }
}
