//! Supposed asks: what would be decided for somebody, told without being them.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::{Digest, Name, Text, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::{
    Action, Activity, AskFacts, Assurance, AssuranceLevel, Binding, BoundBy, Device, EntityRef, Label,
    Member, Principal, PrincipalId, PrincipalKind, Risk, RiskLevel, Situation, Tenant,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::Standing;
use crate::engine::{Door, Question, Snapshot};
use crate::explain::Explanation;
use crate::story::Reader;

/// An ask as somebody would make it, under supposed conditions. What is not said is as it is for somebody who logged in
/// just now with the least assurance, at low risk and from nowhere in particular.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supposed {
    /// Who: `user/NAME`, `agent/NAME` or `workload/NAME`.
    #[schemars(with = "String")]
    pub principal: Named,
    /// Through whom, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub through: Vec<Named>,
    /// What.
    pub action: Action,
    /// On what; for actions on the house, its policy, ledger or configuration it is those, whatever stands here.
    pub resource: Name,
    /// The subject's assurance level, 0 to 4.
    #[serde(default)]
    #[schemars(with = "u8", range(max = 4))]
    pub assurance: Level,
    /// How long ago that was proven, in seconds.
    #[serde(default)]
    pub assurance_age_s: u32,
    /// How risky everybody of the chain looks.
    #[serde(default = "low")]
    pub risk: RiskLevel,
    /// The purpose stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Text<500>>,
    /// The address the connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub network: Option<IpAddr>,
    /// What everybody of the chain is bound by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<BoundBy>,
    /// The device that the subject's binding belongs to, looked at just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<SupposedDevice>,
    /// What has entered the session; nothing yet if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub session: Option<Label>,
    /// When, as RFC 3339; now if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at: Option<Moment>,
    /// What was done lately, as policies see it under `context.activity`; absent if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// How: what policies see under `context.request`.
    #[serde(default)]
    pub request: AskFacts,
}

/// A device, as it is supposed to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupposedDevice {
    /// Its name.
    #[schemars(with = "String")]
    pub name: Name,
    /// Whether the organisation manages it.
    #[serde(default)]
    pub managed: bool,
    /// Whether it keeps the organisation's rules.
    #[serde(default)]
    pub compliant: bool,
    /// Whether its key was attested.
    #[serde(default)]
    pub attested: bool,
}

/// Somebody, as people write it: `user/alice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Named {
    /// Person, agent or workload.
    pub kind: PrincipalKind,
    /// The name in policies and lists.
    pub name: Name,
}

/// A number from 0 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(pub AssuranceLevel);

/// A moment written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

const fn low() -> RiskLevel {
    RiskLevel::Low
}

impl Default for Level {
    fn default() -> Self {
        Self(AssuranceLevel::Aal1)
    }
}

impl TryFrom<u8> for Level {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        AssuranceLevel::from_number(number).map(Self).ok_or("an assurance level is a number from 0 to 4")
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.0.into()
    }
}

impl TryFrom<String> for Named {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a principal is written `user/NAME`, `agent/NAME` or `workload/NAME`";
        let (kind, name) = text.split_once('/').ok_or(WRONG)?;
        let kind = match kind {
            "user" => PrincipalKind::User,
            "agent" => PrincipalKind::Agent,
            "workload" => PrincipalKind::Workload,
            _ => return Err(WRONG),
        };
        Ok(Self { kind, name: name.parse().map_err(|_| WRONG)? })
    }
}

impl From<Named> for String {
    fn from(named: Named) -> Self {
        format!("{}/{}", named.kind.entity_type().to_lowercase(), named.name)
    }
}

impl TryFrom<String> for Moment {
    type Error = bartizan_base::TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Timestamp::parse_rfc3339(&text).map(Self)
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.0.to_string()
    }
}

impl Supposed {
    /// A first ask, to be filled in further.
    #[must_use]
    pub fn new(principal: Named, action: Action, resource: Name) -> Self {
        Self {
            principal,
            through: Vec::new(),
            action,
            resource,
            assurance: Level::default(),
            assurance_age_s: 0,
            risk: low(),
            purpose: None,
            network: None,
            binding: None,
            device: None,
            session: None,
            at: None,
            activity: None,
            request: AskFacts::default(),
        }
    }

    /// The supposed caller: may be asked about, never act.
    #[must_use]
    pub fn caller(&self, tenant: Tenant, now: Timestamp) -> Caller {
        let since = Timestamp::from_micros(
            now.as_micros().saturating_sub(u64::from(self.assurance_age_s).saturating_mul(1_000_000)),
        );
        let member = |named: &Named, level: AssuranceLevel| Member {
            // Nothing is decided by the pseudonym, and a supposed caller is never recorded.
            principal: Principal {
                kind: named.kind,
                name: named.name.clone(),
                id: PrincipalId::from_parts(now, [0; 10]),
            },
            assurance: Assurance { level, methods: Vec::new(), at: since, via: None },
            binding: match self.binding {
                None => Binding::None,
                Some(BoundBy::Dpop) => Binding::Dpop(Digest::of(b"supposed")),
                Some(BoundBy::Mtls) => Binding::Mtls(Digest::of(b"supposed")),
            },
            device: None,
            risk: Risk { level: self.risk, score: 0, at: now, reasons: Vec::new() },
        };
        let actors = self.through.iter().map(|named| member(named, AssuranceLevel::Aal1)).collect();
        let device = self.device.as_ref().map(|device| Device {
            name: device.name.clone(),
            key_matches_binding: true,
            attested: device.attested,
            managed: device.managed,
            compliant: device.compliant,
            seen: now,
        });
        let subject = Member { device, ..member(&self.principal, self.assurance.0) };
        Caller::suppose(tenant, subject, actors)
    }
}

impl Snapshot {
    /// What would be decided of a supposed ask, and why.
    #[must_use]
    pub fn explain_supposed(
        &self,
        supposed: &Supposed,
        tenant: &Tenant,
        now: Timestamp,
        door: &Door,
        reader: Reader,
    ) -> Explanation {
        self.explain_supposed_standing(supposed, tenant, now, door, (&Standing::default(), reader))
    }

    /// The same with approvals that are supposed to have been given: for tests of bundles, which no request reaches.
    pub(crate) fn explain_supposed_standing(
        &self,
        supposed: &Supposed,
        tenant: &Tenant,
        now: Timestamp,
        door: &Door,
        (standing, reader): (&Standing, Reader),
    ) -> Explanation {
        let now = supposed.at.map_or(now, |at| at.0);
        let of_the_house = EntityRef::of_the_house(supposed.action);
        let resource = of_the_house.unwrap_or_else(|| {
            EntityRef::new(Name::literal(supposed.action.resource_type()), supposed.resource.clone())
        });
        let situation = Situation {
            network: supposed.network,
            purpose: supposed.purpose.clone(),
            session: supposed.session.clone().unwrap_or_else(Label::bottom),
            activity: supposed.activity.map(Arc::new),
            ..Situation::at(now)
        };
        let question = Question {
            caller: &supposed.caller(tenant.clone(), now),
            action: supposed.action,
            resource: &resource,
            facts: &supposed.request,
            situation: &situation,
        };
        self.explain_standing(&question, door, standing, reader)
    }
}
