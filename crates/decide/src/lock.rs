//! Whether a lock is on an ask. Beside policy, since a lock is no rule: it is set in a hurry, and ends by itself.

use bartizan_base::Timestamp;
use bartizan_identify::Caller;
use bartizan_model::{EntityRef, Label, Lock, Locked, RunName};

use crate::entities::Entities;

/// What of an ask locks can be on.
#[derive(Clone, Copy, Debug)]
pub struct Lockable<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// On what.
    pub resource: &'a EntityRef,
    /// What it is sent to or belongs to beside that: the upstream, once that is known.
    pub beside: &'a [EntityRef],
    /// The run that it names.
    pub run: Option<&'a RunName>,
    /// What entered the session.
    pub session: &'a Label,
}

impl Lockable<'_> {
    /// Whether `lock` is on it at `now`.
    #[must_use]
    pub fn is_under(&self, lock: &Lock, entities: &Entities, now: Timestamp) -> bool {
        now < lock.until_us
            && match &lock.on {
                Locked::Tenant => true,
                Locked::Entity(locked) => self.things().any(|thing| entities.is_under(&thing, locked)),
                Locked::Session(id) => self.caller.session() == Some(*id),
                Locked::Run(name) => self.run == Some(name),
                label @ (Locked::Category(_) | Locked::Confidentiality(_)) => {
                    label.covers_label(self.session)
                }
            }
    }

    fn things(&self) -> impl Iterator<Item = EntityRef> {
        let members = self.caller.members().map(|member| member.principal.entity());
        members.chain([self.resource.clone()]).chain(self.beside.iter().cloned())
    }
}
