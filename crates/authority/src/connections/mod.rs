//! Credentials for outside ("connections"): a person connects an external account, and a program that acts for them may use it,
//! through us and never holding its tokens.
//!
//! We are the client of somebody else's authorization server ([`discovery`], [`flow`]). What comes back is sealed at once and is
//! released only as [`bartizan_upstream::Released`], which nothing but the exit can open, and only for exactly the person, the
//! agent and the client program that it was connected for: another agent of the same person, or the same agent for another
//! person, needs a connection of its own (attack 38). Tokens are kept under the issuer they came from; where the resource has
//! moved to another one, they are of no use there (attack 41).

mod about;
pub mod challenge;
pub mod discovery;
pub mod flow;
mod kept;
mod outside;
mod refresh;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{Done, Stopped, View};
use bartizan_identify::Caller;
use bartizan_model::{
    Action, ConnectionId, ConnectionProviderSpec, OutsideClient, Principal, PrincipalKind, Problem,
    ReasonCode, Spec, Status, Tenant,
};
use bartizan_secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Authority;
use crate::kept::{find, find_of, keep, owner};
use crate::oauth::Form;
use flow::{FlowSecrets, OurClient, Sent};

pub use about::{ANSWER, DOCUMENT};
pub use kept::Connection;
pub(crate) use kept::{Connecting, opened, sealed};
pub use outside::Outside;

/// How long somebody has to answer at the provider.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection lasts at most: then somebody has to connect anew.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How many connections of one person are looked at.
const LISTED_MAX: usize = 500;

/// Why an account is not connected, or its token not renewed. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// An address that we do not go to, or do not send a browser to.
    #[error("an address is not acceptable")]
    Address,
    /// Nothing came back.
    #[error("nothing came back")]
    Unreachable,
    /// The resource describes itself as another one, so that its tokens would be for somebody else.
    #[error("the resource describes itself as another one")]
    Resource,
    /// The server answers, or describes itself, under another issuer than it was asked for.
    #[error("another issuer than the one expected")]
    Issuer,
    /// No description of the authorization server was found, or one without what is needed.
    #[error("the authorization server does not describe itself")]
    Metadata,
    /// The server does not say that it knows PKCE with S256.
    #[error("the authorization server does not know PKCE with S256")]
    Pkce,
    /// We are not a client there, or cannot prove it.
    #[error("we are not a client of the authorization server")]
    Client,
    /// The answer belongs to another flow.
    #[error("the answer belongs to another request")]
    State,
    /// The server said no; its code.
    #[error("the authorization server refused: {0}")]
    Refused(String),
    /// An answer that is none.
    #[error("the authorization server answered something else than expected")]
    Answer,
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        let reason = match &error {
            ConnectError::Unreachable => ReasonCode::UpstreamUnreachable,
            ConnectError::Address => ReasonCode::EgressForbidden,
            ConnectError::State => ReasonCode::BodyMalformed,
            ConnectError::Refused(_) => ReasonCode::ConnectionNeeded,
            _ => ReasonCode::UpstreamInvalid,
        };
        Self::with_detail(reason, error.to_string())
    }
}

/// What connections need of the house.
#[derive(Clone, Debug)]
pub struct Connections {
    authority: Authority,
    outside: Arc<dyn Outside>,
    /// The address of the document about us as a client, where we publish one.
    document: Option<Arc<str>>,
    refreshing: refresh::Refreshing,
}

/// A wish to connect an account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Where: the name of a `connection_provider`.
    pub provider: Name,
    /// The agent that may use it; nobody but the person themselves without.
    #[serde(default)]
    pub agent: Option<Name>,
    /// The client program through which it may be used; the one that asks if absent.
    #[serde(default)]
    pub client: Option<Name>,
    /// The person's own machine, `http://127.0.0.1:PORT/PATH`, where a program waits for the answer; our own address if absent.
    #[serde(default)]
    pub redirect: Option<String>,
    /// What the resource has asked for since, to be added to what was given.
    #[serde(default)]
    pub scopes: BTreeSet<String>,
}

/// A connection that has begun.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Begun {
    /// Where the person's browser goes.
    pub address: String,
    /// The host of it, for people to see before they go.
    pub host: String,
    /// What is asked for.
    pub scopes: BTreeSet<String>,
    /// Until when the answer is waited for.
    pub ends_us: Timestamp,
}

