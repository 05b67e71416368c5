//! What comes of an event: marks moved, standings kept, devices noted. Only ever less than before, but for a risk that is lower.

use std::collections::BTreeSet;

use bartizan_base::{Name, Timestamp};
use bartizan_model::directory::IssuerSpec;
use bartizan_model::{Document, Principal, Problem, ReasonCode, Risk, RiskLevel, SessionId, Spec, Tenant};
use bartizan_store::{Change, EpochKind, Row, RowKind, State};

use super::event::Happened;
use super::subject::About;
use crate::marks;

/// Against what an event is held.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) state: &'a State,
    pub(super) tenant: &'a Tenant,
    pub(super) spec: &'a IssuerSpec,
    /// Our own name as an issuer.
    pub(super) own: &'a str,
    /// The session that it names, if there is one of ours of that id.
    pub(super) session: Option<SessionId>,
    pub(super) now: Timestamp,
}

impl Ground<'_> {
    /// The changes that events about somebody or something bring; none where we know nobody of the sort. Of several about the
    /// same, the strictest counts.
    pub(super) fn changes(&self, about: &About, happened: &[Happened]) -> Result<Vec<Change>, Problem> {
        let Self { state, tenant, spec, own, now, .. } = *self;
        let principal = about.principal(state, tenant, spec, own);
        let device = about.device(state, tenant);
        let mut marks = BTreeSet::new();
        let (mut risk, mut compliance, mut lifted) = (None, None, None);
        for happened in happened {
            match happened {
                Happened::Nothing => {}
                Happened::Ended => marks.extend(self.concerned(principal.as_ref(), device)),
                Happened::Barred(reason) => {
                    marks.extend(self.concerned(principal.as_ref(), None));
                    risk = stricter(risk, (RiskLevel::High, *reason));
                }
                Happened::Lifted(reason) => lifted = Some(*reason),
                Happened::Risk(level) => risk = stricter(risk, (*level, "told_by_issuer")),
                Happened::Compliance(keeps) => {
                    compliance = Some(compliance.unwrap_or(true) && *keeps);
                    if let Some((device, _)) = device.filter(|_| !keeps) {
                        marks.insert((EpochKind::Device, device.name.to_string()));
                    }
                }
            }
        }
        let mut changes: Vec<Change> = Vec::new();
        for (kind, name) in marks {
            changes.push(marks::advance(state, tenant, (kind, &name), now)?);
        }
        let present = principal.as_ref().and_then(|principal| self.present(principal));
        let risk = risk.or_else(|| lifted_by(lifted?, present?));
        if let Some((principal, (level, reason))) = principal.zip(risk) {
            changes.extend(self.standing(&principal, present, level, reason)?);
        }
        if let Some(((document, changed), keeps)) = device.zip(compliance) {
            changes.extend(looked_at(document, changed, keeps, now));
        }
        Ok(changes)
    }

    /// What is ended of whom an event is about: the narrowest that surely covers it. Of a session that only they know, it is
    /// everything of the person.
    fn concerned(
        &self,
        principal: Option<&Principal>,
        device: Option<(&Document, u64)>,
    ) -> Option<(EpochKind, String)> {
        let session = self.session.map(|session| (EpochKind::Session, session.to_string()));
        let person = principal.map(|principal| (EpochKind::Principal, marks::name_of(principal)));
        let device = device.map(|(device, _)| (EpochKind::Device, device.name.to_string()));
        person.or(session).or(device)
    }

    /// How risky somebody was found last.
    fn present(&self, principal: &Principal) -> Option<&Row> {
        let id = principal.id.to_string();
        let mut rows =
            self.state.rows.iter().filter(|r| r.kind == RowKind::Standing && r.tenant == *self.tenant);
        rows.find(|row| row.id == id)
    }

    /// How risky somebody is found, as the doors read it. Low is as good as nothing said.
    fn standing(
        &self,
        principal: &Principal,
        present: Option<&Row>,
        level: RiskLevel,
        reason: &str,
    ) -> Result<Option<Change>, Problem> {
        let id = principal.id.to_string();
        let present = present.map(|row| row.version);
        if level == RiskLevel::Low {
            return Ok(present.map(|expect| Change::DeleteRow { kind: RowKind::Standing, id, expect }));
        }
        let score = if level == RiskLevel::High { 90 } else { 50 };
        let reasons = reason.parse::<Name>().into_iter().collect();
        let body = serde_json::to_string(&Risk { level, score, at: self.now, reasons })
            .map_err(|_| Problem::new(ReasonCode::Internal))?;
        let row = Row {
            tenant: self.tenant.clone(),
            kind: RowKind::Standing,
            id,
            owner: String::new(),
            expires: None,
            version: 0,
            body,
        };
        Ok(Some(Change::PutRow { row, expect: present }))
    }
}

/// A bar that is lifted, if that is the only reason there was.
fn lifted_by(reason: &'static str, present: &Row) -> Option<(RiskLevel, &'static str)> {
    let standing: Risk = serde_json::from_str(&present.body).ok()?;
    standing.reasons.iter().all(|known| known.as_str() == reason).then_some((RiskLevel::Low, reason))
}

/// That a device was looked at, and what was found.
fn looked_at(document: &Document, changed: u64, keeps: bool, now: Timestamp) -> Option<Change> {
    let Spec::Device(spec) = &document.spec else { return None };
    let mut spec = spec.clone();
    spec.compliant = keeps;
    spec.seen_us = Some(now);
    let document = Document { spec: Spec::Device(spec), ..document.clone() };
    Some(Change::PutDocument { document, expect: Some(changed) })
}

fn stricter(
    known: Option<(RiskLevel, &'static str)>,
    new: (RiskLevel, &'static str),
) -> Option<(RiskLevel, &'static str)> {
    let rank = |level: RiskLevel| match level {
        RiskLevel::Low => 0,
        RiskLevel::Unknown | RiskLevel::Medium => 1,
        RiskLevel::High => 2,
    };
    Some(known.filter(|known| rank(known.0) >= rank(new.0)).unwrap_or(new))
}

#[cfg(test)]
#[path = "effect_tests.rs"]
mod tests;
