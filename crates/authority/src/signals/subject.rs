//! Whom an event is about: subject identifiers (RFC 9493; complex ones by SSF 1.0) and whom they are with us.

use bartizan_base::Name;
use bartizan_model::directory::IssuerSpec;
use bartizan_model::{Document, Principal, PrincipalId, SessionId, Spec, Tenant};
use bartizan_store::State;
use serde_json::{Map, Value, json};

use super::event::Malformed;

/// How many names of one subject are looked at.
const ALIASES_MAX: usize = 16;

/// A simple subject identifier of a format that we can map.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identifier {
    IssSub(String, String),
    Email(String),
    Opaque(String),
}

/// Whom an event is about, as it says. Members that we do not know narrow what it is about; not minding them, we take away
/// rather too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    user: Vec<Identifier>,
    device: Vec<Identifier>,
    session: Vec<Identifier>,
}

impl About {
    /// Reads `sub_id`.
    pub(super) fn read(subject: &Map<String, Value>) -> Result<Self, Malformed> {
        let member = |name: &str| match subject.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(simple)) => simple_of(simple),
            Some(_) => Err(Malformed),
        };
        if subject.get("format").and_then(Value::as_str) == Some("complex") {
            return Ok(Self {
                user: member("user")?,
                device: member("device")?,
                session: member("session")?,
            });
        }
        Ok(Self { user: simple_of(subject)?, ..Self::default() })
    }

    /// Whether it names a subject of another issuer: nobody speaks for those of others.
    pub(super) fn is_foreign(&self, spec: &IssuerSpec, own: &str) -> bool {
        let all = self.user.iter().chain(&self.device).chain(&self.session);
        all.into_iter()
            .any(|one| matches!(one, Identifier::IssSub(iss, _) if *iss != spec.issuer && iss != own))
    }

    /// The person or program in our directory.
    pub(super) fn principal(
        &self,
        state: &State,
        tenant: &Tenant,
        spec: &IssuerSpec,
        own: &str,
    ) -> Option<Principal> {
        self.user.iter().find_map(|one| match (one, spec.subject_claim.as_str()) {
            (Identifier::IssSub(iss, sub), _) if iss == own => pseudonym(state, tenant, sub.parse().ok()?),
            (Identifier::IssSub(_, sub) | Identifier::Opaque(sub), "sub") => named(state, tenant, spec, sub),
            (Identifier::Email(email), "email") => named(state, tenant, spec, email),
            _ => None,
        })
    }

    /// The device in our directory, with the revision of its last change.
    pub(super) fn device<'a>(&self, state: &'a State, tenant: &Tenant) -> Option<(&'a Document, u64)> {
        let name = self.device.iter().find_map(|one| match one {
            Identifier::Opaque(id) | Identifier::IssSub(_, id) => id.parse::<Name>().ok(),
            Identifier::Email(_) => None,
        })?;
        let mut documents = state.documents.iter().filter(|(of, ..)| of == tenant);
        let (_, document, changed) =
            documents.find(|(_, d, _)| matches!(d.spec, Spec::Device(_)) && d.name == name)?;
        Some((document, *changed))
    }

    /// A session of ours, where the sender knows its id from us.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.session.iter().find_map(|one| match one {
            Identifier::Opaque(id) | Identifier::IssSub(_, id) => id.parse().ok(),
            Identifier::Email(_) => None,
        })
    }
}

/// A simple identifier, or its aliases. Formats that we cannot map are nobody.
fn simple_of(simple: &Map<String, Value>) -> Result<Vec<Identifier>, Malformed> {
    let text = |name: &str| {
        let text = simple.get(name).and_then(Value::as_str).filter(|text| text.len() <= 512);
        text.map(str::to_owned).ok_or(Malformed)
    };
    Ok(match simple.get("format").and_then(Value::as_str).ok_or(Malformed)? {
        "iss_sub" => vec![Identifier::IssSub(text("iss")?, text("sub")?)],
        "email" => vec![Identifier::Email(text("email")?)],
        "opaque" => vec![Identifier::Opaque(text("id")?)],
        "aliases" => {
            let aliases = simple.get("identifiers").and_then(Value::as_array).ok_or(Malformed)?;
            if aliases.len() > ALIASES_MAX {
                return Err(Malformed);
            }
            let mut all = Vec::new();
            for alias in aliases {
                let alias = alias.as_object().ok_or(Malformed)?;
                // RFC 9493, 3.2.8: aliases do not nest.
                if alias.get("format").and_then(Value::as_str) == Some("aliases") {
                    return Err(Malformed);
                }
                all.extend(simple_of(alias)?);
            }
            all
        }
        _ => Vec::new(),
    })
}

fn named(state: &State, tenant: &Tenant, spec: &IssuerSpec, name: &str) -> Option<Principal> {
    let name: Name = name.parse().ok()?;
    let mut documents = state.documents.iter().filter(|(of, ..)| of == tenant);
    documents.find_map(|(_, document, _)| {
        let kind = document.spec.principal_kind().filter(|kind| *kind == spec.subject_kind)?;
        let id = document.principal.filter(|_| document.name == name)?;
        Some(Principal { kind, name: name.clone(), id })
    })
}

fn pseudonym(state: &State, tenant: &Tenant, id: PrincipalId) -> Option<Principal> {
    let mut documents = state.documents.iter().filter(|(of, ..)| of == tenant);
    documents.find_map(|(_, document, _)| {
        let kind = document.spec.principal_kind()?;
        (document.principal == Some(id)).then(|| Principal { kind, name: document.name.clone(), id })
    })
}

/// How we name a principal of ours to others: by our own pseudonym for them.
pub(super) fn of_principal(issuer: &str, principal: PrincipalId) -> Map<String, Value> {
    object(json!({"format": "iss_sub", "iss": issuer, "sub": principal.to_string()}))
}

/// How we name something else of ours: `member` of a complex subject.
pub(super) fn of_thing(member: &str, id: &str) -> Map<String, Value> {
    object(json!({"format": "complex", member: {"format": "opaque", "id": id}}))
}

/// A session of ours, with whose it is.
pub(super) fn of_session(issuer: &str, session: SessionId, principal: PrincipalId) -> Map<String, Value> {
    let session = json!({"format": "opaque", "id": session.to_string()});
    object(json!({"format": "complex", "session": session, "user": of_principal(issuer, principal)}))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(members) = value { members } else { Map::new() }
}
