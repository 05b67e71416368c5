//! The authority, put together: what it needs is there already; what it serves is mounted on the control listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bartizan_api::Mount;
use bartizan_api::oauth::{Oauth, Visitors};
use bartizan_authority::Authority;
use bartizan_authority::authorize::{Desk, Person};
use bartizan_authority::clients::{Fetch, Registry};
use bartizan_authority::login::risk::NoSignals;
use bartizan_authority::login::{Login, LoginSettings, Visitor};
use bartizan_authority::metadata::Offered;
use bartizan_authority::oauth::OauthError;
use bartizan_control::Control;
use bartizan_model::GrantType;
use bartizan_rt::Tasks;
use bartizan_store::Rows;
use bartizan_upstream::Upstreams;
use futures_util::future::BoxFuture;
use http::HeaderMap;

use crate::config::Config;

/// How often the authority's keys are looked after.
const TEND_EVERY: Duration = Duration::from_secs(60);

/// The authority that `config` names, if it names one.
pub(crate) fn authority(config: &Config, control: &Control, rows: Arc<dyn Rows>) -> Option<Authority> {
    let issuer = config.issuer.as_deref()?;
    let mut settings = config.authority.clone();
    if settings.resources.is_empty() {
        settings.resources.insert(crate::node::base(config));
    }
    Some(Authority {
        control: Arc::new(control.clone()),
        rows,
        issuer: issuer.into(),
        settings: Arc::new(settings),
        issuing: Arc::default(),
    })
}

/// What the authority serves on the control listener.
pub(crate) fn mounts(
    config: &Config,
    authority: Option<&Authority>,
    upstreams: &Arc<Upstreams>,
) -> Vec<Arc<dyn Mount>> {
    let Some(authority) = authority else { return Vec::new() };
    let fetch: Arc<dyn Fetch> = upstreams.clone();
    let registry = Arc::new(Registry::new(authority.clone(), fetch));
    let login = Arc::new(Login::new(authority.clone(), LoginSettings::default(), Arc::new(NoSignals)));
    let offered = Offered {
        grants: [GrantType::RefreshToken].into(),
        endpoints: vec![("jwks_uri", "/oauth/jwks")],
        mutual_tls: config.listeners.client_ca.is_some(),
    };
    vec![Arc::new(Oauth::new(Arc::new(Desk::new(registry)), Arc::new(InSession(login)), offered))]
}

/// Keeps the authority's signing keys fresh. The first look is over when this returns, so that tokens can be signed.
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
}

/// Whoever has a session.
#[derive(Debug)]
struct InSession(Arc<Login>);

impl Visitors for InSession {
    fn signed_in<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Result<Option<Person>, OauthError>> {
        Box::pin(async move {
            let found = self.0.signed_in(&Visitor::of(headers, peer)).await?;
            Ok(found.and_then(|signed_in| signed_in.person()))
        })
    }
}
