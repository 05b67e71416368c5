//! What policies see of the conditions of an ask. What each fact means stands in [`crate::facts`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::{
    Activity, AskFacts, Counts, Covering, Device, Member, PrincipalKind, Risk, RiskLevel, Situation, Windows,
};
use cedar_policy::Context;
use chrono::{Datelike as _, Timelike as _};
use serde::Serialize;

use crate::called::Called;
use crate::facts::{DEVICE_AGE_MAX_S, RISK_AGE_MAX_S};
use crate::inner::{self, Fact};
use crate::needs::Needs;
use crate::zone::{Zone, moment};

mod written;

/// How far the clocks of those who tell us something may be ahead of ours.
const SKEW: Duration = Duration::from_secs(60);
/// The age of what lies in the future: not believed, so older than any rule allows. The greatest number that every reader
/// of JSON keeps exactly.
const AGE_UNKNOWN_S: u64 = (1 << 53) - 1;

/// The conditions of one member's evaluation, hashed into the record. The fields stand in the order of their names, which
/// makes their JSON canonical (RFC 8785) as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions<'a> {
    pub(crate) activity: Option<&'a Activity>,
    pub(crate) approvals: &'a BTreeSet<String>,
    /// Of a tool's own action; they stand in `request` as they were sent, and what they are read by in `tool`.
    #[serde(skip)]
    pub(crate) arguments: Option<&'a Fact>,
    pub(crate) assurance: AssuranceFact<'a>,
    pub(crate) binding: &'a str,
    pub(crate) delegation: Delegation,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<DetailsFact>,
    pub(crate) device: Option<DeviceFact<'a>>,
    pub(crate) network: Option<IpAddr>,
    pub(crate) now_s: u64,
    pub(crate) obligations: &'a BTreeSet<String>,
    pub(crate) purpose: Option<&'a str>,
    pub(crate) request: &'a AskFacts,
    pub(crate) risk: Option<RiskFact>,
    pub(crate) role_in_chain: &'a str,
    pub(crate) session: SessionFact<'a>,
    #[serde(skip)]
    pub(crate) sizes: Option<&'a Fact>,
    /// What was known but too old, and is therefore absent.
    pub(crate) stale: Vec<&'static str>,
    /// The digest of the definition of the tool that is called, where it is asked for by its own action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<Digest>,
    pub(crate) zone: ZoneFact,
}

/// What an evaluation happens under.
pub(crate) trait Circumstances {
    /// One attribute of the context, or one member of such an attribute, as it stands in [`Self::context`]; none within where
    /// it is absent. None when it cannot be made, and where there are no members to speak of.
    fn fact(&self, name: &str, member: Option<&str>, needs: Needs) -> Option<Option<Fact>>;

    /// The context with the attributes that are needed; none when it cannot be made.
    fn context(&self, needs: Needs) -> Option<Context>;

    /// The digest of all of it.
    fn digest(&self) -> Option<Digest>;

    /// What was known but too old, and is therefore absent.
    fn stale(&self) -> &[&'static str];
}

/// How surely, how long ago, how.
#[derive(Debug, Serialize)]
pub(crate) struct AssuranceFact<'a> {
    pub(crate) age_s: u64,
    pub(crate) level: u8,
    methods: &'a [Name],
}

/// Who acts for whom.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Delegation {
    autonomous: bool,
    chain_length: usize,
    subject_kind: &'static str,
}

/// How what the credential is for in particular covers the ask.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DetailsFact {
    exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses_max: Option<u64>,
}

/// The device behind the binding of this request.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceFact<'a> {
    age_s: u64,
    attested: bool,
    compliant: bool,
    id: &'a str,
    managed: bool,
}

/// How risky.
#[derive(Debug, Serialize)]
pub(crate) struct RiskFact {
    age_s: u64,
    level: &'static str,
    score: u8,
}

/// The session.
#[derive(Debug, Serialize)]
pub(crate) struct SessionFact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    categories: &'a BTreeSet<Name>,
    confidentiality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u64>,
    integrity: &'static str,
}

/// The zone of the bundle, and how far it was ahead of UTC.
#[derive(Debug, Serialize)]
pub(crate) struct ZoneFact {
    name: &'static str,
    offset_s: Option<i32>,
}

/// What the conditions of one member are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) member: &'a Member,
    /// The member's place in the chain; 0 is the subject.
    pub(crate) place: usize,
    pub(crate) situation: &'a Situation,
    pub(crate) facts: &'a AskFacts,
    /// What is called, where it has an action of its own.
    pub(crate) called: Option<&'a Called>,
    pub(crate) covering: Option<Covering>,
    pub(crate) zone: Zone,
}

