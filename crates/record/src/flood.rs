//! A flood of equal refusals is counted, not written: nobody can buy the disk with it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_decide::Refused;
use bartizan_model::record::{Refusal, Who};
use bartizan_model::{EntityRef, KeyId, PrincipalId, ReasonCode, Tenant};
use hashbrown::HashTable;
use tokio::sync::oneshot;

use crate::intent::{Receipt, RecordError};

/// Equal refusals written in full within one window.
const WRITTEN_MAX: u64 = 20;
/// How long a window is open.
const WINDOW: Duration = Duration::from_secs(1);
/// Windows open at once. Beyond, refusals of one credential share a window, whatever they are about.
const WINDOWS_MAX: usize = 4_096;

/// What makes refusals equal.
#[derive(Clone, Debug)]
struct Kind {
    tenant: Tenant,
    subject: PrincipalId,
    key: Option<KeyId>,
    /// Why and on what; none in a window shared by all of a credential.
    particulars: Option<(Option<ReasonCode>, Option<EntityRef>)>,
}

/// The same by reference: most refusals find their window without anything being cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KindRef<'a> {
    tenant: &'a Tenant,
    subject: PrincipalId,
    key: Option<KeyId>,
    particulars: Option<(Option<&'a ReasonCode>, Option<&'a EntityRef>)>,
}

impl<'a> KindRef<'a> {
    fn of(refused: &'a Refused) -> Self {
        let resource = refused.what.as_ref().map(|what| &what.resource);
        Self::new(&refused.tenant, &refused.who, refused.reasons.first(), resource)
    }

    fn of_counted(tenant: &'a Tenant, refusal: &'a Refusal) -> Self {
        let resource = refusal.what.as_ref().map(|what| &what.resource);
        Self::new(tenant, &refusal.who, refusal.reasons.first(), resource)
    }

    const fn new(
        tenant: &'a Tenant,
        who: &Who,
        reason: Option<&'a ReasonCode>,
        resource: Option<&'a EntityRef>,
    ) -> Self {
        Self { tenant, subject: who.subject, key: who.key, particulars: Some((reason, resource)) }
    }

    fn to_owned(self) -> Kind {
        let particulars = self.particulars.map(|(reason, resource)| (reason.cloned(), resource.cloned()));
        Kind { tenant: self.tenant.clone(), subject: self.subject, key: self.key, particulars }
    }
}

impl Kind {
    fn as_ref(&self) -> KindRef<'_> {
        let particulars = self.particulars.as_ref();
        KindRef {
            tenant: &self.tenant,
            subject: self.subject,
            key: self.key,
            particulars: particulars.map(|(reason, resource)| (reason.as_ref(), resource.as_ref())),
        }
    }
}

/// Where kinds have their places; keyed at random, so that nobody outside can make them meet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashes(RandomState);

impl Hashes {
    /// The hash of the kind of a refusal, for [`Floods::admit`].
    pub(crate) fn of(&self, refused: &Refused) -> u64 {
        self.of_kind(KindRef::of(refused))
    }

    fn of_kind(&self, kind: KindRef<'_>) -> u64 {
        self.0.hash_one(kind)
    }
}

/// The record of a refusal that stands for itself alone.
fn refusal_of(refused: &Refused) -> Refusal {
    Refusal {
        id: refused.id,
        who: refused.who.clone(),
        what: refused.what.clone(),
        verdict: refused.verdict,
        reasons: refused.reasons.clone(),
        offers: refused.offers.clone(),
        grounds: refused.grounds.clone(),
        repeated: 0,
    }
}

/// What becomes of a refusal.
type Answer = Result<Receipt, RecordError>;

/// The first refusal of a window: those that were counted instead of written are told what became of it.
#[derive(Debug)]
pub(crate) struct First(Mutex<Told>);

#[derive(Debug)]
enum Told {
    NotYet(Vec<oneshot::Sender<Answer>>),
    Is(Answer),
}

impl First {
    fn new(told: Told) -> Arc<Self> {
        Arc::new(Self(Mutex::new(told)))
    }

    /// Tells what became of it.
    pub(crate) fn tell(&self, answer: Answer) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Told::NotYet(waiting) = &mut *told {
            // Whoever does not wait any more needs not be told.
            waiting.drain(..).for_each(|one| drop(one.send(answer.clone())));
        }
        *told = Told::Is(answer);
    }

    /// Waits for what becomes of it.
    pub(crate) fn ask(&self) -> oneshot::Receiver<Answer> {
        let (reply, told) = oneshot::channel();
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Told::NotYet(waiting) => waiting.push(reply),
            Told::Is(answer) => drop(reply.send(answer.clone())),
        }
        told
    }
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    written: u64,
    /// How many were counted instead of written.
    counted: u64,
    /// The last one that was.
    last: Option<Refusal>,
    first: Arc<First>,
}

impl Window {
    fn new(since: Timestamp) -> Self {
        Self { since, written: 1, counted: 0, last: None, first: First::new(Told::NotYet(Vec::new())) }
    }

    fn admit(&mut self, refused: &Refused, now: Timestamp) -> Admission {
        // What is over and has nothing to tell begins anew; what was counted waits for `close`.
        if self.counted == 0 && self.is_over(now) {
            *self = Self::new(now);
            return Admission::First(self.first.clone());
        }
        if self.written < WRITTEN_MAX {
            self.written += 1;
            return Admission::Write;
        }
        self.counted += 1;
        self.last = Some(refusal_of(refused));
        Admission::Counted(self.first.ask())
    }

    /// A clock set back does not keep a window open.
    fn is_over(&self, now: Timestamp) -> bool {
        now < self.since || now.saturating_since(self.since) >= WINDOW
    }
}

