//! Calls that are under way, so that whoever asked can take them back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_model::{AskFacts, EntityRef};
use tokio::sync::Notify;

/// Calls of one session at once.
const FLIGHTS_MAX: usize = 64;

/// Calls under way, by session and by the id that the caller gave them.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Digest, HashMap<String, Under>>>);

/// A call under way.
#[derive(Clone, Debug)]
pub(crate) struct Under {
    /// The server that it went to.
    pub(crate) server: Name,
    /// What it is called there.
    pub(crate) id: String,
    /// What was permitted.
    pub(crate) entity: EntityRef,
    /// With which facts.
    pub(crate) facts: AskFacts,
    /// Ends the answer here.
    pub(crate) end: Arc<Notify>,
}

/// Takes a call out of the list when it is over.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    session: Digest,
    theirs: String,
    ours: String,
}

impl Flights {
    /// Notes a call. None when that session has as many under way as it may.
    pub(crate) fn begin(self: &Arc<Self>, session: Digest, theirs: &str, under: Under) -> Option<Flight> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(session).or_default();
        if own.len() >= FLIGHTS_MAX {
            return None;
        }
        let ours = under.id.clone();
        // Programs that share a credential can choose the same id: then the later one can be taken back by it.
        own.insert(theirs.to_owned(), under);
        Some(Flight { flights: self.clone(), session, theirs: theirs.to_owned(), ours })
    }

    /// The call that this session knows under `theirs`.
    pub(crate) fn find(&self, session: Digest, theirs: &str) -> Option<Under> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&session)?.get(theirs).cloned()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut all = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = all.get_mut(&self.session) else { return };
        if own.get(&self.theirs).is_some_and(|under| under.id == self.ours) {
            own.remove(&self.theirs);
        }
        if own.is_empty() {
            all.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(id: &str) -> Under {
        Under {
            server: Name::literal("files"),
            id: id.to_owned(),
            entity: EntityRef::new(Name::literal("Tool"), Name::literal("files/read")),
            facts: AskFacts::default(),
            end: Arc::default(),
        }
    }

    #[test]
    fn a_call_is_found_by_its_own_session_alone_and_only_while_it_is_under_way() {
        let flights = Arc::new(Flights::default());
        let (mine, yours) = (Digest::of(b"mine"), Digest::of(b"yours"));
        let flight = flights.begin(mine, "1", under("dec_a")).unwrap();
        assert_eq!(flights.find(mine, "1").unwrap().id, "dec_a");
        assert!(flights.find(yours, "1").is_none() && flights.find(mine, "\"1\"").is_none());
        let later = flights.begin(mine, "1", under("dec_b")).unwrap();
        drop(flight);
        assert_eq!(flights.find(mine, "1").unwrap().id, "dec_b");
        drop(later);
        assert!(flights.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_session_has_only_so_many_calls_under_way() {
        let flights = Arc::new(Flights::default());
        let session = Digest::of(b"one");
        let held: Vec<_> =
            (0..FLIGHTS_MAX).map(|n| flights.begin(session, &n.to_string(), under("x")).unwrap()).collect();
        assert!(flights.begin(session, "more", under("x")).is_none());
        assert!(flights.begin(Digest::of(b"other"), "more", under("x")).is_some());
        drop(held);
        assert!(flights.begin(session, "more", under("x")).is_some());
    }
}