/// How long ago something was; nothing where it lies further in the future than clocks differ.
pub(crate) fn age_s(now: Timestamp, at: Timestamp) -> Option<u64> {
    (at <= now.saturating_add(SKEW)).then(|| now.saturating_since(at).as_secs())
}

impl Delegation {
    fn of(caller: &Caller) -> Self {
        let is = |kind| caller.members().any(|m| m.principal.kind == kind);
        let subject = caller.members().next().map_or(PrincipalKind::Anonymous, |m| m.principal.kind);
        Self {
            autonomous: is(PrincipalKind::Agent) && !is(PrincipalKind::User),
            chain_length: caller.members().count(),
            subject_kind: match subject {
                PrincipalKind::User => "user",
                PrincipalKind::Agent => "agent",
                PrincipalKind::Workload => "workload",
                PrincipalKind::Anonymous => "anonymous",
            },
        }
    }
}

/// A device counts only by the key that bound this request.
fn device_fact(device: &Device, now: Timestamp) -> Option<Option<DeviceFact<'_>>> {
    if !device.key_matches_binding {
        return Some(None);
    }
    let age_s = age_s(now, device.seen).filter(|age| *age <= DEVICE_AGE_MAX_S)?;
    let Device { attested, compliant, managed, .. } = *device;
    Some(Some(DeviceFact { age_s, attested, compliant, id: &device.name, managed }))
}

fn risk_fact(risk: &Risk, now: Timestamp) -> Option<Option<RiskFact>> {
    if risk.level == RiskLevel::Unknown {
        return Some(None);
    }
    let age_s = age_s(now, risk.at).filter(|age| *age <= RISK_AGE_MAX_S)?;
    Some(Some(RiskFact { age_s, level: risk.level.name(), score: risk.score.min(100) }))
}

impl<'a> Conditions<'a> {
    /// The conditions as they are, with the obligations and approvals that are supposed. What is too old is left absent.
    pub(crate) fn of(
        asking: Asking<'a>,
        obligations: &'a BTreeSet<String>,
        approvals: &'a BTreeSet<String>,
    ) -> Self {
        let Asking { caller, member, place, situation, facts, called, covering, zone } = asking;
        let (now, now_s) = (situation.now, situation.now.as_secs());
        let mut stale = Vec::new();
        let mut fresh = |name, found: bool| {
            if !found {
                stale.push(name);
            }
        };
        let device = member.device.as_ref().map_or(Some(None), |device| device_fact(device, now));
        fresh("device", device.is_some());
        let risk = risk_fact(&member.risk, now);
        fresh("risk", risk.is_some());
        Self {
            activity: situation.activity.as_deref(),
            approvals,
            arguments: called.and_then(|called| called.arguments.as_ref()),
            assurance: AssuranceFact {
                age_s: age_s(now, member.assurance.at).unwrap_or(AGE_UNKNOWN_S),
                level: member.assurance.level.into(),
                methods: &member.assurance.methods,
            },
            binding: member.binding.name(),
            delegation: Delegation::of(caller),
            details: covering.map(|Covering { exact, uses_max, .. }| DetailsFact { exact, uses_max }),
            device: device.flatten(),
            network: situation.network.map(|address| address.to_canonical()),
            now_s,
            obligations,
            purpose: situation.purpose.as_deref(),
            request: facts,
            risk: risk.flatten(),
            role_in_chain: if place == 0 { "subject" } else { "actor" },
            session: SessionFact {
                age_s: situation.session_age_s,
                categories: &situation.session.categories,
                confidentiality: situation.session.confidentiality.name(),
                depth: situation.session_depth,
                integrity: situation.session.integrity.name(),
            },
            sizes: called.and_then(|called| called.sizes.as_ref()),
            stale,
            tool: called.map(|called| called.definition),
            zone: ZoneFact { name: zone.name(), offset_s: zone.offset_s(now_s) },
        }
    }
}

impl Circumstances for Conditions<'_> {
    fn fact(&self, name: &str, member: Option<&str>, needs: Needs) -> Option<Option<Fact>> {
        let Some(member) = member else { return self.attribute(name, needs) };
        if let Some(alone) = self.member(name, member) {
            return Some(Some(alone));
        }
        self.attribute(name, needs)?.map_or(Some(None), |whole| whole.member(member))
    }

    /// The digest of the canonical JSON.
    fn digest(&self) -> Option<Digest> {
        let mut text = Vec::with_capacity(1_024);
        self.write(&mut text)?;
        Some(Digest::of(&text))
    }

    fn stale(&self) -> &[&'static str] {
        &self.stale
    }

    fn context(&self, needs: Needs) -> Option<Context> {
        let mut pairs = Vec::with_capacity(ATTRIBUTES.len());
        for name in ATTRIBUTES.into_iter().filter(|name| needs.has(name)) {
            pairs.extend(self.attribute(name, needs)?.map(|value| (name, value)));
        }
        Some(inner::context(pairs))
    }
}

