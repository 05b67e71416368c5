//! Provisioning by another system (SCIM 2.0, RFC 7643 and 7644): people and groups of the directory as resources. Every
//! operation is an ask (`identity:read`, `identity:change`), every change one set of changes, recorded, by the same rules as any
//! change of the directory.
//!
//! What provisioning may not do: give roles or agents anything, change groups that were not declared for it, take a name that
//! somebody had before, or one that policy speaks of and nobody declared, bring back whom an administrator disabled.

mod bulk;
mod group;
mod import;
mod index;
mod profile;
mod user;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::Digest;
use bartizan_control::{Control, Done, Stopped, View};
use bartizan_identify::Caller;
use bartizan_model::{Action, DecisionId, Problem, ReasonCode, Tenant};
use bartizan_record::Receipt;
use bartizan_scim::{Filter, GROUP, Kind, Listed, Query, Resource, ScimError, USER};
use bartizan_store::{Rows, StoreError};
use serde::Serialize;
use serde_json::Value;

pub use bulk::BulkAnswer;
pub use import::{Imported, ImportedEntry, Outcome, People};
pub use write::{Operation, Write};

use index::{Index, id_of};
use profile::Profiles;

/// Provisioning.
#[derive(Clone, Debug)]
pub struct Scim {
    /// Asks, records and changes.
    pub control: Arc<Control>,
    /// Rows beside the state.
    pub rows: Arc<dyn Rows>,
}

/// An answer, and where it is recorded.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// What came of it.
    pub value: T,
    /// The decision behind it.
    pub decision: DecisionId,
    /// Where it is recorded.
    pub receipt: Receipt,
    /// What opens the digest of this request in the ledger, together with its body: whoever has to prove what was sent keeps it.
    pub opening: String,
}

/// Why there is none.
#[derive(Clone, Debug)]
pub struct Failed {
    /// As SCIM tells it.
    pub error: ScimError,
    /// The decision behind it, where there was one.
    pub decision: Option<DecisionId>,
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        let Problem { reason, decision, .. } = &stopped.problem;
        // Somebody else was quicker, or the directory would not be whole: the message names no values of the request.
        let status = match reason {
            ReasonCode::Invalid => 400,
            reason => reason.status(),
        };
        Self { error: ScimError::of(status, stopped.problem.message().to_string()), decision: *decision }
    }
}

/// What the ledger commits to of an operation. Values are personal and can be guessed, so a random opening is in the digest.
#[derive(Serialize)]
struct Request<'a> {
    operation: &'static str,
    resource: &'static str,
    id: Option<&'a str>,
    body: Digest,
}

/// Carries what SCIM says out of a use case that knows problems only.
#[derive(Debug, Default)]
struct Told(Mutex<Option<ScimError>>);

impl Told {
    fn stop(&self, error: ScimError) -> Problem {
        let reason = match error.status {
            403 => ReasonCode::Forbidden,
            404 => ReasonCode::NotFound,
            409 | 412 => ReasonCode::Conflict,
            413 => ReasonCode::TooMuch,
            _ => ReasonCode::Invalid,
        };
        let problem = Problem::with_detail(reason, error.detail.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        problem
    }

    fn failed(self, stopped: Stopped) -> Failed {
        let decision = stopped.problem.decision;
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Failed { error, decision },
            None => stopped.into(),
        }
    }
}

fn unavailable(error: StoreError) -> Problem {
    Stopped::from(error).problem
}

impl Scim {
    /// Reads one resource.
    ///
    /// # Errors
    /// 403 when policy says no, 404 when there is none.
    pub async fn get(
        &self,
        caller: &Caller,
        base: &str,
        kind: Kind,
        id: &str,
    ) -> Result<Answered<Resource>, Failed> {
        let (told, committed) = (Told::default(), self.commit(&[]));
        let request = Request { operation: "get", resource: kind.name, id: Some(id), body: committed.digest };
        let done = self.control.read_with(caller, Action::IdentityRead, &request, async |view, tenant| {
            let index = Index::of(view, tenant, base);
            let document = index.find(kind, id).ok_or_else(|| told.stop(ScimError::not_found()))?;
            let known = match document.principal {
                Some(id) => self.profiles(tenant).of(id).await.map_err(unavailable)?,
                None => None,
            };
            Ok(index.resource(document, known.as_ref()))
        });
        let done = done.await;
        done.map(|done| committed.answer(done, |value| value)).map_err(|stopped| told.failed(stopped))
    }

