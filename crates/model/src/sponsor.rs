//! What whoever answers for an agent or workload demands of it: bounds that hold beside policy, and that no policy widens.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bartizan_base::{Name, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{BoundBy, SubjectPattern, TypeName};

/// The sponsor's conditions. All of them hold at once, for every ask of every chain that the agent is in, and for every token
/// that is issued to such a chain. What is left out bounds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// The environments that it may act in: what it acts on must lie in one of them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<Name>,
    /// The projects that it may act in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<Name>,
    /// What it may act on: this, or what lies in it, such as `Model::gpt-4o-*`, `ToolServer::files`, `Corpus::handbook`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<ResourcePattern>,
    /// When it may act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// How surely a person must have been authenticated for it to act in their name, 0 to 4.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(max = 4))]
    pub assurance_min: u8,
    /// By which of these its credential must be bound to a key; not at all if empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub binding: BTreeSet<BoundBy>,
    /// Whether it may act in the name of others.
    #[serde(skip_serializing_if = "is_true")]
    pub for_others: bool,
    /// Whether it may act in its own name, nobody standing behind the ask.
    #[serde(skip_serializing_if = "is_true")]
    pub alone: bool,
    /// Whether others may act for it, or for whom it acts for, by what it hands on.
    #[serde(skip_serializing_if = "is_true")]
    pub delegates: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            environments: BTreeSet::new(),
            projects: BTreeSet::new(),
            resources: BTreeSet::new(),
            hours: None,
            assurance_min: 0,
            binding: BTreeSet::new(),
            for_others: true,
            alone: true,
            delegates: true,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(level: &u8) -> bool {
    *level == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_true(flag: &bool) -> bool {
    *flag
}

impl Conditions {
    /// Whether they bound nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they say on what it may act.
    #[must_use]
    pub fn confine(&self) -> bool {
        !(self.environments.is_empty() && self.projects.is_empty() && self.resources.is_empty())
    }
}

/// Hours of days of a week, by the clocks of a time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The time zone, by its name in the IANA database: `Europe/Berlin`.
    pub zone: Text<64>,
    /// From when on, `08:00`.
    pub from: TimeOfDay,
    /// Until when, not with it; earlier than `from` means on the next day.
    pub until: TimeOfDay,
    /// The days on which it begins; every day if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<Weekday>,
}

impl Hours {
    /// Whether clocks that show `minute` of the day, on the `weekday`-th day from Monday, are within.
    #[must_use]
    pub fn include(&self, weekday: u8, minute: u16) -> bool {
        let on = |weekday: u8| {
            self.days.is_empty() || Weekday::from_monday(weekday).is_some_and(|day| self.days.contains(&day))
        };
        let (from, until) = (self.from.0, self.until.0);
        if from < until {
            return on(weekday) && (from..until).contains(&minute);
        }
        // It runs into the next day: what began yesterday still runs, what begins today has begun.
        (minute >= from && on(weekday)) || (minute < until && on((weekday % 7 + 6) % 7))
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The `n`-th day from Monday, which is 0.
    fn from_monday(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n)).copied()
    }
}

/// What a clock shows, in minutes since midnight; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

/// Why a text of the conditions cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Not a time of the day.
    #[error("a time of day is written `08:00`, and at most `24:00`")]
    Time,
    /// Not a pattern of resources.
    #[error(
        "resources are written `Model::gpt-4o-*`: a type, `::`, and a name in which `*` stays within a part between `/` and `:`"
    )]
    Resource,
}

impl FromStr for TimeOfDay {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let number = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten().ok_or(ConditionError::Time)
        };
        let (hour, minute) = text.split_once(':').ok_or(ConditionError::Time)?;
        let (hour, minute) = (number(hour)?, number(minute)?);
        if minute > 59 || hour > 24 || (hour == 24 && minute > 0) {
            return Err(ConditionError::Time);
        }
        Ok(Self(hour * 60 + minute))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Resources by type and name: `Model::gpt-4o-*`, `Tool::files/*`. A `*` stands for one or more characters within one part of
/// the name, parts ending at `/` and `:`; alone it stands for every name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePattern {
    kind: TypeName,
    /// None for every name.
    name: Option<SubjectPattern>,
}

