//! A refusal in words that somebody can act on: what the statement reads, and what of it may not be read. Told only to those who
//! may query the database.

use std::fmt::Write as _;

use bartizan_decide::PartDecided;
use bartizan_model::record::VerdictKind;

use crate::sql::ask::Touched;

/// Names that are listed.
const LISTED_MAX: usize = 20;

pub(crate) fn explain(touched: &Touched, parts: &[PartDecided]) -> String {
    // The first is the statement itself.
    let of_parts = parts.iter().skip(1);
    let name = |(table, column): &(bartizan_base::Name, Option<bartizan_base::Name>)| match column {
        None => format!("table `{table}`"),
        Some(column) => format!("`{table}.{column}`"),
    };
    let refused: Vec<String> = of_parts
        .zip(&touched.names)
        .filter(|(part, _)| part.verdict != VerdictKind::Permit)
        .map(|(part, names)| {
            let why = part.reasons.first().map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("{}{why}", name(names))
        })
        .collect();
    let mut text = String::new();
    let listed = refused.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    // Writing to a text cannot fail.
    if refused.is_empty() {
        text.push_str("the statement as a whole is refused");
    } else {
        write!(text, "of what the statement reads, you may not read {listed}").unwrap_or_default();
    }
    if refused.len() > LISTED_MAX {
        write!(text, " and {} more", refused.len() - LISTED_MAX).unwrap_or_default();
    }
    text
}