/// The attributes that a context can have.
const ATTRIBUTES: [&str; 17] = [
    "activity",
    "approvals",
    "arguments",
    "assurance",
    "binding",
    "delegation",
    "details",
    "device",
    "network",
    "obligations",
    "purpose",
    "request",
    "risk",
    "role_in_chain",
    "session",
    "sizes",
    "time",
];

impl Conditions<'_> {
    /// An attribute; none within where it is absent, none where it cannot be made.
    fn attribute(&self, name: &str, needs: Needs) -> Option<Option<Fact>> {
        Some(match name {
            "activity" => self.activity.map(|activity| activity_record(activity, needs)),
            "approvals" => Some(Fact::texts(self.approvals)),
            "arguments" => self.arguments.cloned(),
            "assurance" => Some(self.assurance.record()?),
            "binding" => Some(Fact::text(self.binding)),
            "delegation" => Some(self.delegation.record()?),
            "details" => self.details.map(DetailsFact::record),
            "device" => self.device.as_ref().map_or(Some(None), |device| device.record().map(Some))?,
            "network" => self.network.map_or(Some(None), |address| network(address).map(Some))?,
            "obligations" => Some(Fact::texts(self.obligations)),
            "purpose" => self.purpose.map(Fact::text),
            "request" => Some(request(self.request)),
            "risk" => self.risk.as_ref().map_or(Some(None), |risk| risk.record().map(Some))?,
            "role_in_chain" => Some(Fact::text(self.role_in_chain)),
            "session" => Some(self.session.record()),
            "sizes" => self.sizes.cloned(),
            "time" => Some(self.zone.time(self.now_s)?),
            _ => None,
        })
    }

    /// A member of an attribute that can be made without the others; none also where it is absent.
    fn member(&self, name: &str, member: &str) -> Option<Fact> {
        match name {
            "arguments" => self.arguments?.member(member)?,
            "sizes" => self.sizes?.member(member)?,
            "assurance" => self.assurance.member(member),
            "delegation" => self.delegation.member(member),
            "device" => self.device.as_ref()?.member(member),
            "network" => network_member(self.network?, member),
            "risk" => self.risk.as_ref()?.member(member),
            "time" => self.zone.member(self.now_s, member),
            _ => None,
        }
    }
}

impl AssuranceFact<'_> {
    fn member(&self, name: &str) -> Option<Fact> {
        Some(match name {
            "level" => Fact::long(self.level.into()),
            "age_s" => Fact::long(self.age_s),
            "methods" => Fact::texts(self.methods),
            _ => return None,
        })
    }

    fn record(&self) -> Option<Fact> {
        Fact::made(&["level", "age_s", "methods"], |name| self.member(name))
    }
}

impl Delegation {
    fn member(self, name: &str) -> Option<Fact> {
        Some(match name {
            "autonomous" => Fact::flag(self.autonomous),
            "chain_length" => Fact::long(u64::try_from(self.chain_length).unwrap_or(u64::MAX)),
            "subject_kind" => Fact::text(self.subject_kind),
            _ => return None,
        })
    }

    fn record(self) -> Option<Fact> {
        Fact::made(&["autonomous", "chain_length", "subject_kind"], |name| self.member(name))
    }
}

impl DeviceFact<'_> {
    fn member(&self, name: &str) -> Option<Fact> {
        Some(match name {
            "id" => Fact::text(self.id),
            "managed" => Fact::flag(self.managed),
            "compliant" => Fact::flag(self.compliant),
            "attested" => Fact::flag(self.attested),
            "age_s" => Fact::long(self.age_s),
            _ => return None,
        })
    }

    fn record(&self) -> Option<Fact> {
        Fact::made(&["id", "managed", "compliant", "attested", "age_s"], |name| self.member(name))
    }
}

impl RiskFact {
    fn member(&self, name: &str) -> Option<Fact> {
        Some(match name {
            "level" => Fact::text(self.level),
            "score" => Fact::long(self.score.into()),
            "age_s" => Fact::long(self.age_s),
            _ => return None,
        })
    }

    fn record(&self) -> Option<Fact> {
        Fact::made(&["level", "score", "age_s"], |name| self.member(name))
    }
}

impl ZoneFact {
    fn member(&self, now_s: u64, name: &str) -> Option<Fact> {
        let local = || moment(now_s, self.offset_s?);
        Some(match name {
            "hour" => Fact::long(local()?.hour().into()),
            "minute" => Fact::long(local()?.minute().into()),
            "weekday" => Fact::long(local()?.weekday().number_from_monday().into()),
            "date" => Fact::text(&local()?.format("%Y-%m-%d").to_string()),
            "at" => Fact::moment(&moment(now_s, 0)?.format("%Y-%m-%dT%H:%M:%SZ").to_string())?,
            "epoch_s" => Fact::long(now_s),
            "zone" => Fact::text(self.name),
            _ => return None,
        })
    }

