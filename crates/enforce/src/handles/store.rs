//! Where contents are kept: in memory, for a while, each for one session alone.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Random};
use bartizan_identify::Caller;
use bartizan_model::{EntityRef, Label, Tenant};
use bartizan_secret::Secret;

/// For how long a handle is good, in microseconds.
pub(crate) const LIFE_US: u64 = 60 * 60 * 1_000_000;
/// Handles of one session; beyond, the oldest goes.
const SESSION_MAX: usize = 64;
/// Bytes of the contents of one session.
const SESSION_BYTES_MAX: usize = 32 << 20;
/// Bytes of the contents of one tenant; beyond, the oldest of whichever session has most goes; of several, of the one that began first.
const TENANT_BYTES_MAX: usize = 256 << 20;
/// What names of handles begin with.
const PREFIX: &str = "hdl_";
/// Random bytes in the name of a handle.
const NAME_BYTES: usize = 20;

/// A content that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Where it came from.
    pub(crate) source: EntityRef,
    /// Its text.
    pub(crate) text: Arc<Secret<String>>,
    /// Of which media type it is.
    pub(crate) media: &'static str,
    pub(crate) label: Label,
}

impl Content {
    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.expose().len()
    }
}

/// Whose a content is: nobody else can have it, whoever knows its handle.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) tenant: Tenant,
    /// The session that it came to.
    pub(crate) session: String,
    /// Who asked for it; it is gone as soon as their credential is.
    pub(crate) caller: Caller,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    content: Content,
    at_us: u64,
    /// The order in which they came.
    turn: u64,
}

/// Contents that are kept, by the digest of their handles.
#[derive(Debug, Default)]
pub(crate) struct Handles(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    all: HashMap<Digest, Entry>,
    turn: u64,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("count", &self.all.len()).finish_non_exhaustive()
    }
}

/// Whether a text is written like a handle.
pub(crate) fn is_handle(text: &str) -> bool {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 2 * NAME_BYTES && rest.bytes().all(hex))
}

impl Handles {
    /// Keeps a content, and gives its handle. None where it is more than one session may have.
    pub(crate) fn keep(
        &self,
        owner: Owner,
        content: Content,
        now_us: u64,
        random: &dyn Random,
    ) -> Option<String> {
        if content.bytes() > SESSION_BYTES_MAX {
            return None;
        }
        let mut drawn = [0; NAME_BYTES];
        random.fill(&mut drawn);
        let hex: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{PREFIX}{hex}");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.all.retain(|_, entry| is_young(entry, now_us));
        kept.make_room(&owner, content.bytes());
        kept.turn = kept.turn.wrapping_add(1);
        let turn = kept.turn;
        kept.all.insert(Digest::of(name.as_bytes()), Entry { owner, content, at_us: now_us, turn });
        Some(name)
    }

    /// What a handle stands for in this session, and who asked for it; none for handles of others, past ones and made-up ones alike.
    pub(crate) fn find(
        &self,
        name: &str,
        tenant: &Tenant,
        session: &str,
        now_us: u64,
    ) -> Option<(Content, Caller)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.all.get(&Digest::of(name.as_bytes()))?;
        let own = entry.owner.tenant == *tenant && entry.owner.session == session;
        (own && is_young(entry, now_us)).then(|| (entry.content.clone(), entry.owner.caller.clone()))
    }

    /// Forgets what a handle stands for: nobody may have it any more.
    pub(crate) fn forget(&self, name: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.all.remove(&Digest::of(name.as_bytes()));
    }
}

const fn is_young(entry: &Entry, now_us: u64) -> bool {
    now_us.saturating_sub(entry.at_us) < LIFE_US
}

impl Kept {
    fn make_room(&mut self, owner: &Owner, bytes: usize) {
        let own = |entry: &Entry| entry.owner.tenant == owner.tenant && entry.owner.session == owner.session;
        loop {
            let (mut count, mut of_session) = (0_usize, bytes);
            for entry in self.all.values().filter(|entry| own(entry)) {
                count += 1;
                of_session = of_session.saturating_add(entry.content.bytes());
            }
            if count < SESSION_MAX && of_session <= SESSION_BYTES_MAX {
                break;
            }
            if !self.drop_oldest(own) {
                break;
            }
        }
        loop {
            let mut of_tenant = bytes;
            // Bytes, and the turn of the oldest.
            let mut by_session: HashMap<&str, (usize, u64)> = HashMap::new();
            for entry in self.all.values().filter(|entry| entry.owner.tenant == owner.tenant) {
                of_tenant = of_tenant.saturating_add(entry.content.bytes());
                let (bytes, oldest) = by_session.entry(&entry.owner.session).or_insert((0, u64::MAX));
                *bytes = bytes.saturating_add(entry.content.bytes());
                *oldest = (*oldest).min(entry.turn);
            }
            let most = by_session.into_iter().max_by_key(|(_, (bytes, oldest))| (*bytes, Reverse(*oldest)));
            let most = most.map(|(session, _)| session.to_owned());
            let Some(most) = most.filter(|_| of_tenant > TENANT_BYTES_MAX) else { break };
            if !self.drop_oldest(|entry| entry.owner.tenant == owner.tenant && entry.owner.session == most) {
                break;
            }
        }
    }