impl ResourcePattern {
    /// Whether the entity `name` of type `kind` is one of those that are meant.
    #[must_use]
    pub fn matches(&self, kind: &str, name: &str) -> bool {
        self.kind.as_name().as_str() == kind && self.name.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

impl FromStr for ResourcePattern {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let (kind, name) = text.rsplit_once("::").ok_or(ConditionError::Resource)?;
        let name = match name {
            "*" => None,
            name => Some(name.parse().map_err(|_| ConditionError::Resource)?),
        };
        Ok(Self { kind: kind.parse().map_err(|_| ConditionError::Resource)?, name })
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.kind, self.name.as_ref().map_or("*", SubjectPattern::as_str))
    }
}

macro_rules! as_text {
    ($($of:ident $pattern:literal,)+) => {$(
        impl Serialize for $of {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $of {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $of {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    )+};
}

as_text! {
    TimeOfDay "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$",
    ResourcePattern "^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*::[^\\s]+$",
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hours(from: &str, until: &str, days: &[Weekday]) -> Hours {
        let zone = "Europe/Berlin".parse().unwrap();
        Hours {
            zone,
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
            days: days.iter().copied().collect(),
        }
    }

    const fn at(hour: u16, minute: u16) -> u16 {
        hour * 60 + minute
    }

    #[test]
    fn hours_begin_with_the_minute_and_end_before_it() {
        let office = hours("08:00", "18:00", &[Weekday::Mon, Weekday::Fri]);
        for (weekday, minute, within) in [
            (0, at(8, 0), true),
            (0, at(7, 59), false),
            (0, at(17, 59), true),
            (0, at(18, 0), false),
            (1, at(12, 0), false),
            (4, at(12, 0), true),
            (6, at(12, 0), false),
            (7, at(12, 0), false),
        ] {
            assert_eq!(office.include(weekday, minute), within, "{weekday} {minute}");
        }
        assert!(hours("00:00", "24:00", &[]).include(3, at(23, 59)));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours("22:00", "06:00", &[Weekday::Sun]);
        for (weekday, minute, within) in [
            (6, at(22, 0), true),
            (6, at(21, 59), false),
            (6, at(3, 0), false),
            (0, at(3, 0), true),
            (0, at(6, 0), false),
            (0, at(23, 0), false),
            (5, at(23, 0), false),
        ] {
            assert_eq!(night.include(weekday, minute), within, "{weekday} {minute}");
        }
    }

    #[test]
    fn a_pattern_means_its_type_alone_and_stays_within_a_part_of_the_name() {
        let pattern = |text: &str| text.parse::<ResourcePattern>().unwrap();
        let models = pattern("Model::gpt-4o-*");
        assert!(models.matches("Model", "gpt-4o-mini"));
        for (kind, name) in
            [("Model", "gpt-4o"), ("Model", "gpt-4o-a/b"), ("Tool", "gpt-4o-mini"), ("Model", "xgpt-4o-mini")]
        {
            assert!(!models.matches(kind, name), "{kind} {name}");
        }
        assert!(pattern("Shop::Order::*").matches("Shop::Order", "2026::7"));
        assert!(!pattern("Shop::Order::*").matches("Shop", "Order"));
        for bad in ["", "Model", "Model::", "::x", "*::x", "Model::a b", "Model::a**", "Mo-del::x"] {
            assert_eq!(bad.parse::<ResourcePattern>(), Err(ConditionError::Resource), "{bad}");
        }
    }

    #[test]
    fn conditions_are_read_whole_or_not_at_all() {
        let text = json!({
            "environments": ["staging"], "resources": ["Model::gpt-4o-*"],
            "hours": {"zone": "UTC", "from": "08:00", "until": "18:30", "days": ["mon"]},
            "assurance_min": 2, "binding": ["dpop"], "alone": false,
        });
        let read: Conditions = serde_json::from_value(text.clone()).unwrap();
        assert!(read.for_others && !read.alone && read.confine() && !read.is_empty());
        assert_eq!(serde_json::to_value(&read).unwrap(), text, "written as it was read");
        assert_eq!(serde_json::to_value(Conditions::default()).unwrap(), json!({}));
        // What would seem to bound and does not is refused.
        for bad in [
            json!({"budget_per_day": 100}),
            json!({"hours": {"zone": "UTC", "from": "8:00", "until": "18:00"}}),
            json!({"hours": {"zone": "UTC", "from": "08:00", "until": "25:00"}}),
            json!({"hours": {"zone": "UTC", "from": "08:00", "until": "24:01"}}),
            json!({"hours": {"zone": "UTC", "from": "08:00"}}),
            json!({"binding": ["password"]}),
            json!({"resources": ["*"]}),
        ] {
            assert!(serde_json::from_value::<Conditions>(bad.clone()).is_err(), "{bad}");
        }
    }
}