    fn time(&self, now_s: u64) -> Option<Fact> {
        let names = ["hour", "minute", "weekday", "date", "at", "epoch_s", "zone"];
        Fact::made(&names, |name| self.member(now_s, name))
    }
}

fn activity_record(activity: &Activity, needs: Needs) -> Fact {
    let members = [
        ("agent", "activity.agent", &activity.agent),
        ("caller", "activity.caller", &activity.caller),
        ("key", "activity.key", &activity.key),
        ("session", "activity.session", &activity.session),
    ];
    let needed = members.into_iter().filter(|(_, path, _)| needs.has(path));
    let present = needed.filter_map(|(name, _, windows)| Some((name, windows_record(windows.as_ref()?))));
    Fact::members(present.collect())
}

fn windows_record(windows: &Windows) -> Fact {
    let counts = |counts: &Counts| {
        Fact::members(
            Counts::NAMES.into_iter().zip(counts.values()).map(|(n, v)| (n, Fact::long(v))).collect(),
        )
    };
    Fact::record([
        ("day", counts(&windows.day)),
        ("hour", counts(&windows.hour)),
        ("minute", counts(&windows.minute)),
    ])
}

fn network(address: IpAddr) -> Option<Fact> {
    Fact::made(&["address", "kind"], |name| network_member(address, name))
}

fn network_member(address: IpAddr, name: &str) -> Option<Fact> {
    match name {
        "address" => Fact::address(address),
        "kind" => Some(Fact::text(address_kind(address))),
        _ => None,
    }
}

/// What kind of address it is (RFC 1918, 3927, 4193, 4291, 6598).
fn address_kind(address: IpAddr) -> &'static str {
    let unique_local = |ip: Ipv6Addr| ip.octets().first().is_some_and(|first| first & 0xfe == 0xfc);
    match address {
        ip if ip.is_loopback() => "loopback",
        IpAddr::V4(ip) if ip.is_link_local() => "link_local",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "link_local",
        IpAddr::V4(ip) if ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]) => "private",
        IpAddr::V6(ip) if unique_local(ip) => "private",
        _ => "public",
    }
}

fn request(facts: &AskFacts) -> Fact {
    let mut request = vec![
        ("dialect", Fact::text(&facts.dialect)),
        ("extras", Fact::texts(facts.extras.iter().map(|extra| extra.name()))),
        ("stream", Fact::flag(facts.stream)),
        ("bytes", Fact::long(facts.bytes)),
        ("messages", Fact::long(facts.messages)),
        ("tools", Fact::long(facts.tools)),
    ];
    request.extend(facts.code.as_ref().map(|code| {
        let members = vec![
            ("bytes", Fact::long(code.bytes)),
            ("digest", Fact::text(&code.digest.to_string())),
            ("files", Fact::long(code.files)),
            ("files_bytes", Fact::long(code.files_bytes)),
            ("stdin_bytes", Fact::long(code.stdin_bytes)),
        ];
        ("code", Fact::members(members))
    }));
    request.extend(facts.handles.as_ref().map(|handles| {
        let members = vec![
            ("bytes", Fact::long(handles.bytes)),
            ("categories", Fact::texts(handles.categories.iter().map(|name| name.as_str()))),
            ("confidentiality", Fact::text(handles.confidentiality.name())),
            ("count", Fact::long(handles.count)),
            ("integrity", Fact::text(handles.integrity.name())),
            ("sources", Fact::texts(handles.sources.iter().map(String::as_str))),
            ("steered_by", Fact::text(handles.steered_by.name())),
        ];
        ("handles", Fact::members(members))
    }));
    request.extend(facts.operation.as_ref().map(|text| ("operation", Fact::text(text))));
    request.extend(facts.output_tokens_max.map(|n| ("output_tokens_max", Fact::long(n))));
    Fact::members(request)
}

impl DetailsFact {
    fn record(self) -> Fact {
        let mut details = vec![("exact", Fact::flag(self.exact))];
        details.extend(self.uses_max.map(|n| ("uses_max", Fact::long(n))));
        Fact::members(details)
    }
}

impl SessionFact<'_> {
    fn record(&self) -> Fact {
        let mut session = vec![
            ("confidentiality", Fact::text(self.confidentiality)),
            ("integrity", Fact::text(self.integrity)),
            ("categories", Fact::texts(self.categories)),
        ];
        session.extend(self.age_s.map(|n| ("age_s", Fact::long(n))));
        session.extend(self.depth.map(|n| ("depth", Fact::long(n))));
        Fact::members(session)
    }
}

#[cfg(test)]
pub(crate) mod tests;