    /// Lists resources of one kind or several, as `query` asks.
    ///
    /// # Errors
    /// 403 when policy says no, 400 when the query is wrong.
    pub async fn list(
        &self,
        caller: &Caller,
        base: &str,
        kinds: &[Kind],
        query: &Query,
    ) -> Result<Answered<Listed>, Failed> {
        let told = Told::default();
        let committed = self.commit(format!("{query:?}").as_bytes());
        let resource = if let [kind] = kinds { kind.name } else { "any" };
        let request = Request { operation: "list", resource, id: None, body: committed.digest };
        let done = self.control.read_with(caller, Action::IdentityRead, &request, async |view, tenant| {
            let found = self.candidates(view, tenant, base, kinds, query).await.map_err(unavailable)?;
            query.select(kinds, found).map_err(|error| told.stop(error))
        });
        let done = done.await;
        done.map(|done| committed.answer(done, |value| value)).map_err(|stopped| told.failed(stopped))
    }

    /// The resources that may fit: by name or by what the other system calls them where the filter says so, which is how
    /// provisioning asks nearly always; otherwise all.
    async fn candidates(
        &self,
        view: &View,
        tenant: &Tenant,
        base: &str,
        kinds: &[Kind],
        query: &Query,
    ) -> Result<Vec<(Kind, Resource)>, StoreError> {
        let index = Index::of(view, tenant, base);
        let profiles = self.profiles(tenant);
        if let ([kind], Some(text)) = (kinds, &query.filter)
            && let Ok(filter) = Filter::parse(kind, text)
            && let Some(ids) = self.named(&index, profiles, *kind, &filter).await?
        {
            let mut out = Vec::new();
            for document in ids.iter().filter_map(|id| index.find(*kind, id)) {
                let known = match document.principal {
                    Some(id) => profiles.of(id).await?,
                    None => None,
                };
                out.push((*kind, index.resource(document, known.as_ref())));
            }
            return Ok(out);
        }
        let known = profiles.all().await?;
        let all = kinds.iter().flat_map(|kind| index.all(*kind).map(|document| (*kind, document)));
        Ok(all
            .map(|(kind, document)| (kind, index.resource(document, known.get(&id_of(document)))))
            .collect())
    }

    /// The ids that alone can fit a filter.
    async fn named(
        &self,
        index: &Index<'_>,
        profiles: Profiles<'_>,
        kind: Kind,
        filter: &Filter,
    ) -> Result<Option<Vec<String>>, StoreError> {
        for (target, value) in filter.equalities().into_iter().flatten() {
            let Value::String(text) = value else { continue };
            match (target.extension, target.attribute.name) {
                (None, "id") => return Ok(Some(vec![text.clone()])),
                (None, "userName") if kind == USER => {
                    return Ok(Some(index.user_called(text).map(id_of).into_iter().collect()));
                }
                (None, "externalId") => return Ok(Some(profiles.called(text).await?)),
                _ => {}
            }
        }
        Ok(None)
    }

    fn profiles<'a>(&'a self, tenant: &'a Tenant) -> Profiles<'a> {
        Profiles { control: &self.control, rows: &*self.rows, tenant }
    }

    fn commit(&self, body: &[u8]) -> Committed {
        let mut random = [0; 32];
        self.control.random.fill(&mut random);
        let opening: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = Digest::of_parts(&[b"bartizan scim request v1\0", opening.as_bytes(), b"\0", body]);
        Committed { digest, opening }
    }
}

struct Committed {
    digest: Digest,
    opening: String,
}

impl Committed {
    fn answer<T, U>(self, done: Done<T>, value: impl FnOnce(T) -> U) -> Answered<U> {
        let Done { value: came, decision, receipt, .. } = done;
        Answered { value: value(came), decision, receipt, opening: self.opening }
    }
}

/// Both kinds of resources.
pub const KINDS: &[Kind] = &[USER, GROUP];