/// A connection as its owner sees it: never its tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionView {
    /// Which.
    pub id: ConnectionId,
    /// Where.
    pub provider: Name,
    /// The agent that may use it.
    pub agent: Option<Name>,
    /// The client program through which.
    pub client: Option<Name>,
    /// Who issued its tokens.
    pub issuer: String,
    /// For what they are.
    pub resource: String,
    /// What it may be used for there.
    pub scopes: BTreeSet<String>,
    /// When it was connected.
    pub connected_us: Timestamp,
    /// When it was last used or renewed.
    pub renewed_us: Timestamp,
    /// Whether it still works; where not, it has to be connected anew.
    pub alive: bool,
}

impl Connections {
    /// Connections of an authority.
    #[must_use]
    pub fn new(authority: Authority, outside: Arc<dyn Outside>) -> Self {
        let document = about::address(&authority.issuer);
        Self { authority, outside, document, refreshing: refresh::Refreshing::default() }
    }

    fn now(&self) -> Timestamp {
        self.authority.control.clock.now()
    }

    /// Our own address for answers.
    #[must_use]
    pub fn redirect(&self) -> String {
        format!("{}{ANSWER}", self.authority.issuer)
    }

    /// The document about us as a client, for whoever is at [`DOCUMENT`]; none where we publish none.
    #[must_use]
    pub fn document(&self) -> Option<serde_json::Value> {
        self.document.as_deref().map(|address| about::document(&self.authority, address))
    }

    /// Begins: finds out whom the account is with, and where the browser goes.
    ///
    /// # Errors
    /// When policy says no, the asker is not a person for themselves, or the provider is not one to send anybody to.
    pub async fn begin(&self, caller: &Caller, wish: &Connect) -> Result<Done<Begun>, Stopped> {
        let now = self.now();
        let authority = &self.authority;
        let work = async |view: &View, tenant: &Tenant| {
            let person = person(caller)?;
            let spec = provider(view, tenant, &wish.provider)?;
            let agent = wish.agent.as_ref().map(|name| agent(view, tenant, name)).transpose()?;
            let client = wish.client.clone().or_else(|| caller.client().cloned());
            let redirect = self.redirect_of(wish)?;
            let before =
                self.present(tenant, &person, &wish.provider, agent.as_ref(), client.as_ref()).await?;
            let before = before.into_iter().flat_map(|held| held.value.scopes).collect();
            let (sent, _) = self.discover(tenant, view, &spec, &redirect, &wish.scopes, &before).await?;
            let secrets = FlowSecrets::new(&*authority.control.random);
            let id = Digest::of(secrets.state.expose().as_bytes()).to_string();
            let address = flow::authorization_address(&sent, &secrets);
            let begun = Begun {
                host: crate::clients::host(&address).unwrap_or_default().to_owned(),
                address,
                scopes: sent.scopes.clone(),
                ends_us: now.saturating_add(PATIENCE),
            };
            let waiting = Connecting {
                user: person,
                agent,
                client,
                provider: wish.provider.clone(),
                verifier: sealed(&authority.control, tenant, &id, &secrets.verifier)?,
                sent,
                ends: begun.ends_us,
            };
            Ok((vec![keep(tenant, id, &waiting).map_err(failed)?], begun))
        };
        let control = &authority.control;
        control
            .change_with(caller, Action::ConnectionChange, &("connect", wish), async |v, t| work(v, t).await)
            .await
    }

