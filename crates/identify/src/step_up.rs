//! Questions to people to prove themselves more surely for one thing that was asked in their name.
//!
//! Whoever asks holds a credential that is too weak; the person behind it opens a link of ours, logs in as surely as is wanted, and
//! says yes. What comes of it is the same caller with the assurance of that login, for that one thing and nothing else. The link is a
//! secret, used once, and opens nothing by itself: whoever follows it has to be the very person in whose name was asked, so that nobody
//! can be talked into proving themselves for somebody else (MCP 2025-11-25, elicitation: phishing).
//!
//! What is asked is kept in memory, by the node that was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name, Random, Timestamp};
use bartizan_model::{
    Assurance, AssuranceLevel, CredentialKind, DecisionId, PrincipalKind, ReasonCode, SessionId,
};
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::caller::Caller;
use crate::directory::Directory;
use crate::epochs::{EpochKind, Issued, MarkKey};

/// How long a link is good, and what came of it.
pub const LIFE: Duration = Duration::from_secs(10 * 60);
/// Questions that are open at once, and those of one person.
const OPEN_MAX: usize = 10_000;
const OF_ONE_MAX: usize = 8;

/// What is wanted of a person.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How sure their login has to be.
    pub level: AssuranceLevel,
    /// How old it may be; none if age does not matter.
    pub max_age: Option<Duration>,
    /// What was asked in their name, in words for them.
    pub what: String,
    /// The decision that refused it.
    pub decision: Option<DecisionId>,
}

/// A question as the person sees it.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is wanted.
    pub wanted: Wanted,
    /// The program that asks in their name, as it is known here.
    pub client: Option<Name>,
    /// Those who act for them, by name.
    pub actors: Vec<Name>,
    /// When it was asked.
    pub asked: Timestamp,
    /// Whether the login that they have would do.
    pub suffices: bool,
}

/// A question that was asked.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it is known by to whoever waits. It opens nothing.
    pub id: Digest,
    /// The secret of the link.
    pub secret: Arc<Secret<String>>,
}

/// What has come of a question.
#[derive(Debug)]
pub enum Answered {
    /// Nobody has answered yet.
    Waiting,
    /// The same caller, proven as surely as was wanted. Given once.
    Proven(Box<Caller>),
    /// There is no such question, it was refused, or its time is over.
    Gone,
}

/// An assurance that a caller has of another login than their credential's.
#[derive(Clone, Debug)]
pub(crate) struct Lifted {
    assurance: Assurance,
    /// The login that it comes from: it ends with it.
    mark: MarkKey,
    issued: Issued,
    /// When that login ends.
    ends: Timestamp,
    /// When it was asked for.
    asked: Timestamp,
}

impl Lifted {
    /// The same caller with that assurance, as long as the login stands that it comes from.
    pub(crate) fn applied(
        self: &Arc<Self>,
        caller: Caller,
        directory: &Directory,
        now: Timestamp,
    ) -> Option<Caller> {
        if now >= self.ends || directory.epochs().kill(&[self.mark], self.issued) {
            return None;
        }
        let mut caller = caller;
        caller.subject.assurance = self.assurance.clone();
        caller.lifted = Some(self.clone());
        Some(caller)
    }
}

#[derive(Debug)]
struct Held {
    link: Digest,
    secret: Arc<Secret<String>>,
    /// Who asked, and for what: nobody else gets what comes of it.
    by: Digest,
    asks: Caller,
    wanted: Wanted,
    asked: Timestamp,
    revision: u64,
    proven: Option<Arc<Lifted>>,
}

impl Held {
    fn is_over(&self, now: Timestamp) -> bool {
        now.saturating_since(self.asked) >= LIFE
    }
}

/// Questions to people to prove themselves.
#[derive(Debug, Default)]
pub struct StepUps(Mutex<HashMap<Digest, Held>>);

impl StepUps {
    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the person in whose name `caller` acts. `by` stands for who asks and for what: where that was asked already, it is the
    /// same question. None where nobody can be asked: it is no person, or too much waits for them already.
    pub fn ask(
        &self,
        caller: &Caller,
        by: Digest,
        wanted: Wanted,
        (directory, now): (&Directory, Timestamp),
        random: &dyn Random,
    ) -> Option<Link> {
        if caller.supposed || caller.subject.principal.kind != PrincipalKind::User {
            return None;
        }
        let mut held = self.held();
        held.retain(|_, one| !one.is_over(now));
        if let Some((id, one)) = held.iter().find(|(_, one)| one.by == by && one.proven.is_none()) {
            return Some(Link { id: *id, secret: one.secret.clone() });
        }
        let person = (&caller.tenant, caller.subject.principal.id);
        let of_one = held.values().filter(|one| (&one.asks.tenant, one.asks.subject.principal.id) == person);
        if held.len() >= OPEN_MAX || of_one.count() >= OF_ONE_MAX {
            return None;
        }
        let (secret, link, id) = secret(random);
        let one = Held {
            link,
            secret: secret.clone(),
            by,
            asks: caller.clone(),
            wanted,
            asked: now,
            revision: directory.revision(),
            proven: None,
        };
        held.insert(id, one);
        Some(Link { id, secret })
    }

