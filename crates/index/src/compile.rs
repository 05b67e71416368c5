//! From a query to SQL. The text is made of constants only; whatever was typed goes in as a parameter.

use std::ops::Bound;

use bartizan_base::Timestamp;
use bartizan_query::{Condition, Field, Node, Pattern, Phrase, Quantity, Query, Test};
use rusqlite::types::Value;

/// Where facts with one value at most are kept.
pub(crate) const COLUMNS: &[(Field, &str)] = &[
    (Field::Index, "idx"),
    (Field::Time, "time_us"),
    (Field::Kind, "kind"),
    (Field::Verdict, "verdict"),
    (Field::Subject, "subject"),
    (Field::SubjectKind, "subject_kind"),
    (Field::Key, "api_key"),
    (Field::Issuer, "issuer"),
    (Field::Credential, "credential"),
    (Field::Assurance, "assurance"),
    (Field::Action, "action"),
    (Field::Resource, "resource"),
    (Field::ResourceType, "resource_type"),
    (Field::Target, "target"),
    (Field::Dialect, "dialect"),
    (Field::Policy, "policy"),
    (Field::Decision, "decision"),
    (Field::Node, "node"),
    (Field::Seq, "seq"),
    (Field::Bytes, "bytes"),
    (Field::Tokens, "tokens"),
    (Field::Took, "took_us"),
    (Field::Redacted, "redacted"),
    (Field::Repeated, "repeated"),
    (Field::Status, "status"),
    (Field::End, "ending"),
    (Field::Event, "event"),
];

/// Facts that can have several values, by their number in `lists`. A number is never used again.
pub(crate) const LISTS: &[(Field, i64)] = &[(Field::Reason, 1), (Field::Actor, 2), (Field::Rule, 3)];

/// A piece of SQL with the values of its parameters, in their order.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) parameters: Vec<Value>,
}

