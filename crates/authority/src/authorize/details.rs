//! What exactly is asked for (RFC 9396), from the request to the grant. What it is, and what it covers, is
//! [`bartizan_model::Detail`].

use bartizan_base::{Random, Timestamp, json};
use bartizan_model::detail::Arguments;
use bartizan_model::{Detail, DetailId, EntityRef, Exactly, Tenant};
use bartizan_store::State;
use serde_json::Value;

use crate::oauth::{OauthCode, OauthError};

const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 8, nodes_max: 500 };
/// The most details in one request: more than a person can read is no consent.
const COUNT_MAX: usize = 10;
/// The most things of one detail.
const RESOURCES_MAX: usize = 20;

fn refuse(why: &str) -> OauthError {
    OauthError::new(OauthCode::InvalidAuthorizationDetails, why)
}

/// Reads the parameter `authorization_details`. What it names must be declared.
pub(crate) fn read(
    text: &str,
    state: &State,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Vec<Value>, OauthError> {
    let value = json::parse(text.as_bytes(), LIMITS)
        .map_err(|_| refuse("authorization_details is no JSON within bounds"))?;
    let Value::Array(all) = value else { return Err(refuse("authorization_details is no list")) };
    of_request(&all, state, tenant, now)
}

/// The same of details that are read already: what somebody asks for, to whom nothing of it was allowed yet.
pub(crate) fn of_request(
    all: &[Value],
    state: &State,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Vec<Value>, OauthError> {
    if all.is_empty() || all.len() > COUNT_MAX {
        return Err(refuse("authorization_details holds nothing, or too much"));
    }
    let mut read: Vec<Detail> = Vec::new();
    for value in all {
        let detail =
            Detail::read(value).ok_or_else(|| refuse("a detail is of no known type, or not of its form"))?;
        if detail.id.is_some() {
            return Err(refuse("`id` is given when a detail is allowed"));
        }
        if detail.until.is_some_and(|until| until <= now) {
            return Err(refuse("`until` is over"));
        }
        if read.iter().any(|other| other.what == detail.what) {
            return Err(refuse("a detail stands twice"));
        }
        check(&detail, state, tenant)?;
        read.push(detail);
    }
    Ok(read.iter().map(Detail::to_json).collect())
}

fn check(detail: &Detail, state: &State, tenant: &Tenant) -> Result<(), OauthError> {
    let all = || state.documents.iter().filter(|(owner, _, _)| owner == tenant);
    let declared = |resource: &EntityRef| all().any(|(_, document, _)| document.entity() == *resource);
    let named =
        |kind: &str, name: &str| all().any(|(_, d, _)| d.spec.kind() == kind && d.name.as_str() == name);
    let known = match &detail.what {
        Exactly::Tool { tool, arguments } => {
            if arguments.as_ref().is_some_and(|fixed| fixed.digest().is_none()) {
                return Err(refuse("a number in `arguments` is larger than readers of JSON keep"));
            }
            named("tool", tool)
        }
        Exactly::Deployment { deployment, environment, .. } => {
            named("deployment", deployment) && named("environment", environment)
        }
        Exactly::Action { action, resources } => {
            let house = EntityRef::of_the_house(*action);
            if house.is_some() && detail.uses.is_some() {
                return Err(refuse("`uses` is for what is done at the doors, not for the house itself"));
            }
            let fits = |resource: &EntityRef| {
                resource.kind.as_str() == action.resource_type()
                    && (house.as_ref() == Some(resource) || declared(resource))
            };
            resources.len() <= RESOURCES_MAX && resources.iter().all(|one| fits(&one.entity()))
        }
    };
    if known { Ok(()) } else { Err(refuse("a detail names something that is not there")) }
}

/// Details as they are allowed, until `ends` at the latest: each with an id by which its uses are counted.
pub(crate) fn allowed(wished: &[Value], ends: Timestamp, now: Timestamp, random: &dyn Random) -> Vec<Value> {
    let allow = |detail: Detail| {
        // A count must be kept as long as anything can be counted by it, so it has an end.
        let until = detail.until.map(|until| until.min(ends)).or(detail.uses.map(|_| ends));
        Detail { id: Some(DetailId::new(now, random)), until, ..detail }.to_json()
    };
    wished.iter().filter_map(Detail::read).map(allow).collect()
}

/// A detail in words, for people.
pub(crate) fn in_words(value: &Value) -> String {
    // Only what was read before is shown.
    let Some(detail) = Detail::read(value) else { return value.to_string() };
    let mut words = match &detail.what {
        Exactly::Tool { tool, arguments: None } => format!("call the tool {tool}"),
        Exactly::Tool { tool, arguments: Some(Arguments::These(these)) } => {
            format!("call the tool {tool} with exactly {}", Value::Object(these.clone()))
        }
        Exactly::Tool { tool, arguments: Some(Arguments::Digest(digest)) } => {
            format!("call the tool {tool} with the arguments of digest {digest}, and no others")
        }
        Exactly::Action { action, resources } => {
            let on: Vec<String> = resources.iter().map(ToString::to_string).collect();
            let meaning = action.meaning().trim().trim_end_matches('.');
            format!("{} ({action}): {}", lower(meaning), on.join(", "))
        }
        Exactly::Deployment { deployment, environment, manifest } => {
            format!(
                "move the deployment {deployment} into {environment}, exactly as in the manifest {manifest}"
            )
        }
    };
    match detail.uses {
        None => {}
        Some(1) => words.push_str("; once"),
        Some(uses) => words.push_str(&format!("; at most {uses} times")),
    }
    if let Some(until) = detail.until {
        words.push_str(&format!("; until {until}"));
    }
    words
}

fn lower(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Name;
    use bartizan_base::random::SeededRandom;
    use bartizan_model::{Document, Spec};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn state() -> State {
        let document = |name: &'static str, spec| {
            (Tenant::default_tenant(), Document { name: Name::literal(name), principal: None, spec }, 1)
        };
        let documents = vec![
            document("mail", Spec::Tool(Default::default())),
            document("crm", Spec::Api(Default::default())),
            document("shop", Spec::Deployment(Default::default())),
            document("production", Spec::Environment(Default::default())),
        ];
        State { documents: documents.into(), ..State::default() }
    }

    fn read(text: &str) -> Result<Vec<Value>, OauthError> {
        super::read(text, &state(), &Tenant::default_tenant(), NOW)
    }

    #[test]
    fn details_are_exact_and_said_in_words() {
        let digest = "ab".repeat(32);
        let text = format!(
            r#"[{{"type":"bartizan_tool","tool":"mail","arguments":"{digest}"}},
                {{"type":"bartizan_tool","tool":"mail","arguments":{{"to":"bob"}},"uses":1}},
                {{"type":"bartizan_tool","tool":"mail","uses":3,"until":1800000060}},
                {{"type":"bartizan_action","action":"api:call","resources":["Api::crm"]}},
                {{"type":"bartizan_action","action":"ledger:read","resources":["Ledger::bartizan"]}},
                {{"type":"bartizan_deployment","deployment":"shop","environment":"production","manifest":"{digest}"}}]"#
        );
        let details = read(&text).unwrap();
        let words: Vec<_> = details.iter().map(in_words).collect();
        assert!(
            words[0].contains(&format!("the tool mail with the arguments of digest {digest}")),
            "{}",
            words[0]
        );
        assert_eq!(words[1], r#"call the tool mail with exactly {"to":"bob"}; once"#);
        assert_eq!(words[2], "call the tool mail; at most 3 times; until 2027-01-15T08:01:00.000Z");
        assert!(words[3].contains("api:call") && words[3].ends_with("Api::crm"), "{}", words[3]);
        assert!(words[5].contains("shop into production"));
    }

    #[test]
    fn what_is_unknown_or_would_seem_to_limit_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "[1]",
            r#"[{"tool":"mail"}]"#,
            r#"[{"type":"payment"}]"#,
            r#"[{"type":"bartizan_tool","tool":"absent"}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","amount_max":10}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","tool":"mail"}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail"},{"type":"bartizan_tool","tool":"mail","uses":2}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","arguments":"x"}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","arguments":{"n":9007199254740993}}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","until":1800000000}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","uses":0}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","id":"det_01890000000000000000000000"}]"#,
            r#"[{"type":"bartizan_action","action":"api:call","resources":["Api::other"]}]"#,
            r#"[{"type":"bartizan_action","action":"api:call","resources":["Tool::mail"]}]"#,
            r#"[{"type":"bartizan_action","action":"policy:apply","resources":["Policy::bartizan"],"uses":1}]"#,
            r#"[{"type":"bartizan_deployment","deployment":"shop","environment":"production"}]"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many = format!(
            "[{}]",
            (0..11)
                .map(|n| format!(r#"{{"type":"bartizan_tool","tool":"mail","arguments":{{"n":{n}}}}}"#))
                .collect::<Vec<_>>()
                .join(",")
        );
        assert!(read(&many).is_err());
        let other: Tenant = Tenant(Name::literal("other"));
        assert!(super::read(r#"[{"type":"bartizan_tool","tool":"mail"}]"#, &state(), &other, NOW).is_err());
    }

    #[test]
    fn what_is_allowed_is_told_apart_by_ids_and_ends_with_its_grant() {
        let wished = read(
            r#"[{"type":"bartizan_tool","tool":"mail","uses":1},
                {"type":"bartizan_tool","tool":"mail","arguments":{},"until":1800009999},
                {"type":"bartizan_action","action":"api:call","resources":["Api::crm"]}]"#,
        )
        .unwrap();
        let ends = Timestamp::from_secs(1_800_000_500);
        let allowed = allowed(&wished, ends, NOW, &SeededRandom::new(1));
        let read: Vec<Detail> = allowed.iter().map(|one| Detail::read(one).unwrap()).collect();
        assert_eq!(read.iter().map(|one| one.until).collect::<Vec<_>>(), [Some(ends), Some(ends), None]);
        assert!(read.iter().all(|one| one.id.is_some()) && read[0].id != read[1].id);
    }
}
