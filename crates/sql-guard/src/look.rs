//! What of a statement has to be known before rows are left out of it: which columns it uses of each source, and whether any of its
//! conditions could fail.
//!
//! A database may compute the conditions of a statement in any order. One that fails for some values, such as `1 / (salary - 10)`, would
//! tell of rows that are not seen, by failing, if it were computed before they are left out. So where any condition could fail, the
//! rows are left out first, which costs the use of indexes for that condition; where none could, the database plans freely.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_model::database_route::SqlType;

use crate::functions::{Kind, find};
use crate::names::Rules;
use crate::tree::{Body, Call, Expr, From, Query, Select};

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Looked {
    /// The columns of declared tables, by source.
    pub(crate) used: BTreeMap<u32, BTreeSet<Name>>,
    /// Whether no condition could fail, whatever the rows hold.
    pub(crate) calm: bool,
}

/// Signs that never fail between values of one type.
const CALM: [&str; 10] =
    ["=", "<>", "<", ">", "<=", ">=", "AND", "OR", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
/// Functions that never fail.
const CALM_FUNCTIONS: [&str; 8] =
    ["coalesce", "greatest", "ifnull", "least", "length", "lower", "nullif", "upper"];

/// What becomes of an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is given out by the statement itself: computed last, of rows that are seen.
    Given,
    /// It decides which rows there are, or could come to, by way of a query around it.
    Deciding,
}

impl Looked {
    pub(crate) fn at(rules: Rules, query: &Query) -> Self {
        let mut eye = Eye { rules, found: Self { used: BTreeMap::new(), calm: true } };
        eye.query(query, Place::Given);
        eye.found
    }
}

struct Eye {
    rules: Rules,
    found: Looked,
}

impl Eye {
    fn query(&mut self, query: &Query, place: Place) {
        for (_, named) in &query.with {
            self.query(named, Place::Deciding);
        }
        self.body(&query.body, place);
        for order in &query.order {
            self.expr(&order.key, place);
        }
        for bound in query.limit.iter().chain(&query.offset) {
            self.expr(bound, place);
        }
    }

    fn body(&mut self, body: &Body, place: Place) {
        match body {
            Body::Select(select) => self.select(select, place),
            Body::Nested(query) => self.query(query, place),
            Body::Set { left, right, .. } => {
                self.body(left, place);
                self.body(right, place);
            }
        }
    }

    fn select(&mut self, select: &Select, place: Place) {
        let Select { distinct: _, outputs, from, filter, group, having } = select;
        outputs.iter().for_each(|output| self.expr(output, place));
        from.iter().for_each(|from| self.from(from));
        let deciding = filter.iter().chain(group).chain(having);
        deciding.for_each(|expr| self.expr(expr, Place::Deciding));
    }

    fn from(&mut self, from: &From) {
        match from {
            From::Table { .. } | From::With { .. } => {}
            From::Query { query, .. } => self.query(query, Place::Deciding),
            From::Join { left, right, on, .. } => {
                self.from(left);
                self.from(right);
                on.iter().for_each(|on| self.expr(on, Place::Deciding));
            }
        }
    }

    fn expr(&mut self, expr: &Expr, place: Place) {
        if let Expr::Column { source, name } = expr {
            self.found.used.entry(*source).or_default().insert(name.clone());
        }
        self.found.calm &= place == Place::Given || self.is_calm(expr);
        let boxed = |of: &mut dyn FnMut(&Expr)| match expr {
            Expr::Column { .. }
            | Expr::Given { .. }
            | Expr::Ordinal(_)
            | Expr::Number(_)
            | Expr::Text(_)
            | Expr::Boolean(_)
            | Expr::Null
            | Expr::Parameter { .. }
            | Expr::Exists { .. }
            | Expr::Query(_) => {}
            Expr::Unary { of: one, .. }
            | Expr::Is { of: one, .. }
            | Expr::Cast { of: one, .. }
            | Expr::Extract { of: one, .. }
            | Expr::InQuery { of: one, .. } => of(one),
            Expr::Binary { left, right, .. } => [left, right].into_iter().for_each(|one| of(one)),
            Expr::Like { of: one, pattern, .. } => [one, pattern].into_iter().for_each(|one| of(one)),
            Expr::Between { of: one, low, high, .. } => [one, low, high].into_iter().for_each(|one| of(one)),
            Expr::In { of: one, list, .. } => std::iter::once(&**one).chain(list).for_each(of),
            Expr::Case { of: one, when, otherwise } => {
                one.iter().chain(otherwise).for_each(|one| of(one));
                when.iter().flat_map(|(when, then)| [when, then]).for_each(of);
            }
            Expr::Call(call) => {
                let Call { arguments, filter, over, .. } = &**call;
                arguments.iter().chain(filter).for_each(&mut *of);
                if let Some(window) = over {
                    window.partition.iter().chain(window.order.iter().map(|order| &order.key)).for_each(of);
                }
            }
        };
        boxed(&mut |inner| self.expr(inner, place));
        if let Expr::Exists { query, .. } | Expr::InQuery { query, .. } | Expr::Query(query) = expr {
            self.query(query, Place::Deciding);
        }
    }

    /// Whether an expression cannot fail, if what it is made of cannot.
    fn is_calm(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Column { .. }
            | Expr::Given { .. }
            | Expr::Ordinal(_)
            | Expr::Number(_)
            | Expr::Text(_)
            | Expr::Boolean(_)
            | Expr::Null
            | Expr::Is { .. }
            | Expr::Between { .. }
            | Expr::In { .. }
            | Expr::InQuery { .. }
            | Expr::Exists { .. }
            | Expr::Case { .. } => true,
            // Others are read by the server when a row asks for them.
            Expr::Parameter { kind, .. } => {
                matches!(kind, SqlType::Boolean | SqlType::Integer | SqlType::Text)
            }
            Expr::Unary { operator, of } => *operator == "NOT" || matches!(**of, Expr::Number(_)),
            Expr::Binary { operator, .. } => CALM.contains(operator),
            // A pattern that ends with what would take the next sign literally fails.
            Expr::Like { pattern, escape: None, .. } => {
                matches!(&**pattern, Expr::Text(text) if !text.contains('\\'))
            }
            // Of a constant it is done before there are rows.
            Expr::Cast { of, .. } => matches!(**of, Expr::Text(_) | Expr::Number(_) | Expr::Null),
            Expr::Call(call) => match find(self.rules, call.name).map(|function| function.kind) {
                Some(Kind::Aggregate | Kind::Window | Kind::Word) => true,
                Some(Kind::Scalar | Kind::Grammar) => {
                    call.name == "now" || CALM_FUNCTIONS.contains(&call.name)
                }
                None => false,
            },
            // More than one row fails.
            Expr::Query(_) | Expr::Like { .. } | Expr::Extract { .. } => false,
        }
    }
}
