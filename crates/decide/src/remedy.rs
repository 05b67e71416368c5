//! The grammar of `@remedy` annotations.
//!
//! ```text
//! remedies = remedy *( ";" remedy )               ; all of them are needed together
//! remedy   = "redact(" found *( "," found ) [ ", by: " quoted ] ")" | "cap(output_tokens: " number ")" | "strip_tools" | "do_not_keep"
//!          | "keep(content)" | "watch" | "hide" | "strip_links" [ "(" quoted *( "," quoted ) ")" ] | "step_up(level: " 1..4 [ ", max_age: " duration ] ")"
//!          | "bind_device" [ "(" "dpop" | "mtls" ")" ]
//!          | "justify" [ "(purposes: [" quoted *( "," quoted ) "])" ]
//!          | "approve(" quorum [ ", role: " quoted ] ", use_within: " duration ")"
//! found    = detector | group | "detector: " quoted   ; bartizan_model::detector has the names
//! quorum   = all *( "or" all )                    ; bartizan_model::quorum says what it means
//! all      = share *( "and" share )
//! share    = number [ "of" "role" quoted ]
//! duration = number ( "s" | "m" | "h" | "d" )
//! quoted   = DQUOTE *( any character but DQUOTE and backslash ) DQUOTE
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::{Name, Text};
use bartizan_model::{
    Approval, AssuranceLevel, BoundBy, Detector, Group, MaskBy, Obligation, Quorum, Remedy,
};

use crate::near::did_you_mean;

/// The longest duration a remedy may name: 31 days.
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);
/// The purposes a remedy may list. Each is tried, so they are few.
const PURPOSES_MAX: usize = 16;
/// The hosts whose links a remedy may let stay.
const HOSTS_MAX: usize = 64;
/// Every remedy's name.
const NAMES: [&str; 12] = [
    "redact",
    "cap",
    "strip_tools",
    "do_not_keep",
    "keep",
    "watch",
    "strip_links",
    "hide",
    "step_up",
    "bind_device",
    "justify",
    "approve",
];

/// Reads an annotation.
pub(crate) fn parse(text: &str) -> Result<Vec<Remedy>, String> {
    let remedies = split(text, ';')?.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    for (i, remedy) in remedies.iter().enumerate() {
        let same = |other: &Remedy| match (remedy, other) {
            (Remedy::Oblige(a), Remedy::Oblige(b)) => a.kind() == b.kind(),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        if remedies.iter().skip(i + 1).any(same) {
            return Err(format!("`{remedy}` stands beside another of its kind; write one"));
        }
    }
    Ok(remedies)
}

/// The parts of `text` between separators that stand in no quotes and no brackets, trimmed.
fn split(text: &str, separator: char) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => return Err("a text in quotes holds no backslash".to_owned()),
            '(' | '[' if !quoted => depth += 1,
            ')' | ']' if !quoted => {
                depth = depth.checked_sub(1).ok_or_else(|| format!("a bracket too many in `{text}`"))?;
            }
            c if c == separator && !quoted && depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default().trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if quoted || depth > 0 {
        return Err(format!("`{text}` does not end: a quote or bracket is missing"));
    }
    parts.push(text.get(start..).unwrap_or_default().trim());
    Ok(parts)
}

