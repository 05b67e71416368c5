//! Sessions of the data plane: whose asks belong together, and what has entered there (DESIGN 6).
//!
//! A session is derived from who asks, through whom and with which credential, never from an id that a client sends. The name
//! of a run that a client gives splits what is counted, and nothing of what has entered: whoever holds what one run was given
//! could say it in another. So a fresh run launders nothing, and neither does a new token, login or connection.

use bartizan_base::{Digest, Timestamp};
use bartizan_identify::Caller;
use bartizan_limits::{Track, Tracks};
use bartizan_model::record::{End, Kept};
use bartizan_model::{
    Confidentiality, Integrity, Label, Operation, PrincipalKind, Problem, ReasonCode, RunName, Situation,
    Target,
};
use bartizan_record::{Ended, IntentRecorded, Running};
use bartizan_store::Marked;

use bartizan_decide::Permit;

use crate::handles::Handed;
use crate::path::{Gate, Stop};

/// A session, as it was when somebody entered.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    id: Digest,
    marked: Marked,
    /// What is counted together.
    track: [u8; 16],
    /// The join of what has entered it.
    label: Label,
    opened: Option<Timestamp>,
    /// The run that whoever entered names.
    run: Option<RunName>,
    /// What is handed on without having entered it.
    handed: Option<Handed>,
}

impl Session {
    /// The label of what a model answers in it: untrusted, whatever it was asked, and as confidential as what it may have been
    /// told.
    pub(crate) fn answered(&self) -> Label {
        self.label.join(&untrusted())
    }

    /// What it is known by.
    pub(crate) fn id(&self) -> &str {
        &self.marked.id
    }

    /// What has entered it.
    pub(crate) const fn label(&self) -> &Label {
        &self.label
    }

    /// The same for an ask that hands this on.
    pub(crate) fn handing(&self, handed: Handed) -> Self {
        Self { handed: Some(handed), ..self.clone() }
    }

    /// What an ask in it hands on.
    pub(crate) const fn handed(&self) -> Option<&Handed> {
        self.handed.as_ref()
    }

    /// The label of what an effect gives that has `gives` by itself: what was handed on can come back in it.
    pub(crate) fn carries(&self, gives: &Label) -> Label {
        self.handed.as_ref().map_or_else(|| gives.clone(), |handed| gives.join(&handed.label))
    }

    /// Whose it is, and under which credential.
    pub(crate) const fn identity(&self) -> Digest {
        self.id
    }

    /// The run that whoever entered names.
    pub(crate) const fn run(&self) -> Option<&RunName> {
        self.run.as_ref()
    }

    /// Whom an ask in it counts for.
    pub(crate) fn tracks(&self, caller: &Caller) -> Tracks {
        Tracks { session: Some(Track::Session(self.track)), ..Tracks::of(&caller.who()) }
    }

    /// The conditions of an ask in it.
    pub(crate) fn situation(&self, situation: Situation) -> Situation {
        let session = situation.activity.as_ref().and_then(|activity| activity.session.as_ref());
        let asks = session.map(|windows| windows.day.requests);
        let age = self.opened.map(|opened| situation.now.saturating_since(opened).as_secs());
        Situation { session: self.label.clone(), session_age_s: age, session_depth: asks, ..situation }
    }
}

/// What nobody answers for, and anybody may read.
pub(crate) fn untrusted() -> Label {
    Label { confidentiality: Confidentiality::Public, integrity: Integrity::Untrusted, ..Label::bottom() }
}

/// What a session of somebody begins with. What a model or a person wrote is of unknown origin; only a chain of programs
/// without a will of their own begins trusted.
fn origin(caller: &Caller) -> Label {
    let programs = caller.members().all(|member| member.principal.kind == PrincipalKind::Workload);
    if programs { Label::bottom() } else { untrusted() }
}