/// What to do with a refusal.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Write it, as the first of its window: others will wait for what becomes of it.
    First(Arc<First>),
    /// Write it.
    Write,
    /// It was counted. It is told what became of the first one of its window.
    Counted(oneshot::Receiver<Answer>),
}

/// Watches refusals.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    windows: HashTable<(Kind, Window)>,
    hashes: Hashes,
}

impl Floods {
    /// With places for kinds by `hashes`.
    pub(crate) fn new(hashes: Hashes) -> Self {
        Self { windows: HashTable::new(), hashes }
    }

    /// Says what to do with a refusal, whose kind has this hash, at `now`.
    pub(crate) fn admit(&mut self, hash: u64, refused: &Refused, now: Timestamp) -> Admission {
        let (kind, open) = (KindRef::of(refused), self.windows.len());
        if let Some((_, window)) = self.windows.find_mut(hash, |(known, _)| known.as_ref() == kind) {
            return window.admit(refused, now);
        }
        if open < WINDOWS_MAX {
            return Admission::First(self.open(hash, kind, Window::new(now)));
        }
        let shared = KindRef { particulars: None, ..kind };
        let hash = self.hashes.of_kind(shared);
        match self.windows.find_mut(hash, |(known, _)| known.as_ref() == shared) {
            Some((_, window)) => window.admit(refused, now),
            None if open >= 2 * WINDOWS_MAX => Admission::Write,
            None => Admission::First(self.open(hash, shared, Window::new(now))),
        }
    }

    fn open(&mut self, hash: u64, kind: KindRef<'_>, window: Window) -> Arc<First> {
        let first = window.first.clone();
        let hashes = &self.hashes;
        self.windows
            .insert_unique(hash, (kind.to_owned(), window), |(kind, _)| hashes.of_kind(kind.as_ref()));
        first
    }

    /// Closes the windows that are over at `now`, or every one, and gives what was counted: each the last refusal of its
    /// window, standing for the others.
    pub(crate) fn close(&mut self, now: Timestamp, all: bool) -> Vec<(Tenant, Refusal)> {
        let mut out = Vec::new();
        self.windows.retain(|(kind, window)| {
            let over = all || window.is_over(now);
            if over && let Some(last) = window.last.take() {
                let repeated = window.counted.saturating_sub(1);
                out.push((kind.tenant.clone(), Refusal { repeated, ..last }));
            }
            !over
        });
        out
    }

    /// Takes back what [`Floods::close`] gave and could not be written: it is counted with the next window.
    pub(crate) fn reopen(&mut self, tenant: &Tenant, refusal: &Refusal, now: Timestamp, error: RecordError) {
        let counted = refusal.repeated + 1;
        let kind = KindRef::of_counted(tenant, refusal);
        let hash = self.hashes.of_kind(kind);
        let is_same = |(known, _): &(Kind, Window)| known.as_ref() == kind;
        if self.windows.find(hash, is_same).is_none() {
            let first = First::new(Told::Is(Err(error)));
            let window = Window { since: now, written: WRITTEN_MAX, counted: 0, last: None, first };
            self.open(hash, kind, window);
        }
        if let Some((_, window)) = self.windows.find_mut(hash, is_same) {
            window.counted += counted;
            window.last.get_or_insert_with(|| Refusal { repeated: 0, ..refusal.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{clock, refused, what};
    use bartizan_base::{Clock as _, Name};
    use bartizan_model::record::What;

    impl Floods {
        fn admit_one(&mut self, refused: &Refused, now: Timestamp) -> Admission {
            self.admit(self.hashes.of(refused), refused, now)
        }
    }

    fn asked_of(resource: usize) -> Refused {
        let name: Name = format!("model-{resource}").parse().unwrap();
        let what = What { resource: EntityRef::new(Name::literal("Model"), name), ..what() };
        Refused { what: Some(what), ..refused(0) }
    }

    #[test]
    fn a_flood_of_different_refusals_keeps_memory_bounded_and_the_count_exact() {
        let (mut floods, now) = (Floods::default(), clock().now());
        let total = 3 * WINDOWS_MAX;
        let mut written = 0;
        for n in 0..total {
            written += usize::from(!matches!(floods.admit_one(&asked_of(n), now), Admission::Counted(_)));
            assert!(floods.windows.len() <= WINDOWS_MAX + 1);
        }
        assert!(written < total / 2);
        let counted = floods.close(now, true);
        assert_eq!(counted.len(), 1);
        assert_eq!(written as u64 + counted[0].1.repeated + 1, total as u64);
        assert!(floods.windows.is_empty());
    }

    #[test]
    fn a_count_that_could_not_be_written_is_told_with_the_next() {
        let (mut floods, now, house) = (Floods::default(), clock().now(), Tenant::default_tenant());
        for _ in 0..50 {
            floods.admit_one(&asked_of(1), now);
        }
        let counted = floods.close(now, true);
        assert_eq!(counted[0].1.repeated + 1, 30);
        floods.reopen(&house, &counted[0].1, now, RecordError::NoRoom);
        assert!(matches!(floods.admit_one(&asked_of(1), now), Admission::Counted(_)));
        assert_eq!(floods.close(now, true)[0].1.repeated + 1, 31);
    }

    #[test]
    fn a_window_that_told_nothing_ends_by_itself() {
        let mut floods = Floods::default();
        for second in 0..3 {
            let now = clock().now().saturating_add(Duration::from_secs(second));
            for _ in 0..20 {
                assert!(!matches!(floods.admit_one(&asked_of(1), now), Admission::Counted(_)), "{second}");
            }
        }
    }
}
