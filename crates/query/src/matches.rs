//! What a query means.

use std::ops::Bound;

use bartizan_base::Timestamp;

use crate::facts::{Facts, Value};
use crate::quantity::Quantity;
use crate::tree::{Condition, Node, Pattern, Query, Test};

impl Query {
    /// Whether the entry with these facts is one that is asked for at the moment `now`. This is the meaning of the
    /// language; whoever answers queries in another way must agree with it.
    #[must_use]
    pub fn matches(&self, facts: &Facts, now: Timestamp) -> bool {
        holds(self.node(), facts, now)
    }
}

// Recursion is bounded: the parser limits the depth.
fn holds(node: &Node, facts: &Facts, now: Timestamp) -> bool {
    match node {
        Node::All(parts) => parts.iter().all(|part| holds(part, facts, now)),
        Node::Any(parts) => parts.iter().any(|part| holds(part, facts, now)),
        Node::Not(part) => !holds(part, facts, now),
        Node::Field(condition) => condition_holds(condition, facts, now),
        Node::Text(phrase) => phrase.stands_in(facts.words()),
    }
}

fn condition_holds(condition: &Condition, facts: &Facts, now: Timestamp) -> bool {
    let mut values = facts.values(condition.field).peekable();
    match &condition.test {
        Test::Some(patterns) => values.any(|value| patterns.iter().any(|pattern| fits(value, pattern, now))),
        Test::None(patterns) => {
            values.peek().is_some()
                && !values.any(|value| patterns.iter().any(|pattern| fits(value, pattern, now)))
        }
    }
}

fn fits(value: &Value, pattern: &Pattern, now: Timestamp) -> bool {
    match (value, pattern) {
        (_, Pattern::Present) => true,
        (Value::Text(value), Pattern::Exact(text)) => value == text,
        (Value::Text(value), Pattern::Prefix(text)) => value.starts_with(text.as_str()),
        (Value::Number(value), Pattern::Range(from, to)) => {
            let bound = |bound: &Bound<Quantity>| bound.map(|quantity| quantity.at(now));
            std::ops::RangeBounds::contains(&(bound(from), bound(to)), value)
        }
        (Value::Text(_), Pattern::Range(..)) | (Value::Number(_), Pattern::Exact(_) | Pattern::Prefix(_)) => {
            false
        }
    }
}
