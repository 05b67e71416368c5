//! Questions are not asked until somebody gives in: not many may wait for one person, fewer of them by one client, and a client that
//! was refused several times is answered for the person for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;

use super::Person;
use super::pending::Pending;
use crate::Authority;
use crate::kept::{find_of, owner};
use crate::oauth::{OauthCode, OauthError};

/// Questions of all clients that may wait for one person.
pub const WAITING_MAX: usize = 30;
/// Questions of one client that may wait for one person.
pub const WAITING_OF_CLIENT_MAX: usize = 10;
/// How often somebody refuses a client before it is refused for them.
pub const REFUSED_MAX: usize = 3;
/// For how long a refusal counts.
pub const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Questions of one person that are looked at; some of them may be over.
const LOOK: usize = 500;
/// Refusals that this node remembers.
const REMEMBERED_MAX: usize = 10_000;

/// Who refused which client lately, as this node has seen it.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<VecDeque<(Timestamp, String)>>);

impl Refusals {
    fn key(person: &Person, client: &str) -> String {
        format!("{} {client}", owner(&person.session.principal))
    }

    /// Somebody has refused a client.
    pub(super) fn refused(&self, person: &Person, client: &str, now: Timestamp) {
        self.add(Self::key(person, client), now);
    }

    /// Whether somebody has refused a client so often that it need not be asked.
    pub(super) fn is_weary(&self, person: &Person, client: &str, now: Timestamp) -> bool {
        self.count(&Self::key(person, client), now) >= REFUSED_MAX
    }

    fn add(&self, key: String, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.pop_front();
        }
        seen.push_back((now, key));
    }

    fn count(&self, key: &str, now: Timestamp) -> usize {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(at, _)| now < at.saturating_add(REFUSED_FOR));
        seen.iter().filter(|(_, of)| of == key).count()
    }
}

/// Whether another question of a client may wait for somebody.
///
/// # Errors
/// `access_denied` for a client that was refused several times; `temporarily_unavailable` where too many wait. Both are recorded.
pub(super) async fn may_ask(
    authority: &Authority,
    person: &Person,
    client: &str,
    now: Timestamp,
) -> Result<(), OauthError> {
    if authority.issuing.refusals.is_weary(person, client, now) {
        let text = "the person has refused this client several times; it can ask again in ten minutes";
        return Err(authority.refused(OauthError::new(OauthCode::AccessDenied, text)).await);
    }
    let (tenant, whose) = (person.caller.tenant(), owner(&person.session.principal));
    let waiting = find_of::<Pending>(&*authority.rows, tenant, &whose, LOOK, now).await?;
    let own = waiting.iter().filter(|held| held.value.wish.client.id == client).count();
    if waiting.len() < WAITING_MAX && own < WAITING_OF_CLIENT_MAX {
        return Ok(());
    }
    let text = "too many questions wait for the person: they are to be answered, or over in ten minutes";
    Err(authority.refused(OauthError::new(OauthCode::TemporarilyUnavailable, text)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(10_000 + seconds)
    }

    #[test]
    fn attack_10_refusals_count_for_one_person_and_one_client_and_are_forgotten() {
        let refusals = Refusals::default();
        for n in 0..3 {
            assert_eq!(refusals.count("alice app", at(n)), usize::try_from(n).unwrap());
            refusals.add("alice app".to_owned(), at(n));
        }
        assert_eq!(refusals.count("alice app", at(9)), REFUSED_MAX);
        assert_eq!((refusals.count("alice other", at(9)), refusals.count("bob app", at(9))), (0, 0));
        assert_eq!(refusals.count("alice app", at(601)), 1, "of the latest alone");
    }

    #[test]
    fn attack_10_what_is_remembered_is_bounded() {
        let refusals = Refusals::default();
        for n in 0..REMEMBERED_MAX + 10 {
            refusals.add(format!("sock-{n} app"), at(0));
        }
        assert_eq!(refusals.0.lock().unwrap().len(), REMEMBERED_MAX);
        assert_eq!(refusals.count("sock-0 app", at(0)), 0, "the oldest goes first");
    }
}