    /// Finishes with what came back by way of the browser: redeems the code and keeps the tokens, sealed.
    ///
    /// # Errors
    /// When policy says no, the answer belongs to another flow or another person's, comes from another issuer, or is a refusal.
    /// Whatever comes of it, the flow is over.
    pub async fn finish(&self, caller: &Caller, answer: &Form) -> Result<Done<ConnectionView>, Stopped> {
        let now = self.now();
        let state = Secret::new(answer.get("state").unwrap_or_default().to_owned());
        let id = Digest::of(state.expose().as_bytes()).to_string();
        let authority = &self.authority;
        // Used up first and by itself, so that whatever follows can be tried only once.
        let ask = ("answer", &id);
        let used =
            authority.control.change_with(caller, Action::ConnectionChange, &ask, async |_, tenant| {
                let person = person(caller)?;
                let found = find::<Connecting>(&*authority.rows, &id, now).await.map_err(failed)?;
                // An answer in somebody else's browser connects nothing (attacks 9 and 42): neither theirs to ours nor ours to theirs.
                let held = found
                    .filter(|held| held.tenant == *tenant && held.value.user.id == person.id)
                    .ok_or_else(|| Problem::from(ConnectError::State))?;
                Ok((vec![held.remove()], held.value))
            });
        let waiting = used.await?.value;
        let work = async |view: &View, tenant: &Tenant| {
            let spec = provider(view, tenant, &waiting.provider)?;
            let code = flow::answered(&waiting.sent, state.expose(), answer)?;
            let client = self.client(view, tenant, &spec, &waiting.sent.server)?;
            if client.id != waiting.sent.client_id {
                return Err(ConnectError::Client.into());
            }
            let verifier = opened(&authority.control, tenant, &id, &waiting.verifier)?;
            let outside = &*self.outside;
            let bounds = (spec.allow_private, now);
            let tokens = flow::redeem(outside, &waiting.sent, &client, &code, &verifier, bounds).await?;
            let con = ConnectionId::new(now, &*authority.control.random);
            let made = Connection::new(&authority.control, tenant, con, &waiting, &tokens, now)?;
            let (person, agent, through) = (&waiting.user, waiting.agent.as_ref(), waiting.client.as_ref());
            let old = self.present(tenant, person, &waiting.provider, agent, through).await?;
            let mut changes: Vec<_> = old.iter().map(crate::kept::Held::remove).collect();
            changes.push(keep(tenant, con.to_string(), &made).map_err(failed)?);
            Ok((changes, made.view()))
        };
        let control = &authority.control;
        control
            .change_with(caller, Action::ConnectionChange, &("connected", &id), async |v, t| work(v, t).await)
            .await
    }

    /// What somebody has connected.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list(&self, caller: &Caller) -> Result<Done<Vec<ConnectionView>>, Stopped> {
        let now = self.now();
        let authority = &self.authority;
        authority
            .control
            .read_with(caller, Action::GrantList, &"connections", async |_, tenant| {
                let person = person(caller)?;
                let own = owner(&person);
                let all = find_of::<Connection>(&*authority.rows, tenant, &own, LISTED_MAX, now);
                Ok(all.await.map_err(failed)?.into_iter().map(|held| held.value.view()).collect())
            })
            .await
    }

    /// Ends a connection: its tokens are ended at the provider, as far as it lets them, and destroyed here whatever it says.
    /// Says whether the provider took it.
    ///
    /// # Errors
    /// When policy says no, or it is not the asker's own.
    pub async fn withdraw(&self, caller: &Caller, id: ConnectionId) -> Result<Done<bool>, Stopped> {
        let now = self.now();
        let authority = &self.authority;
        let work = async |view: &View, tenant: &Tenant| {
            let person = person(caller)?;
            let found = find::<Connection>(&*authority.rows, &id.to_string(), now).await.map_err(failed)?;
            let held = found
                .filter(|held| held.tenant == *tenant && held.value.user.id == person.id)
                .ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
            let ended = self.end_outside(view, tenant, &held.value).await;
            Ok((vec![held.remove()], ended))
        };
        let control = &authority.control;
        control
            .change_with(caller, Action::ConnectionChange, &("withdraw", id), async |v, t| work(v, t).await)
            .await
    }

    /// Best effort: what the provider does not end, ends by itself.
    async fn end_outside(&self, view: &View, tenant: &Tenant, held: &Connection) -> bool {
        let Ok(spec) = provider(view, tenant, &held.provider) else { return false };
        let Ok(client) = self.client(view, tenant, &spec, &held.sent.server) else { return false };
        let mut ended = true;
        for (token, hint) in held.secrets(&self.authority.control, tenant) {
            let bounds = spec.allow_private;
            ended &= flow::revoke(&*self.outside, &held.sent, &client, (&token, hint), bounds).await;
        }
        ended
    }

    /// Asks the resource and its issuer, and says what to send.
    async fn discover(
        &self,
        tenant: &Tenant,
        view: &View,
        spec: &ConnectionProviderSpec,
        redirect: &str,
        needed: &BTreeSet<String>,
        before: &BTreeSet<String>,
    ) -> Result<(Sent, OurClient), Problem> {
        let (outside, private) = (&*self.outside, spec.allow_private);
        let declared = spec.issuer.as_deref();
        let resource = discovery::resource(outside, &spec.resource, None, declared, private).await?;
        let server = discovery::server(outside, &resource.issuer, private).await?;
        let client = self.client(view, tenant, spec, &server)?;
        let texts =
            |set: &BTreeSet<bartizan_base::Text<256>>| set.iter().map(|t| t.as_str().to_owned()).collect();
        let declared: BTreeSet<String> = texts(&spec.scopes);
        let bound: Option<BTreeSet<String>> = spec.scopes_max.as_ref().map(texts);
        let scopes =
            flow::scopes_to_ask(&declared, needed, &resource.scopes, before, bound.as_ref(), server.offline);
        let sent = Sent {
            client_id: client.id.clone(),
            redirect: redirect.to_owned(),
            resource: resource.identifier,
            scopes,
            server,
        };
        Ok((sent, client))
    }

    /// What we are at a server.
    fn client(
        &self,
        view: &View,
        tenant: &Tenant,
        spec: &ConnectionProviderSpec,
        server: &discovery::Server,
    ) -> Result<OurClient, Problem> {
        match &spec.client {
            OutsideClient::Document => {
                let id = self.document.as_deref().filter(|_| server.takes_documents);
                let id = id.ok_or(ConnectError::Client)?.to_owned();
                let authentication = bartizan_model::OutsideAuthentication::None;
                Ok(OurClient { id, authentication, secret: None })
            }
            OutsideClient::Registered { client_id, authentication, credential } => {
                let secret = credential.as_ref().map(|name| {
                    let row = view.state.sealed.iter().find(|s| s.tenant == *tenant && s.name == *name);
                    let row = row.ok_or(ConnectError::Client)?;
                    let sealer = &self.authority.control.sealer;
                    sealer.open(&row.sealed, tenant, name).map_err(|_| ConnectError::Client)
                });
                let id = client_id.as_str().to_owned();
                Ok(OurClient { id, authentication: *authentication, secret: secret.transpose()? })
            }
        }
    }

    /// Where the answer goes: to us, or to a program on the person's own machine.
    fn redirect_of(&self, wish: &Connect) -> Result<String, Problem> {
        let invalid = || {
            Problem::with_detail(ReasonCode::Invalid, "answers go to us or to `http://127.0.0.1:PORT/PATH`")
        };
        match &wish.redirect {
            None => Ok(self.redirect()),
            Some(own) => {
                let local = own.starts_with("http://127.0.0.1:") || own.starts_with("http://[::1]:");
                if local && outside::acceptable(own, true) { Ok(own.clone()) } else { Err(invalid()) }
            }
        }
    }

    /// The connections of exactly this person, agent and client with a provider.
    async fn present(
        &self,
        tenant: &Tenant,
        person: &Principal,
        provider: &Name,
        agent: Option<&Principal>,
        client: Option<&Name>,
    ) -> Result<Vec<crate::kept::Held<Connection>>, Problem> {
        let rows = &*self.authority.rows;
        let all = find_of::<Connection>(rows, tenant, &owner(person), LISTED_MAX, self.now()).await;
        let all = all.map_err(failed)?.into_iter();
        Ok(all.filter(|held| held.value.is_for(provider, agent, client)).collect())
    }
}