fn one(text: &str) -> Result<Remedy, String> {
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => {
            let inside = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` does not end with `)`"))?;
            (name.trim(), Some(split(inside, ',')?))
        }
        None => (text, None),
    };
    if !NAMES.contains(&name) {
        let near = did_you_mean(name, NAMES).unwrap_or_else(|| format!("there are {}", NAMES.join(", ")));
        return Err(format!("`{name}` is not a remedy; {near}"));
    }
    let form = |form: &str| Err(format!("`{text}` is not written as it must be; write `{form}`"));
    match (name, arguments.as_deref()) {
        ("redact", Some(arguments)) => redact(arguments).map(Remedy::Oblige),
        ("redact", None) => form("redact(pii)"),
        ("cap", Some([only])) => {
            let output_tokens_max =
                named(only, "output_tokens")?.parse().ok().filter(|n| (1..1 << 32).contains(n));
            let output_tokens_max = output_tokens_max.ok_or("`output_tokens` is a whole number from 1")?;
            Ok(Remedy::Oblige(Obligation::Cap { output_tokens_max }))
        }
        ("cap", _) => form("cap(output_tokens: 1000)"),
        ("strip_tools", None) => Ok(Remedy::Oblige(Obligation::StripTools)),
        ("do_not_keep", None) => Ok(Remedy::Oblige(Obligation::DoNotKeep)),
        ("strip_links", None) => Ok(Remedy::Oblige(Obligation::StripLinks { hosts: BTreeSet::new() })),
        ("strip_links", Some(names)) => Ok(Remedy::Oblige(Obligation::StripLinks { hosts: hosts(names)? })),
        ("hide", None) => Ok(Remedy::Oblige(Obligation::Hide)),
        ("watch", None) => Ok(Remedy::Oblige(Obligation::Watch)),
        ("keep", Some(["content"])) => Ok(Remedy::Oblige(Obligation::Keep)),
        ("keep", _) => form("keep(content)"),
        ("bind_device", None) => Ok(Remedy::BindDevice { by: BoundBy::ALL.iter().copied().collect() }),
        ("bind_device", Some(names)) => Ok(Remedy::BindDevice { by: bindings(names)? }),
        ("justify", None) => Ok(Remedy::Justify { purposes: BTreeSet::new() }),
        ("justify", Some([only])) => Ok(Remedy::Justify { purposes: purposes(named(only, "purposes")?)? }),
        ("justify", _) => form("justify(purposes: [\"support\", \"research\"])"),
        ("step_up", Some([level, rest @ ..])) => {
            let level = named(level, "level")?.parse().ok().and_then(AssuranceLevel::from_number);
            let level =
                level.filter(|l| *l > AssuranceLevel::None).ok_or("`level` is a number from 1 to 4")?;
            let max_age = match rest {
                [] => None,
                [age] => Some(duration(named(age, "max_age")?)?),
                _ => return form("step_up(level: 3, max_age: 15m)"),
            };
            Ok(Remedy::StepUp { level, max_age })
        }
        ("step_up", None) => form("step_up(level: 3, max_age: 15m)"),
        ("approve", Some([quorum, rest @ ..])) => approve(quorum, rest),
        ("approve", _) => form("approve(2, role: \"security\", use_within: 30m)"),
        _ => form(name),
    }
}

fn approve(quorum: &str, rest: &[&str]) -> Result<Remedy, String> {
    let (mut role, mut use_within) = (None, None);
    for argument in rest {
        if argument.starts_with("role") && role.is_none() {
            let name = unquoted(named(argument, "role")?).and_then(|q| q.parse::<Name>().ok());
            role = Some(name.ok_or("`role` is a name in double quotes")?);
        } else if use_within.is_none() {
            use_within = Some(duration(named(argument, "use_within")?)?);
        } else {
            return Err(format!("`{argument}` stands twice or is unknown"));
        }
    }
    let quorum = match role {
        // The short form: a number, and a role beside it.
        Some(role) => {
            let count = quorum
                .parse()
                .ok()
                .ok_or("beside `role: …` stands a number, such as `approve(2, role: …`")?;
            Quorum::of(count, Some(role)).map_err(|e| e.to_string())?
        }
        None => quorum.parse::<Quorum>().map_err(|e| e.to_string())?,
    };
    let use_within = use_within.ok_or("approve(…) needs `use_within`, such as `use_within: 30m`")?;
    Ok(Remedy::Approve(Approval { quorum, use_within }))
}

fn redact(arguments: &[&str]) -> Result<Obligation, String> {
    let (mut all, mut by) = (BTreeSet::new(), None);
    for argument in arguments {
        match argument.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("detector", quoted)) => {
                let name = unquoted(quoted).and_then(|q| q.parse::<Name>().ok());
                all.insert(Detector::Custom(name.ok_or("`detector` is a name in double quotes")?));
            }
            Some(("by", quoted)) if by.is_none() => {
                let way = unquoted(quoted).and_then(|q| MaskBy::ALL.iter().find(|way| way.name() == q));
                by = Some(*way.ok_or("`by` is \"name\", \"hash\", \"token\" or \"token_returned\"")?);
            }
            Some(_) => return Err(format!("`{argument}` stands twice or is unknown")),
            None => all.extend(detectors(argument)?),
        }
    }
    if all.is_empty() {
        return Err("`redact` names what to look for, such as `redact(pii)`".to_owned());
    }
    Ok(Obligation::Redact { detectors: all, by: by.unwrap_or_default() })
}

/// One detector, or those of a group.
fn detectors(name: &str) -> Result<BTreeSet<Detector>, String> {
    if let Some(group) = Group::ALL.iter().find(|g| g.name() == name) {
        return Ok(group.members());
    }
    if let Some(detector) = Detector::ALL.iter().find(|d| d.name() == name) {
        return Ok([detector.clone()].into());
    }
    let known: Vec<&str> =
        Group::ALL.iter().map(|g| g.name()).chain(Detector::ALL.iter().map(Detector::name)).collect();
    let near = did_you_mean(name, known.iter().copied())
        .unwrap_or_else(|| format!("there are {}", known.join(", ")));
    Err(format!("`{name}` is not a detector; {near}; one of your own is `detector: \"NAME\"`"))
}