    /// The question behind a link, for the person who is asked: `login` is a caller by a session of ours.
    ///
    /// # Errors
    /// When there is none for this person. Whether there is one for somebody else is not told.
    pub fn question(&self, secret: &str, login: &Caller, now: Timestamp) -> Result<Question, ReasonCode> {
        let held = self.held();
        let (_, one) = theirs(&held, secret, login, now)?;
        Ok(Question {
            wanted: one.wanted.clone(),
            client: one.asks.client.clone(),
            actors: one.asks.actors.iter().map(|actor| actor.principal.name.clone()).collect(),
            asked: one.asked,
            suffices: suffices(&one.wanted, &login.subject.assurance, now),
        })
    }

    /// The person says yes, in `session`, their login. The link is used up.
    ///
    /// # Errors
    /// When there is no such question for this person, or their login is not as sure as is wanted.
    pub fn prove(
        &self,
        secret: &str,
        (login, session): (&Caller, SessionId),
        now: Timestamp,
    ) -> Result<Option<DecisionId>, ReasonCode> {
        let mut held = self.held();
        let (id, one) = theirs(&held, secret, login, now)?;
        let assurance = &login.subject.assurance;
        if !suffices(&one.wanted, assurance, now) {
            return Err(ReasonCode::LoginTooOld);
        }
        let session: Name = session.to_string().parse().map_err(|_| ReasonCode::Internal)?;
        let lifted = Lifted {
            assurance: assurance.clone(),
            mark: MarkKey::of(&one.asks.tenant, EpochKind::Session, &session),
            // As if it had been issued before anybody could have answered: what has ended the session since ends this as well.
            issued: Issued::Here { revision: one.revision, at: assurance.at.max(one.asked) },
            ends: login.expires,
            asked: one.asked,
        };
        let one = held.get_mut(&id).ok_or(ReasonCode::NotFound)?;
        one.proven = Some(Arc::new(lifted));
        Ok(one.wanted.decision)
    }

    /// The person says no: the question is gone.
    ///
    /// # Errors
    /// When there is no such question for this person.
    pub fn refuse(
        &self,
        secret: &str,
        login: &Caller,
        now: Timestamp,
    ) -> Result<Option<DecisionId>, ReasonCode> {
        let mut held = self.held();
        let (id, _) = theirs(&held, secret, login, now)?;
        Ok(held.remove(&id).and_then(|one| one.wanted.decision))
    }

    /// What has come of a question, for whoever asked it: `caller` is who they are now, `by` as they asked.
    #[must_use]
    pub fn answered(
        &self,
        (id, by): (Digest, Digest),
        caller: &Caller,
        (directory, now): (&Directory, Timestamp),
    ) -> Answered {
        let mut held = self.held();
        let same = |one: &&Held| {
            one.by == by
                && one.asks.tenant == caller.tenant
                && one.asks.subject.principal == caller.subject.principal
                && !one.is_over(now)
        };
        match held.get(&id).filter(same) {
            None => Answered::Gone,
            Some(one) if one.proven.is_none() => Answered::Waiting,
            Some(_) => {
                let lifted = held.remove(&id).and_then(|one| one.proven);
                let proven = lifted.and_then(|lifted| lifted.applied(caller.clone(), directory, now));
                proven.map_or(Answered::Gone, |caller| Answered::Proven(Box::new(caller)))
            }
        }
    }

    /// Keeps what a caller was proven by for the next round of the same thing, within the time that the question had. None where they
    /// were not proven so.
    pub fn keep(&self, caller: &Caller, by: Digest, now: Timestamp, random: &dyn Random) -> Option<Digest> {
        let lifted = caller.lifted.clone()?;
        let (secret, link, id) = secret(random);
        let wanted =
            Wanted { level: lifted.assurance.level, max_age: None, what: String::new(), decision: None };
        let asked = lifted.asked;
        let one =
            Held { link, secret, by, asks: caller.clone(), wanted, asked, revision: 0, proven: Some(lifted) };
        let mut held = self.held();
        held.retain(|_, one| !one.is_over(now));
        (held.len() < OPEN_MAX && !one.is_over(now)).then(|| held.insert(id, one))?;
        Some(id)
    }

    /// Nobody waits any more: the link leads nowhere.
    pub fn forget(&self, id: Digest) {
        self.held().remove(&id);
    }
}

/// A secret, its digest, and what it is known by.
fn secret(random: &dyn Random) -> (Arc<Secret<String>>, Digest, Digest) {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let secret = Secret::new(BASE64.encode(bytes));
    let link = Digest::of(secret.expose().as_bytes());
    (Arc::new(secret), link, Digest::of_parts(&[b"step-up\0", link.as_bytes()]))
}

/// The open question of a link, if it is one to this person.
fn theirs<'h>(
    held: &'h HashMap<Digest, Held>,
    secret: &str,
    login: &Caller,
    now: Timestamp,
) -> Result<(Digest, &'h Held), ReasonCode> {
    let link = Digest::of(secret.as_bytes());
    let id = Digest::of_parts(&[b"step-up\0", link.as_bytes()]);
    let by_login =
        matches!(login.credential, CredentialKind::Session) && !login.supposed && login.actors.is_empty();
    let one = held.get(&id).filter(|one| {
        one.link == link
            && one.proven.is_none()
            && !one.is_over(now)
            && one.asks.tenant == login.tenant
            && one.asks.subject.principal == login.subject.principal
    });
    one.filter(|_| by_login).map(|one| (id, one)).ok_or(ReasonCode::NotFound)
}

fn suffices(wanted: &Wanted, assurance: &Assurance, now: Timestamp) -> bool {
    assurance.level >= wanted.level
        && wanted.max_age.is_none_or(|age| now.saturating_since(assurance.at) <= age)
}