/// The person who asks for themselves: nobody connects an account in another's name.
fn person(caller: &Caller) -> Result<Principal, Problem> {
    let principal = &caller.subject().principal;
    if principal.kind != PrincipalKind::User || !caller.actors().is_empty() {
        let text = "accounts are connected by a person, for themselves";
        return Err(Problem::with_detail(ReasonCode::Forbidden, text));
    }
    Ok(principal.clone())
}

fn agent(view: &View, tenant: &Tenant, name: &Name) -> Result<Principal, Problem> {
    let found = view.state.documents.iter().find_map(|(t, document, _)| match &document.spec {
        Spec::Agent(spec) if t == tenant && document.name == *name && spec.status == Status::Active => {
            let id = document.principal?;
            Some(Principal { kind: PrincipalKind::Agent, name: name.clone(), id })
        }
        _ => None,
    });
    found.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, format!("no agent is called `{name}`")))
}

fn provider(view: &View, tenant: &Tenant, name: &Name) -> Result<ConnectionProviderSpec, Problem> {
    let found = view.state.documents.iter().find_map(|(t, document, _)| match &document.spec {
        Spec::ConnectionProvider(spec) if t == tenant && document.name == *name => Some(spec.clone()),
        _ => None,
    });
    found.filter(|spec| spec.status == Status::Active).ok_or_else(|| {
        Problem::with_detail(ReasonCode::NotFound, format!("no connection provider is called `{name}`"))
    })
}

fn failed(error: bartizan_store::StoreError) -> Problem {
    Stopped::from(error).problem
}