/// What a session is known by: the house, the chain, and the credential as far as somebody cannot renew it themselves.
fn identity(caller: &Caller) -> Digest {
    let mut parts: Vec<Vec<u8>> = vec![b"session".to_vec(), caller.tenant().0.as_bytes().to_vec()];
    for member in caller.members() {
        parts.push(member.principal.kind.entity_type().as_bytes().to_vec());
        parts.push(member.principal.id.as_bytes().to_vec());
    }
    let who = caller.who();
    parts.push(format!("{:?}", who.credential).into_bytes());
    parts.push(who.key.map(|key| key.as_bytes().to_vec()).unwrap_or_default());
    parts.push(who.issuer.map(|issuer| issuer.as_bytes().to_vec()).unwrap_or_default());
    parts.push(caller.client().map(|client| client.as_bytes().to_vec()).unwrap_or_default());
    Digest::of_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

impl Gate {
    /// The session of somebody who enters, with what has entered it up to now on any node.
    pub(crate) async fn session(&self, caller: &Caller, run: Option<&RunName>) -> Result<Session, Stop> {
        let id = identity(caller);
        let marked = Marked { id: id.to_string(), of: caller.subject().principal.id, origin: origin(caller) };
        let mut track = [0; 16];
        let named = run.map_or(&b""[..], |run| run.as_bytes());
        let counted = Digest::of_parts(&[id.as_bytes(), named]);
        track.iter_mut().zip(counted.as_bytes()).for_each(|(to, from)| *to = *from);
        let mark = self.parts.marks.mark(caller.tenant(), &marked.id, self.parts.clock.now()).await;
        let mark = mark.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what has entered a session cannot be known"
            );
            Problem::new(ReasonCode::LabelUnavailable)
        });
        let mark = self.or_refuse(caller, None, mark).await?;
        let (label, opened) = match mark {
            Some(mark) => (mark.label, Some(mark.opened)),
            None => (marked.origin.clone(), None),
        };
        Ok(Session { id, marked, track, label, opened, run: run.cloned(), handed: None })
    }

    /// Joins what an effect has brought into the session, durably, before it is released: where that was not known when the intent was
    /// recorded.
    pub(crate) async fn entered(
        &self,
        running: &Running,
        session: &Session,
        gives: &Label,
    ) -> Result<(), ReasonCode> {
        let gives = &session.carries(gives);
        let joined = self.parts.marks.join(running, &session.marked, gives, self.parts.clock.now()).await;
        joined.map(drop).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what enters a session could not be written down; nothing was released"
            );
            ReasonCode::LabelUnavailable
        })
    }

    /// Records an intent, and joins what its effect gives into the session, durably, before anything of that can be released.
    /// Where that cannot be written down nothing is sent.
    pub(crate) async fn intend_labelled<O: Operation>(
        &self,
        permit: Permit<O>,
        target: Target,
        kept: Option<Kept>,
        session: &Session,
        gives: &Label,
    ) -> Result<IntentRecorded<O>, Stop> {
        let id = permit.id();
        let intent = self.intend(permit, target, kept).await?;
        match self
            .parts
            .marks
            .join(&intent, &session.marked, &session.carries(gives), self.parts.clock.now())
            .await
        {
            Ok(_) => Ok(intent),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what enters a session could not be written down; nothing was sent"
                );
                let receipt = intent.receipt().clone();
                let reason = ReasonCode::LabelUnavailable;
                intent.begin().finish(Ended::new(End::Failed { reason: reason.clone() }));
                Err(Stop { problem: Problem::new(reason).of(id), receipt: Some(receipt) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::Name;
    use bartizan_model::{Assurance, Binding, Member, Principal, PrincipalId, Risk, Tenant};

    use super::*;

    fn member(kind: PrincipalKind, n: u8) -> Member {
        let id = PrincipalId::from_parts(Timestamp::from_secs(1), [n; 10]);
        let principal = Principal { kind, name: Name::literal("x"), id };
        let (assurance, risk) = (Assurance::default(), Risk::default());
        Member { principal, assurance, binding: Binding::None, device: None, risk }
    }

    fn caller(tenant: &'static str, chain: &[(PrincipalKind, u8)]) -> Caller {
        let mut members = chain.iter().map(|(kind, n)| member(*kind, *n));
        let subject = members.next().unwrap();
        Caller::suppose(Tenant(Name::literal(tenant)), subject, members.collect())
    }

    use PrincipalKind::{Agent, User, Workload};

    #[test]
    fn sessions_differ_by_house_person_and_agent_and_by_nothing_that_a_client_says() {
        let all = [
            caller("a", &[(User, 1)]),
            caller("b", &[(User, 1)]),
            caller("a", &[(User, 2)]),
            caller("a", &[(User, 1), (Agent, 3)]),
            caller("a", &[(User, 1), (Agent, 4)]),
            caller("a", &[(User, 1), (Agent, 3), (Agent, 4)]),
            caller("a", &[(Agent, 3)]),
        ];
        let ids: std::collections::BTreeSet<_> = all.iter().map(identity).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(identity(&all[0]), identity(&caller("a", &[(User, 1)])));
    }

    #[test]
    fn only_programs_without_a_will_begin_trusted() {
        for (chain, integrity) in [
            (vec![(User, 1)], Integrity::Untrusted),
            (vec![(Agent, 1)], Integrity::Untrusted),
            (vec![(Workload, 1)], Integrity::Trusted),
            (vec![(Workload, 1), (Workload, 2)], Integrity::Trusted),
            (vec![(Workload, 1), (Agent, 2)], Integrity::Untrusted),
            (vec![(User, 1), (Workload, 2)], Integrity::Untrusted),
        ] {
            assert_eq!(origin(&caller("a", &chain)).integrity, integrity, "{chain:?}");
        }
        assert_eq!(origin(&Caller::anonymous(Tenant::default_tenant())).integrity, Integrity::Untrusted);
    }
}
