//! The same things as regular expressions, without any validation: less work than masking is, so more is asked of the masker.

use bartizan_bench::Error;
use regex::{Regex, RegexSet};

use crate::Work;

const PATTERNS: &[&str] = &[
    r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    r"\b[0-9](?:[ -]?[0-9]){12,18}\b",
    r"(?:\+|\b0)[0-9](?:[ .()/-]{0,3}[0-9]){6,14}\b",
    r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b",
    r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
    r"\b[0-9]{9,13}\b",
    r"\b[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]\b",
    r"\b[XYZ0-9][0-9]{7}[A-Z]\b",
    r"\b[A-Z]{2} ?(?:[0-9]{2} ?){3}[A-D]\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\bsk-[A-Za-z0-9_-]{32,}",
    r"\beyJ[A-Za-z0-9_-]{7,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END",
    r#"(?i)(?:password|passwd|secret|token|api_?key)[A-Za-z0-9_-]{0,24}["' ]{0,3}[:=]["' ]{0,3}[^\s"',;]{8,}"#,
];

fn all() -> Result<Vec<Regex>, Error> {
    PATTERNS.iter().map(|pattern| Ok(Regex::new(pattern)?)).collect()
}

fn replace(text: &str, patterns: impl Iterator<Item = Regex>) -> usize {
    let mut out = std::borrow::Cow::Borrowed(text);
    for pattern in patterns {
        if let std::borrow::Cow::Owned(replaced) = pattern.replace_all(&out, "[masked]") {
            out = replaced.into();
        }
    }
    out.len()
}

/// A set says line by line which patterns match; those are replaced.
pub fn set() -> Result<Work, Error> {
    let (set, all) = (RegexSet::new(PATTERNS)?, all()?);
    Ok(Box::new(move |text| {
        let line = |line: &str| {
            let matched = set.matches(line);
            replace(line, matched.iter().filter_map(|which| all.get(which).cloned()))
        };
        text.split_inclusive('\n').map(line).sum()
    }))
}

/// Each pattern by itself over the whole text.
pub fn each() -> Result<Work, Error> {
    let all = all()?;
    Ok(Box::new(move |text| replace(text, all.iter().cloned())))
}