fn hosts(names: &[&str]) -> Result<BTreeSet<Name>, String> {
    let wrong = "`strip_links` lists the hosts that may stay: strip_links(\"docs.example.com\")";
    let plain = |host: &&str| {
        host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
    };
    let host = |quoted: &&str| unquoted(quoted).filter(plain)?.parse().ok();
    let all: Option<BTreeSet<Name>> = names.iter().map(host).collect();
    all.filter(|all| (1..=HOSTS_MAX).contains(&all.len())).ok_or_else(|| wrong.to_owned())
}

fn bindings(names: &[&str]) -> Result<BTreeSet<BoundBy>, String> {
    let known = |name: &&str| BoundBy::ALL.iter().find(|b| b.name() == *name).copied();
    let all: Option<BTreeSet<BoundBy>> = names.iter().map(known).collect();
    all.ok_or_else(|| "a credential is bound by `dpop` or `mtls`; any of them: `bind_device`".to_owned())
}

fn purposes(list: &str) -> Result<BTreeSet<Text<500>>, String> {
    let wrong = || format!("`purposes` is a list of 1 to {PURPOSES_MAX} texts: [\"support\", \"research\"]");
    let inside = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')).ok_or_else(wrong)?;
    let purpose = |quoted: &str| unquoted(quoted).filter(|t| !t.is_empty())?.parse().ok();
    let all: Option<BTreeSet<Text<500>>> = split(inside, ',')?.into_iter().map(purpose).collect();
    all.filter(|all| all.len() <= PURPOSES_MAX).ok_or_else(wrong)
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|inside| !inside.contains(['"', '\\']))
}

