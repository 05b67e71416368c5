//! A flood of equal refusals is counted, not written: nobody can buy the disk with it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::record::Refusal;
use bartizan_model::{EntityRef, KeyId, PrincipalId, ReasonCode, Tenant};
use tokio::sync::oneshot;

use crate::intent::{Receipt, RecordError};

/// Equal refusals written in full within one window.
const WRITTEN_MAX: u64 = 20;
/// How long a window is open.
const WINDOW: Duration = Duration::from_secs(1);
/// Windows open at once. Beyond, refusals of one credential share a window, whatever they are about.
const WINDOWS_MAX: usize = 4_096;

/// What makes refusals equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    tenant: Tenant,
    subject: PrincipalId,
    key: Option<KeyId>,
    /// Why and on what; none in a window shared by all of a credential.
    particulars: Option<(Option<ReasonCode>, Option<EntityRef>)>,
}

impl Kind {
    fn of(tenant: &Tenant, refusal: &Refusal) -> Self {
        let resource = refusal.what.as_ref().map(|w| w.resource.clone());
        Self {
            tenant: tenant.clone(),
            subject: refusal.who.subject,
            key: refusal.who.key,
            particulars: Some((refusal.reasons.first().cloned(), resource)),
        }
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
    windows: HashMap<Kind, Window>,
}

impl Floods {
    /// Says what to do with a refusal at `now`.
    pub(crate) fn admit(&mut self, tenant: &Tenant, refusal: &Refusal, now: Timestamp) -> Admission {
        let mut kind = Kind::of(tenant, refusal);
        let open = self.windows.len();
        if open >= WINDOWS_MAX && !self.windows.contains_key(&kind) {
            kind.particulars = None;
        }
        match self.windows.entry(kind) {
            Entry::Occupied(mut known) => {
                let window = known.get_mut();
                // What is over and has nothing to tell begins anew; what was counted waits for `close`.
                if window.counted == 0 && window.is_over(now) {
                    *window = Window::new(now);
                    return Admission::First(window.first.clone());
                }
                if window.written < WRITTEN_MAX {
                    window.written += 1;
                    return Admission::Write;
                }
                window.counted += 1;
                window.last = Some(refusal.clone());
                Admission::Counted(window.first.ask())
            }
            Entry::Vacant(_) if open >= 2 * WINDOWS_MAX => Admission::Write,
            Entry::Vacant(place) => Admission::First(place.insert(Window::new(now)).first.clone()),
        }
    }

    /// Closes the windows that are over at `now`, or every one, and gives what was counted: each the last refusal of its
    /// window, standing for the others.
    pub(crate) fn close(&mut self, now: Timestamp, all: bool) -> Vec<(Tenant, Refusal)> {
        let mut out = Vec::new();
        self.windows.retain(|kind, window| {
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
        let window = self.windows.entry(Kind::of(tenant, refusal)).or_insert_with(|| Window {
            since: now,
            written: WRITTEN_MAX,
            counted: 0,
            last: None,
            first: First::new(Told::Is(Err(error))),
        });
        window.counted += counted;
        window.last.get_or_insert_with(|| Refusal { repeated: 0, ..refusal.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{clock, refused, what};
    use bartizan_base::{Clock as _, Name};
    use bartizan_model::record::What;

    fn refusal(resource: usize) -> Refusal {
        let refused = refused(0);
        let name: Name = format!("model-{resource}").parse().unwrap();
        let what = What { resource: EntityRef::new(Name::literal("Model"), name), ..what() };
        Refusal {
            id: refused.id,
            who: refused.who,
            what: Some(what),
            verdict: refused.verdict,
            reasons: refused.reasons,
            offers: Vec::new(),
            grounds: None,
            repeated: 0,
        }
    }

    #[test]
    fn a_flood_of_different_refusals_keeps_memory_bounded_and_the_count_exact() {
        let (mut floods, now, house) = (Floods::default(), clock().now(), Tenant::default_tenant());
        let total = 3 * WINDOWS_MAX;
        let mut written = 0;
        for n in 0..total {
            written += usize::from(!matches!(floods.admit(&house, &refusal(n), now), Admission::Counted(_)));
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
            floods.admit(&house, &refusal(1), now);
        }
        let counted = floods.close(now, true);
        assert_eq!(counted[0].1.repeated + 1, 30);
        floods.reopen(&house, &counted[0].1, now, RecordError::NoRoom);
        assert!(matches!(floods.admit(&house, &refusal(1), now), Admission::Counted(_)));
        assert_eq!(floods.close(now, true)[0].1.repeated + 1, 31);
    }

    #[test]
    fn a_window_that_told_nothing_ends_by_itself() {
        let (mut floods, house) = (Floods::default(), Tenant::default_tenant());
        for second in 0..3 {
            let now = clock().now().saturating_add(Duration::from_secs(second));
            for _ in 0..20 {
                assert!(!matches!(floods.admit(&house, &refusal(1), now), Admission::Counted(_)), "{second}");
            }
        }
    }
}
