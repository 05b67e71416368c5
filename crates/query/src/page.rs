//! The reference page of the language, made from the tables that the parser uses.

use std::fmt::Write as _;

use crate::field::Field;
use crate::parse::{DEPTH_MAX, TERMS_MAX, TEXT_MAX};

const GRAMMAR: &str = "\
query     = [ any ] ;
any       = all { \"or\" all } ;
all       = one { [ \"and\" ] one } ;
one       = { \"not\" | \"-\" } ( \"(\" any \")\" | condition | text ) ;
text      = ( quoted | word ) [ \"*\" ] ;
condition = field ( \":\" | \"=\" | \"!=\" ) ( value | \"(\" value { \",\" value } \")\" )
          | field ( \">\" | \">=\" | \"<\" | \"<=\" ) ( quoted | plain )
          | ( \"since\" | \"until\" ) ( \":\" | \"=\" ) moment ;
value     = quoted [ \"*\" ] | plain [ \"*\" ] | \"*\" | [ plain ] \"..\" [ plain ] ;
quoted    = '\"' { any character but '\"' and '\\' | '\\\"' | '\\\\' } '\"' ;
plain     = characters but spaces and ( ) , \" = ! < > * ;
word      = characters but spaces and ( ) , \" = ! < > * : ;
moment    = a value of `time` ;
";

/// Questions that people ask, with the queries that answer them.
pub const EXAMPLES: &[(&str, &str)] = &[
    ("What was refused in the last day?", "kind:refusal since:24h"),
    ("Who met a login that was too weak?", "reason:assurance_too_low since:7d"),
    (
        "What did this person do with models, whoever acted?",
        "(subject:prn_0199* or actor:prn_0199*) action:model:*",
    ),
    ("Which large requests went to one upstream?", "kind:intent target:openai bytes>100k"),
    ("What failed, but not because the caller left?", "end:failed -reason:stream_ended"),
    ("Which answers were slow or expensive?", "kind:outcome (took>30s or tokens>50000)"),
    ("What was redacted on one day?", "redacted>0 time:2026-11-20"),
    ("Everything about one decision.", "decision:dec_0199*"),
    ("Who changed the house?", "action:(policy:apply, key:*, resource:apply, epoch:advance) verdict:permit"),
    (
        "Did a process start, stop or lose its tail?",
        "event:(started, stopped, tail_cut) since:2026-11-01 until:now",
    ),
    ("Where do these words stand?", "\"contractors see masked data\" -verdict:deny"),
];

/// The body of the reference page, in Markdown.
#[must_use]
pub fn reference_page() -> String {
    let mut out = include_str!("grammar.md").to_owned();
    for (what, limit) in [
        ("bytes of a query", TEXT_MAX),
        ("parentheses within each other", DEPTH_MAX),
        ("conditions, values in lists and phrases in all", TERMS_MAX),
    ] {
        writeln!(out, "| {what} | {limit} |").unwrap_or_default();
    }
    out.push_str("\n## Fields\n\n| field | values | means |\n|---|---|---|\n");
    for field in Field::ALL {
        let (name, kind) = (field.name(), field.value_type().name());
        writeln!(out, "| `{name}` | {kind} | {} |", field.meaning().trim()).unwrap_or_default();
    }
    out.push_str("\n## Words\n\n| field | words |\n|---|---|\n");
    for field in Field::ALL {
        let words: Vec<_> = field.words().iter().map(|word| format!("`{word}`")).collect();
        match field {
            Field::Action => writeln!(out, "| `action` | see [actions](actions.md) |"),
            Field::Reason => {
                writeln!(out, "| `reason` | see [reason codes](reason-codes.md), and `custom:` codes of a policy bundle |")
            }
            _ if words.is_empty() => Ok(()),
            _ => writeln!(out, "| `{}` | {} |", field.name(), words.join(" ")),
        }
        .unwrap_or_default();
    }
    out.push_str("\n## Examples\n\n| question | query |\n|---|---|\n");
    for (question, query) in EXAMPLES {
        writeln!(out, "| {question} | `{query}` |").unwrap_or_default();
    }
    writeln!(out, "\n## Grammar\n\n```text\n{GRAMMAR}```").unwrap_or_default();
    out
}