fn named<'a>(argument: &'a str, name: &str) -> Result<&'a str, String> {
    argument
        .split_once(':')
        .filter(|(n, _)| n.trim() == name)
        .map(|(_, value)| value.trim())
        .ok_or_else(|| format!("expected `{name}: …` instead of `{argument}`"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration; write such as `90s`, `15m` or `12h`, at most 31 days");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds)).map(Duration::from_secs);
    total.filter(|d| !d.is_zero() && *d <= DURATION_MAX).ok_or_else(wrong)
}

/// The facts that an applied obligation puts into `context.obligations`.
pub(crate) fn facts(obligation: &Obligation) -> Vec<String> {
    match obligation {
        Obligation::Cap { .. } => vec!["cap:output_tokens".to_owned()],
        Obligation::DoNotKeep => vec!["do_not_keep".to_owned()],
        Obligation::Keep => vec!["keep:content".to_owned()],
        Obligation::StripTools => vec!["strip_tools".to_owned()],
        Obligation::Watch => vec!["watch".to_owned()],
        Obligation::StripLinks { .. } => vec!["strip_links".to_owned()],
        Obligation::Hide => vec!["hide".to_owned()],
        Obligation::Redact { detectors, .. } => {
            let whole = |group: &&Group| detectors.is_superset(&group.members());
            let groups = Group::ALL.iter().filter(whole).map(|group| format!("redact:{}", group.name()));
            detectors.iter().map(|d| format!("redact:{d}")).chain(groups).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_remedies_of_the_design_are_read() {
        let written = |text: &str| parse(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        for (text, canonical) in [
            ("step_up(level: 3, max_age: 15m)", "step_up(level: 3, max_age: 900s)"),
            (
                "approve(2, role: \"model-security\", use_within: 30m)",
                "approve(2 of role \"model-security\", use_within: 1800s)",
            ),
            (
                "approve(1 of role \"b\" and 1 of role \"a\" or 3, use_within: 1d)",
                "approve(1 of role \"a\" and 1 of role \"b\" or 3, use_within: 86400s)",
            ),
            ("redact(financial)", "redact(card, iban)"),
            (
                "redact(by: \"hash\", phone, detector: \"names\", email)",
                "redact(email, phone, detector: \"names\", by: \"hash\")",
            ),
            ("redact(email, by: \"name\")", "redact(email)"),
            ("bind_device", "bind_device(dpop, mtls)"),
            ("justify(purposes: [\"a; b, (c\", \"a\"])", "justify(purposes: [\"a\", \"a; b, (c\"])"),
        ] {
            assert_eq!(written(text), [canonical]);
        }
        let all =
            "redact(pii); cap(output_tokens: 500); strip_tools; do_not_keep; justify; keep(content); watch";
        assert_eq!(written(all).len(), 7);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            ";",
            "redact",
            "redact()",
            "redact(ssn)",
            "redact(by: \"hash\")",
            "redact(email, by: \"rot13\")",
            "redact(email, by: \"hash\", by: \"name\")",
            "redact(detector: names)",
            "redact(detector: \"\")",
            "redact(custom:names)",
            "cap(500)",
            "cap(output_tokens: 0)",
            "step_up()",
            "step_up(level: 5)",
            "step_up(level: 0)",
            "step_up(level: 3, max_age: 15)",
            "approve(2)",
            "approve(0, use_within: 1m)",
            "approve(1, use_within: 800h)",
            "approve(1 of role \"a\", role: \"b\", use_within: 1m)",
            "approve(1 of role \"a\" and 1 of role \"a\", use_within: 1m)",
            "approve(use_within: 1m)",
            "justify()",
            "justify(purposes: [])",
            "justify(purposes: [\"\"])",
            "justify(purposes: \"a\")",
            "justify(purposes: [\"a\\\\\"])",
            "bind_device()",
            "bind_device(tls)",
            "keep",
            "keep()",
            "keep(prompt)",
            "keep(content, content)",
            "watch()",
            "strip_tools; nothing",
            "step_up(level: 3",
            "step_up(level: 3))",
            "approve(1, use_within: 1m, use_within: 2m)",
            "justify; justify",
            "cap(output_tokens: 1); cap(output_tokens: 2)",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        assert!(parse("redakt(pii)").unwrap_err().contains("did you mean `redact`"));
        assert!(parse("stepup(level: 3)").unwrap_err().contains("did you mean `step_up`"));
        assert!(parse("redact(emails)").unwrap_err().contains("did you mean `email`"));
        assert!(parse("frobnicate").unwrap_err().contains("there are redact"));
    }

    fn remedy() -> impl Strategy<Value = Remedy> {
        let mut all = Detector::ALL.to_vec();
        all.push(Detector::Custom(Name::literal("own")));
        let detectors = proptest::sample::subsequence(all, 1..=6);
        let ways = proptest::sample::select(MaskBy::ALL.to_vec());
        let by = proptest::sample::subsequence(BoundBy::ALL.to_vec(), 1..=2);
        let purposes = proptest::collection::btree_set("[a-z ;,()\\[\\]:]{1,12}", 0..4);
        let quorum = proptest::sample::select(vec!["2", "1 of role \"a\" and 2 or 3 of role \"b\""]);
        prop_oneof![
            (1..1_u64 << 32).prop_map(|n| Remedy::Oblige(Obligation::Cap { output_tokens_max: n })),
            (detectors, ways).prop_map(|(detectors, by)| Remedy::Oblige(Obligation::Redact {
                detectors: detectors.into_iter().collect(),
                by
            })),
            Just(Remedy::Oblige(Obligation::StripTools)),
            Just(Remedy::Oblige(Obligation::Keep)),
            Just(Remedy::Oblige(Obligation::DoNotKeep)),
            Just(Remedy::Oblige(Obligation::Watch)),
            proptest::collection::btree_set("[a-z0-9][a-z0-9.-]{0,9}", 0..4).prop_map(|all| {
                let hosts = all.iter().map(|h| h.parse().unwrap()).collect();
                Remedy::Oblige(Obligation::StripLinks { hosts })
            }),
            (1..5_u8, proptest::option::of(1..2_678_400_u64)).prop_map(|(level, age)| Remedy::StepUp {
                level: AssuranceLevel::from_number(level).unwrap(),
                max_age: age.map(Duration::from_secs),
            }),
            by.prop_map(|by| Remedy::BindDevice { by: by.into_iter().collect() }),
            purposes.prop_map(|all| Remedy::Justify {
                purposes: all.iter().map(|p| p.parse().unwrap()).collect()
            }),
            (quorum, 1..2_678_400_u64).prop_map(|(quorum, seconds)| Remedy::Approve(Approval {
                quorum: quorum.parse().unwrap(),
                use_within: Duration::from_secs(seconds),
            })),
        ]
    }

    proptest! {
        #[test]
        fn a_remedy_reads_back_from_its_canonical_form(remedy in remedy()) {
            let written = remedy.to_string();
            let read = parse(&written).map_err(TestCaseError::fail)?;
            prop_assert_eq!(read, vec![remedy], "{}", written);
        }
    }
}
