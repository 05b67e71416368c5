//! The canonical form: one text for one query, and it parses to that query.

use std::fmt::{self, Write as _};
use std::ops::Bound;

use crate::field::{Field, Type};
use crate::quantity::{Quantity, Shown};
use crate::tree::{Condition, Node, Pattern, Query, Test};

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.node(), f)
    }
}

fn write(node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match node {
        Node::All(parts) => list(parts, " ", f),
        Node::Any(parts) => list(parts, " or ", f),
        Node::Not(part) => {
            f.write_char('-')?;
            inner(part, f)
        }
        Node::Field(condition) => field(condition, f),
        Node::Text(phrase) => write!(f, "{phrase}"),
    }
}

fn list(parts: &[Node], between: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            f.write_str(between)?;
        }
        inner(part, f)?;
    }
    Ok(())
}

fn inner(part: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if matches!(part, Node::All(_) | Node::Any(_)) {
        f.write_char('(')?;
        write(part, f)?;
        f.write_char(')')
    } else {
        write(part, f)
    }
}

fn field(condition: &Condition, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Condition { field, test } = condition;
    if let Test::Some(patterns) = test
        && let [Pattern::Range(from, to)] = patterns.as_slice()
        && let Some((operator, quantity)) = comparison(from, to)
    {
        return match (*field, operator) {
            (Field::Time, ">=") => write!(f, "since:{}", Shown(quantity, Type::Time)),
            (Field::Time, "<") => write!(f, "until:{}", Shown(quantity, Type::Time)),
            _ => write!(f, "{}{operator}{}", field.name(), Shown(quantity, field.value_type())),
        };
    }
    let (operator, patterns) = match test {
        Test::Some(patterns) => (":", patterns),
        Test::None(patterns) => ("!=", patterns),
    };
    write!(f, "{}{operator}", field.name())?;
    if let [only] = patterns.as_slice() {
        return pattern(only, field.value_type(), f);
    }
    for (place, one) in patterns.iter().enumerate() {
        f.write_str(if place == 0 { "(" } else { ", " })?;
        pattern(one, field.value_type(), f)?;
    }
    f.write_char(')')
}

/// The comparison that a range with one bound is.
const fn comparison(from: &Bound<Quantity>, to: &Bound<Quantity>) -> Option<(&'static str, Quantity)> {
    match (from, to) {
        (Bound::Included(from), Bound::Unbounded) => Some((">=", *from)),
        (Bound::Excluded(from), Bound::Unbounded) => Some((">", *from)),
        (Bound::Unbounded, Bound::Included(to)) => Some(("<=", *to)),
        (Bound::Unbounded, Bound::Excluded(to)) => Some(("<", *to)),
        _ => None,
    }
}

fn pattern(pattern: &Pattern, value_type: Type, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match pattern {
        Pattern::Exact(text) => value(text, f),
        Pattern::Prefix(text) => {
            value(text, f)?;
            f.write_char('*')
        }
        Pattern::Present => f.write_char('*'),
        Pattern::Range(Bound::Included(from), Bound::Included(to)) if from == to => from.write(f, value_type),
        Pattern::Range(from, to) => {
            // Only comparisons exclude a bound, and those are written above.
            if let Bound::Included(from) | Bound::Excluded(from) = from {
                from.write(f, value_type)?;
            }
            f.write_str("..")?;
            if let Bound::Included(to) | Bound::Excluded(to) = to {
                to.write(f, value_type)?;
            }
            Ok(())
        }
    }
}

fn value(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'/' | b'@' | b'+' | b'-');
    if !text.is_empty() && text.bytes().all(plain) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