    fn drop_oldest(&mut self, of: impl Fn(&Entry) -> bool) -> bool {
        let oldest = self.all.iter().filter(|(_, entry)| of(entry)).min_by_key(|(_, entry)| entry.turn);
        let oldest = oldest.map(|(name, _)| *name);
        oldest.is_some_and(|oldest| self.all.remove(&oldest).is_some())
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::Name;
    use bartizan_base::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &'static str) -> Tenant {
        Tenant(Name::literal(name))
    }

    fn owner(tenant_name: &'static str, session: &str) -> Owner {
        let tenant = tenant(tenant_name);
        Owner { tenant: tenant.clone(), session: session.to_owned(), caller: Caller::anonymous(tenant) }
    }

    fn content(text: &str) -> Content {
        let source = EntityRef::new(Name::literal("Tool"), Name::literal("mail/read"));
        Content::new(source, text.to_owned(), "text/plain", Label::default())
    }

    #[test]
    fn a_handle_cannot_be_guessed_and_says_nothing() {
        let (handles, random) = (Handles::default(), SeededRandom::new(1));
        let mut names = std::collections::BTreeSet::new();
        for n in 0..200 {
            let name = handles.keep(owner("a", &format!("s{n}")), content("secret"), 0, &random).unwrap();
            assert!(is_handle(&name) && !name.contains("secret"));
            assert!(names.insert(name));
        }
        assert!(!format!("{handles:?}").contains("secret"));
        let name = names.first().unwrap();
        for other in [name.to_uppercase(), format!("{name} "), format!("{name}0"), "hdl_".to_owned()] {
            assert!(!is_handle(&other), "{other}");
            assert!(handles.find(&other, &tenant("a"), "s0", 0).is_none());
        }
    }

    #[test]
    fn a_handle_is_good_for_its_time_and_no_longer() {
        let (handles, random) = (Handles::default(), SeededRandom::new(1));
        let name = handles.keep(owner("a", "s"), content("x"), 7, &random).unwrap();
        let found = |now_us| handles.find(&name, &tenant("a"), "s", now_us).is_some();
        assert!(found(7) && found(7 + LIFE_US - 1) && !found(7 + LIFE_US));
        handles.forget(&name);
        assert!(!found(7));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_of_the_own_session_goes_first() {
        let (handles, random) = (Handles::default(), SeededRandom::new(1));
        let theirs = handles.keep(owner("a", "other"), content("theirs"), 0, &random).unwrap();
        let own: Vec<String> = (0..=SESSION_MAX)
            .map(|n| handles.keep(owner("a", "s"), content(&n.to_string()), 0, &random).unwrap())
            .collect();
        let there = |name: &str, session: &str| handles.find(name, &tenant("a"), session, 0).is_some();
        let kept: Vec<bool> = own.iter().map(|name| there(name, "s")).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), SESSION_MAX);
        assert!(!kept[0] && kept[1], "the oldest is gone");
        assert!(there(&theirs, "other"));
        let large = "x".repeat(SESSION_BYTES_MAX);
        assert!(handles.keep(owner("a", "s"), content(&format!("{large}x")), 0, &random).is_none());
        let whole = handles.keep(owner("a", "s"), content(&large), 0, &random).unwrap();
        assert!(there(&whole, "s") && !there(own.last().unwrap(), "s"), "there is room for it alone");
        // A tenant that has too much loses what its greediest sessions have, and no other tenant loses anything.
        let outside = handles.keep(owner("b", "s"), content("b"), 0, &random).unwrap();
        for n in 0..TENANT_BYTES_MAX / SESSION_BYTES_MAX {
            handles.keep(owner("a", &format!("greedy{n}")), content(&large), 0, &random).unwrap();
        }
        assert!(there(&theirs, "other") && !there(&whole, "s"));
        assert!(handles.find(&outside, &tenant("b"), "s", 0).is_some());
    }

    proptest! {
        /// INV-TENANT, INV-LABEL: whoever knows a handle and is not its session has nothing.
        #[test]
        fn inv_tenant_a_handle_is_good_for_its_own_session_alone(
            kept in prop::collection::vec((0_usize..2, 0_usize..3), 1..20), asks in prop::collection::vec((0_usize..20, 0_usize..2, 0_usize..3), 1..60)
        ) {
            let (handles, random) = (Handles::default(), SeededRandom::new(3));
            let (tenants, sessions) = (["a", "b"], ["s", "t", "u"]);
            let names: Vec<String> = kept
                .iter()
                .map(|(t, s)| {
                    let text = format!("{}/{}", tenants[*t], sessions[*s]);
                    handles.keep(owner(tenants[*t], sessions[*s]), content(&text), 0, &random).unwrap()
                })
                .collect();
            for (which, t, s) in asks {
                let Some((name, of)) = names.get(which).zip(kept.get(which)) else { continue };
                let found = handles.find(name, &tenant(tenants[t]), sessions[s], 0);
                prop_assert_eq!(found.is_some(), *of == (t, s));
                if let Some((content, _)) = found {
                    prop_assert_eq!(content.text.expose(), &format!("{}/{}", tenants[t], sessions[s]));
                }
            }
        }
    }
}
