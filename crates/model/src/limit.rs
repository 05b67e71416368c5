//! Limits and prices, as they are declared.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bartizan_base::{Name, Text, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Status;

/// How much of something there may be. A limit never widens what policy says: an ask must be permitted and fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Whether it holds.
    #[serde(default)]
    pub status: Status,
    /// What is counted.
    pub what: Counted,
    /// The most there may be: a number of them; of `cost` millionths of the currency that prices are in; of `duration` seconds.
    pub most: u64,
    /// Over which time. None for what is going on now (`concurrency`, `depth`, `duration`), and for a count of a whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Whether the window slides: the last 60 seconds rather than this minute. Counts in sixtieths of the window, rounded so that
    /// no stretch of the window's length ever holds more than `most`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sliding: bool,
    /// The time zone in which a fixed day or month begins, such as `Europe/Berlin`; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Text<64>>,
    /// Only what fits all of these is counted.
    #[serde(default, skip_serializing_if = "Only::is_empty")]
    pub only: Only,
    /// Each of these has a count of its own. Without, all that is counted shares one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub per: BTreeSet<Per>,
    /// Whether what does not fit is refused, also when the count cannot be had; else it is only told.
    #[serde(default = "yes")]
    pub hard: bool,
}

const fn yes() -> bool {
    true
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Asks that go out.
    Requests,
    /// Tokens of requests.
    TokensIn,
    /// Tokens of answers.
    TokensOut,
    /// Both.
    Tokens,
    /// What calls cost by the declared prices. A model without a price is refused where the limit is hard.
    Cost,
    /// Asks that are going on at once.
    Concurrency,
    /// Runs that were begun.
    Runs,
    /// Seconds since the run began.
    Duration,
    /// Members of the chain who act: 0 for somebody who asks themself, 1 for one agent in between.
    Depth,
    /// The same ask, to the byte, again and again: a loop.
    Repeats,
}

impl Counted {
    /// The name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Concurrency => "concurrency",
            Self::Runs => "runs",
            Self::Duration => "duration",
            Self::Depth => "depth",
            Self::Repeats => "repeats",
        }
    }
}

/// A stretch of time that limits count over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// A calendar day; sliding, 86,400 seconds.
    Day,
    /// A calendar month; sliding, 30 days.
    Month,
}

/// What a limit is about. Names must be declared: a limit on something that does not exist is refused when it is applied, since it
/// would look as if it held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Only {
    /// This person, as the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// This agent, as the subject or anybody who acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// This workload, in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Name>,
    /// Subjects in this group, directly or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Things of this project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// This model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Name>,
    /// This tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Name>,
    /// Tools of this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_server: Option<Name>,
}

impl Only {
    /// Whether it is about everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// By what counts are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The subject.
    Caller,
    /// The agent that asks: the outermost of the chain. Asks without one are not counted.
    Agent,
    /// The key that was presented. Asks without one are not counted.
    Key,
    /// The run: subject, chain and what the caller names in `x-bartizan-run`. It only splits what is theirs more finely.
    Run,
    /// The model, tool or other thing that is asked for.
    Resource,
}

/// What a model costs at an upstream, from a day on, in millionths of one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// The model, as callers name it.
    pub model: Name,
    /// At this upstream only; such a price goes before one for every upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// From this day on, beginning in UTC. Of several the latest that has begun holds.
    pub from: Day,
    /// Millionths for a million tokens of requests.
    pub input: u64,
    /// The same for tokens of requests that the provider had kept; those of requests if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// The same for tokens of answers.
    pub output: u64,
}

/// A day, `2026-11-22`, that begins in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Timestamp);

impl Day {
    /// When it begins.
    #[must_use]
    pub const fn begins(self) -> Timestamp {
        self.0
    }
}

/// The text is not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is written as `2026-11-22`")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        if text.len() != 10 {
            return Err(NotADay);
        }
        Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")).map(Self).map_err(|_| NotADay)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.to_string();
        f.pad(whole.split_once('T').map_or(whole.as_str(), |(day, _)| day))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Day {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Day".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"})
    }
}

impl LimitSpec {
    /// What about it means nothing, or could never hold: it must not look as if it did.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        use Counted as C;
        let of_run = self.per.contains(&Per::Run);
        let now = matches!(self.what, C::Concurrency | C::Depth | C::Duration);
        match (now, self.window) {
            (true, Some(_)) => return Some("what is going on now has no `window`"),
            (false, None) if !of_run => {
                return Some("without `window` it counts for ever; only a run ends by itself");
            }
            (false, None) if self.what == C::Runs => return Some("`runs` are counted over a `window`"),
            _ => {}
        }
        if self.what == C::Duration && !of_run {
            return Some("`duration` is that of a run: `per` must name `run`");
        }
        if self.what == C::Runs && of_run {
            return Some("`runs` cannot be counted per run");
        }
        if self.sliding && self.window.is_none() {
            return Some("`sliding` needs a `window`");
        }
        if self.zone.is_some() && (self.sliding || !matches!(self.window, Some(Window::Day | Window::Month)))
        {
            return Some("`zone` says where a fixed day or month begins; there is none here");
        }
        let (models, tools) =
            (self.only.model.is_some(), self.only.tool.is_some() || self.only.tool_server.is_some());
        if models && tools {
            return Some("nothing is a model and a tool");
        }
        let spent = matches!(self.what, C::TokensIn | C::TokensOut | C::Tokens | C::Cost);
        if spent && tools {
            return Some("tools spend no tokens and have no price here");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> LimitSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_day_is_read_as_it_is_written() {
        let day: Day = "2026-11-22".parse().unwrap();
        assert_eq!(
            (day.to_string(), day.begins().to_string()),
            ("2026-11-22".into(), "2026-11-22T00:00:00.000Z".into())
        );
        for bad in ["2026-13-01", "2026-1-1", "22.11.2026", "", "2026-11-22T00:00:00Z"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_could_never_hold_is_not_taken_for_a_limit() {
        use serde_json::json;
        let fine = [
            json!({"what": "requests", "most": 60, "window": "minute"}),
            json!({"what": "cost", "most": 5, "window": "month", "zone": "Europe/Berlin", "per": ["caller"]}),
            json!({"what": "requests", "most": 50, "per": ["run"]}),
            json!({"what": "concurrency", "most": 4, "per": ["agent"]}),
            json!({"what": "duration", "most": 600, "per": ["run"]}),
            json!({"what": "depth", "most": 2}),
        ];
        for spec in fine {
            assert_eq!(read(spec.clone()).mistake(), None, "{spec}");
        }
        let wrong = [
            json!({"what": "requests", "most": 60}),
            json!({"what": "concurrency", "most": 4, "window": "day"}),
            json!({"what": "duration", "most": 4}),
            json!({"what": "runs", "most": 4, "per": ["run"], "window": "day"}),
            json!({"what": "runs", "most": 4}),
            json!({"what": "requests", "most": 4, "window": "minute", "zone": "Europe/Berlin"}),
            json!({"what": "requests", "most": 4, "window": "day", "sliding": true, "zone": "Europe/Berlin"}),
            json!({"what": "requests", "most": 4, "sliding": true, "per": ["run"]}),
            json!({"what": "tokens", "most": 4, "window": "day", "only": {"tool": "t"}}),
            json!({"what": "requests", "most": 4, "window": "day", "only": {"tool": "t", "model": "m"}}),
        ];
        for spec in wrong {
            assert!(read(spec.clone()).mistake().is_some(), "{spec}");
        }
    }
}
