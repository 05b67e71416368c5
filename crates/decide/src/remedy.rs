//! The grammar of `@remedy` annotations.
//!
//! ```text
//! remedies = remedy *( ";" remedy )
//! remedy   = "redact(" detectors ")" | "cap(output_tokens: " number ")" | "strip_tools" | "do_not_keep"
//!          | "keep(content)" | "step_up(level: " 1..4 [ ", max_age: " duration ] ")" | "justify"
//!          | "approve(" number [ ", role: " quoted ] ", use_within: " duration ")"
//! duration = number ( "s" | "m" | "h" )
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::Name;
use bartizan_model::{AssuranceLevel, Detector, Obligation, Remedy};

/// The longest duration a remedy may name: 31 days.
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

/// Reads an annotation.
pub(crate) fn parse(text: &str) -> Result<Vec<Remedy>, String> {
    text.split(';').map(|part| one(part.trim())).collect()
}

fn one(text: &str) -> Result<Remedy, String> {
    let unknown = || {
        format!(
            "`{text}` is not a remedy; there are redact(…), cap(…), strip_tools, do_not_keep, keep(content), step_up(…), justify, approve(…)"
        )
    };
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name.trim(), Some(rest.trim_end().strip_suffix(')').ok_or_else(unknown)?)),
        None => (text, None),
    };
    let arguments: Option<Vec<&str>> = arguments.map(|a| a.split(',').map(str::trim).collect());
    match (name, arguments.as_deref()) {
        ("redact", Some(names)) => Ok(Remedy::Oblige(Obligation::Redact { detectors: detectors(names)? })),
        ("cap", Some([only])) => {
            let output_tokens_max =
                named(only, "output_tokens")?.parse().ok().filter(|n| (1..1 << 32).contains(n));
            let output_tokens_max = output_tokens_max.ok_or("`output_tokens` is a whole number from 1")?;
            Ok(Remedy::Oblige(Obligation::Cap { output_tokens_max }))
        }
        ("strip_tools", None) => Ok(Remedy::Oblige(Obligation::StripTools)),
        ("do_not_keep", None) => Ok(Remedy::Oblige(Obligation::DoNotKeep)),
        ("keep", Some(["content"])) => Ok(Remedy::Oblige(Obligation::Keep)),
        ("justify", None) => Ok(Remedy::Justify),
        ("step_up", Some([level, rest @ ..])) => {
            let level = named(level, "level")?.parse().ok().and_then(AssuranceLevel::from_number);
            let level =
                level.filter(|l| *l > AssuranceLevel::None).ok_or("`level` is a number from 1 to 4")?;
            let max_age = match rest {
                [] => None,
                [age] => Some(duration(named(age, "max_age")?)?),
                _ => return Err(unknown()),
            };
            Ok(Remedy::StepUp { level, max_age })
        }
        ("approve", Some([count, rest @ ..])) => approve(count, rest),
        _ => Err(unknown()),
    }
}

fn approve(count: &str, rest: &[&str]) -> Result<Remedy, String> {
    let count = count
        .parse()
        .ok()
        .filter(|n| (1..=10).contains(n))
        .ok_or("approve(…) begins with a number from 1 to 10")?;
    let (mut role, mut use_within) = (None, None);
    for argument in rest {
        if argument.starts_with("role") && role.is_none() {
            let quoted = named(argument, "role")?;
            let name = quoted
                .strip_prefix('"')
                .and_then(|q| q.strip_suffix('"'))
                .and_then(|q| q.parse::<Name>().ok());
            role = Some(name.ok_or("`role` is a name in double quotes")?);
        } else if use_within.is_none() {
            use_within = Some(duration(named(argument, "use_within")?)?);
        } else {
            return Err(format!("`{argument}` stands twice or is unknown"));
        }
    }
    let use_within = use_within.ok_or("approve(…) needs `use_within`, such as `use_within: 30m`")?;
    Ok(Remedy::Approve { count, role, use_within })
}

fn detectors(names: &[&str]) -> Result<BTreeSet<Detector>, String> {
    let mut out = BTreeSet::new();
    for name in names {
        match Detector::ALL.iter().find(|d| d.name() == *name) {
            Some(detector) => drop(out.insert(*detector)),
            None if *name == "pii" => out.extend(Detector::ALL),
            None => return Err(format!("`{name}` is not a detector; there are pii, email, phone, card")),
        }
    }
    Ok(out)
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
        Obligation::Redact { detectors } => {
            let mut out: Vec<String> = detectors.iter().map(|d| format!("redact:{}", d.name())).collect();
            if detectors.len() == Detector::ALL.len() {
                out.push("redact:pii".to_owned());
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedies_of_the_design_are_read() {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        assert_eq!(
            parse("step_up(level: 3, max_age: 15m)").unwrap(),
            [Remedy::StepUp { level: AssuranceLevel::Aal2PhishingResistant, max_age: Some(minutes(15)) }]
        );
        assert_eq!(
            parse("approve(2, role: \"model-security\", use_within: 30m)").unwrap(),
            [Remedy::Approve {
                count: 2,
                role: Some(Name::literal("model-security")),
                use_within: minutes(30)
            }]
        );
        let all =
            parse("redact(pii); cap(output_tokens: 500); strip_tools; do_not_keep; justify; keep(content)")
                .unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!(all[5], Remedy::Oblige(Obligation::Keep));
        assert_eq!(
            all[0],
            Remedy::Oblige(Obligation::Redact { detectors: Detector::ALL.iter().copied().collect() })
        );
    }

    #[test]
    fn anything_else_is_refused_with_a_hint() {
        for bad in [
            "",
            "redact",
            "redact(ssn)",
            "cap(500)",
            "cap(output_tokens: 0)",
            "step_up()",
            "step_up(level: 5)",
            "step_up(level: 0)",
            "step_up(level: 3, max_age: 15)",
            "approve(2)",
            "approve(0, use_within: 1m)",
            "approve(1, use_within: 800h)",
            "justify()",
            "keep",
            "keep()",
            "keep(prompt)",
            "keep(content, content)",
            "strip_tools; nothing",
            "step_up(level: 3",
            "approve(1, use_within: 1m, use_within: 2m)",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