impl Sql {
    /// The condition on `entries e` that a query is, at the moment `now`. It is true or false, never null: a fact that is
    /// absent holds no condition, so its negation holds.
    pub(crate) fn of(query: &Query, now: Timestamp) -> Self {
        let mut sql = Self::default();
        sql.node(query.node(), now);
        sql
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends SQL that ends with a parameter.
    pub(crate) fn push_with(&mut self, text: &str, value: impl Into<Value>) {
        self.text.push_str(text);
        self.text.push('?');
        self.parameters.push(value.into());
    }

    // Recursion is bounded: the parser limits the depth.
    fn node(&mut self, node: &Node, now: Timestamp) {
        match node {
            Node::All(parts) if parts.is_empty() => self.push("1"),
            Node::All(parts) => self.joined(parts, " and ", |sql, part| sql.node(part, now)),
            Node::Any(parts) => self.joined(parts, " or ", |sql, part| sql.node(part, now)),
            Node::Not(part) => {
                self.push("not ");
                self.node(part, now);
            }
            Node::Field(condition) => self.condition(condition, now),
            Node::Text(phrase) => {
                self.push_with("(e.id in (select rowid from words where words match ", matching(phrase));
                self.push("))");
            }
        }
    }

    fn joined<T>(&mut self, parts: &[T], between: &str, mut write: impl FnMut(&mut Self, &T)) {
        self.push("(");
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                self.push(between);
            }
            write(self, part);
        }
        self.push(")");
    }

    fn condition(&mut self, condition: &Condition, now: Timestamp) {
        let (patterns, negated) = match &condition.test {
            Test::Some(patterns) => (patterns, false),
            Test::None(patterns) => (patterns, true),
        };
        if let Some((_, column)) = COLUMNS.iter().find(|(field, _)| *field == condition.field) {
            self.push("(e.");
            self.push(column);
            self.push(if negated { " is not null and not " } else { " is not null and " });
            self.patterns(&format!("e.{column}"), patterns, now);
            self.push(")");
        } else if let Some((_, code)) = LISTS.iter().find(|(field, _)| *field == condition.field) {
            if negated {
                self.push_with("(e.id in (select entry from lists where field = ", *code);
                self.push(") and not ");
            }
            self.push_with("e.id in (select entry from lists where field = ", *code);
            self.push(" and ");
            self.patterns("value", patterns, now);
            self.push(if negated { "))" } else { ")" });
        } else {
            // What is left is the origin, which every entry has.
            self.push(if negated { "e.log not in " } else { "e.log in " });
            self.push("(select id from logs where ");
            self.patterns("origin", patterns, now);
            self.push(")");
        }
    }

    fn patterns(&mut self, column: &str, patterns: &[Pattern], now: Timestamp) {
        self.joined(patterns, " or ", |sql, pattern| sql.pattern(column, pattern, now));
    }

    fn pattern(&mut self, column: &str, pattern: &Pattern, now: Timestamp) {
        match pattern {
            Pattern::Present => self.push("1"),
            Pattern::Exact(text) => self.compared(column, " = ", text.clone()),
            Pattern::Prefix(text) => {
                self.push("(");
                self.compared(column, " >= ", text.clone());
                if let Some(after) = after_all_with(text) {
                    self.push(" and ");
                    self.compared(column, " < ", after);
                }
                self.push(")");
            }
            Pattern::Range(from, to) => {
                let number = |quantity: &Quantity| i64::try_from(quantity.at(now)).unwrap_or(i64::MAX);
                self.push("(1");
                match from {
                    Bound::Included(from) => self.bounded(column, " >= ", number(from)),
                    Bound::Excluded(from) => self.bounded(column, " > ", number(from)),
                    Bound::Unbounded => {}
                }
                match to {
                    Bound::Included(to) => self.bounded(column, " <= ", number(to)),
                    Bound::Excluded(to) => self.bounded(column, " < ", number(to)),
                    Bound::Unbounded => {}
                }
                self.push(")");
            }
        }
    }

    fn bounded(&mut self, column: &str, operator: &str, value: i64) {
        self.push(" and ");
        self.compared(column, operator, value);
    }

    fn compared(&mut self, column: &str, operator: &str, value: impl Into<Value>) {
        self.push(column);
        self.push_with(operator, value);
    }
}

/// The least text that comes after every text that begins with `prefix`, in the order of bytes; none if there is none.
fn after_all_with(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of characters is that of their UTF-8; the range steps over what is no character.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// A phrase in the language of FTS5. Words are letters and digits only, so nothing has to be escaped.
fn matching(phrase: &Phrase) -> String {
    format!("\"{}\"{}", phrase.words(), if phrase.is_prefix() { " *" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_kept_in_one_place() {
        for field in Field::ALL {
            let columns = COLUMNS.iter().filter(|(kept, _)| kept == field).count();
            let lists = LISTS.iter().filter(|(kept, _)| kept == field).count();
            assert_eq!(columns + lists, usize::from(*field != Field::Origin), "{field:?}");
        }
    }

    #[test]
    fn nothing_that_was_typed_stands_in_the_sql() {
        let typed = r#"rule:"x' or 1 --" "evil'); drop" -resource:"evil*"* dialect!=("evil", "e")"#;
        let sql = Sql::of(&typed.parse().unwrap(), Timestamp::default());
        assert!(
            !sql.text.contains("evil") && !sql.text.contains("--") && !sql.text.contains('\''),
            "{}",
            sql.text
        );
        assert_eq!(sql.text.matches('?').count(), sql.parameters.len());
    }

    #[test]
    fn the_text_after_a_prefix_is_the_least_one() {
        assert_eq!(after_all_with("ab").as_deref(), Some("ac"));
        assert_eq!(after_all_with("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(after_all_with("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_all_with("\u{10ffff}"), None);
        assert_eq!(after_all_with(""), None);
    }
}
