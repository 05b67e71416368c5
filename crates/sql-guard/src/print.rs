//! From the tree to text: fully qualified, everything in parentheses, every name quoted.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_model::database_route::SqlType;

use crate::functions::{Kind, find};
use crate::guard::{ROW, RowsOf};
use crate::names::Rules;
use crate::tree::{Body, Call, Expr, From, Join, Order, Query, Select, SetOperator, Window};

/// How parameters are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholders {
    /// As the database's protocol numbers them.
    Numbered,
    /// As they are read again: `:p1`.
    #[cfg(test)]
    Named,
}

/// Which rows are seen.
#[derive(Debug, Default)]
pub(crate) struct Seen<'s> {
    /// Of which tables only some.
    pub(crate) rows: Option<&'s BTreeMap<Name, RowsOf>>,
    /// The columns that are used of each source.
    pub(crate) used: BTreeMap<u32, BTreeSet<Name>>,
    /// Whether nothing of the statement may be computed before it is known which rows are seen.
    pub(crate) fenced: bool,
}

/// Writes statements for one dialect.
#[derive(Debug)]
pub(crate) struct Printer<'s> {
    rules: Rules,
    placeholders: Placeholders,
    seen: &'s Seen<'s>,
    out: String,
}

pub(crate) fn print(rules: Rules, placeholders: Placeholders, seen: &Seen<'_>, query: &Query) -> String {
    let mut printer = Printer { rules, placeholders, seen, out: String::with_capacity(512) };
    printer.query(query);
    printer.out
}

pub(crate) const fn type_name(rules: Rules, kind: SqlType) -> &'static str {
    match (rules, kind) {
        (Rules::Sqlite, SqlType::Integer | SqlType::Boolean) => "INTEGER",
        (Rules::Sqlite, SqlType::Number) => "REAL",
        (Rules::Sqlite, SqlType::Decimal) => "NUMERIC",
        (Rules::Sqlite, _) => "TEXT",
        (Rules::Postgres, SqlType::Boolean) => "bool",
        (Rules::Postgres, SqlType::Integer) => "int8",
        (Rules::Postgres, SqlType::Number) => "float8",
        (Rules::Postgres, SqlType::Decimal) => "numeric",
        (Rules::Postgres, SqlType::Text) => "text",
        (Rules::Postgres, SqlType::Date) => "date",
        (Rules::Postgres, SqlType::Timestamp) => "timestamp",
        (Rules::Postgres, SqlType::Timestamptz) => "timestamptz",
        (Rules::Postgres, SqlType::Interval) => "interval",
        (Rules::Postgres, SqlType::Uuid) => "uuid",
        (Rules::Postgres, SqlType::Json) => "jsonb",
        (Rules::Postgres, SqlType::Bytes) => "bytea",
    }
}

/// A text as a literal that means it whatever the server is set to.
pub(crate) fn literal(rules: Rules, text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match rules {
        Rules::Postgres if text.contains('\\') => format!("E'{}'", doubled.replace('\\', "\\\\")),
        _ => format!("'{doubled}'"),
    }
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Names are declared ones or of our own making; none holds a quote.
    fn name(&mut self, name: &str) {
        self.put("\"");
        self.put(name);
        self.put("\"");
    }

    fn source(&mut self, source: u32) {
        self.name(&format!("t{source}"));
    }

    fn list<T>(&mut self, all: &[T], mut one: impl FnMut(&mut Self, &T)) {
        for (at, item) in all.iter().enumerate() {
            if at > 0 {
                self.put(", ");
            }
            one(self, item);
        }
    }

    fn query(&mut self, query: &Query) {
        if !query.with.is_empty() {
            self.put("WITH ");
            self.list(&query.with, |p, (name, query)| {
                p.name(&format!("w{name}"));
                p.put(" AS (");
                p.query(query);
                p.put(")");
            });
            self.put(" ");
        }
        self.body(&query.body);
        if !query.order.is_empty() {
            self.put(" ORDER BY ");
            self.list(&query.order, Self::order);
        }
        if let Some(limit) = &query.limit {
            self.put(" LIMIT ");
            self.expr(limit);
        }
        if let Some(offset) = &query.offset {
            self.put(" OFFSET ");
            self.expr(offset);
        }
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::Select(select) => self.select(select),
            Body::Nested(query) => {
                self.put("(");
                self.query(query);
                self.put(")");
            }
            Body::Set { operator, all, left, right } => {
                self.operand(left);
                self.put(match operator {
                    SetOperator::Union => " UNION",
                    SetOperator::Except => " EXCEPT",
                    SetOperator::Intersect => " INTERSECT",
                });
                self.put(if *all { " ALL " } else { " " });
                self.operand(right);
            }
        }
    }

    /// SQLite knows no parentheses here; the resolver lets nothing through that would need them there.
    fn operand(&mut self, body: &Body) {
        let bare = self.rules == Rules::Sqlite || matches!(body, Body::Nested(_));
        self.put(if bare { "" } else { "(" });
        self.body(body);
        self.put(if bare { "" } else { ")" });
    }

    fn select(&mut self, select: &Select) {
        self.put(if select.distinct { "SELECT DISTINCT " } else { "SELECT " });
        for (at, output) in select.outputs.iter().enumerate() {
            if at > 0 {
                self.put(", ");
            }
            self.expr(output);
            self.put(" AS ");
            self.name(&format!("c{}", at + 1));
        }
        if !select.from.is_empty() {
            self.put(" FROM ");
            self.list(&select.from, Self::from);
        }
        if let Some(filter) = &select.filter {
            self.put(" WHERE ");
            self.expr(filter);
        }
        if !select.group.is_empty() {
            self.put(" GROUP BY ");
            self.list(&select.group, Self::expr);
        }
        if let Some(having) = &select.having {
            self.put(" HAVING ");
            self.expr(having);
        }
    }

    fn from(&mut self, from: &From) {
        match from {
            From::Table { schema, table, source } => {
                match self.seen.rows.and_then(|rows| rows.get(table)) {
                    None => {
                        self.name(schema);
                        self.put(".");
                        self.name(table);
                    }
                    Some(rows) => self.rows(schema, table, *source, rows),
                }
                self.put(" AS ");
                self.source(*source);
            }
            From::With { name, source } => {
                self.name(&format!("w{name}"));
                self.put(" AS ");
                self.source(*source);
            }
            From::Query { query, source } => {
                self.put("(");
                self.query(query);
                self.put(") AS ");
                self.source(*source);
            }
            From::Join { left, right, kind, on } => {
                self.put("(");
                self.from(left);
                self.put(match kind {
                    Join::Inner => " INNER JOIN ",
                    Join::Left => " LEFT JOIN ",
                    Join::Right => " RIGHT JOIN ",
                    Join::Full => " FULL JOIN ",
                    Join::Cross => " CROSS JOIN ",
                });
                self.from(right);
                if let Some(on) = on {
                    self.put(" ON ");
                    self.expr(on);
                }
                self.put(")");
            }
        }
    }

    /// The rows of a table that are seen, with the columns that are used of them.
    fn rows(&mut self, schema: &str, table: &str, source: u32, rows: &RowsOf) {
        let nothing = BTreeSet::new();
        let used = self.seen.used.get(&source).unwrap_or(&nothing);
        self.put("(SELECT ");
        // SQLite has no selection of nothing.
        self.put(if used.is_empty() { "NULL AS \"n\"" } else { "" });
        for (at, column) in used.iter().enumerate() {
            self.put(if at > 0 { ", " } else { "" });
            self.name(ROW);
            self.put(".");
            self.name(column);
            self.put(" AS ");
            self.name(column);
        }
        self.put(" FROM ");
        self.name(schema);
        self.put(".");
        self.name(table);
        self.put(" AS ");
        self.name(ROW);
        self.put(" WHERE (");
        self.put(&rows.condition);
        self.put(")");
        // Neither planner moves conditions over such a border, since they would change what it leaves out.
        self.put(match (self.seen.fenced, self.rules) {
            (false, _) => "",
            (true, Rules::Postgres) => " OFFSET 0",
            (true, Rules::Sqlite) => " LIMIT -1 OFFSET 0",
        });
        self.put(")");
    }

    fn order(&mut self, order: &Order) {
        self.expr(&order.key);
        self.put(if order.descending { " DESC" } else { " ASC" });
        match order.nulls_first {
            None => {}
            Some(true) => self.put(" NULLS FIRST"),
            Some(false) => self.put(" NULLS LAST"),
        }
    }

    fn parameter(&mut self, place: u32, kind: SqlType) {
        if self.placeholders != Placeholders::Numbered {
            self.put(&format!(":p{place}"));
            return;
        }
        let name = type_name(self.rules, kind);
        let text = match self.rules {
            Rules::Sqlite => format!("?{place}"),
            Rules::Postgres => match kind {
                SqlType::Boolean | SqlType::Integer | SqlType::Number | SqlType::Text => {
                    format!("CAST(${place} AS {name})")
                }
                // Bound as text, so that the database reads it and nobody else.
                _ => format!("CAST(CAST(${place} AS text) AS {name})"),
            },
        };
        self.put(&text);
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Column { source, name } => {
                self.source(*source);
                self.put(".");
                self.name(name);
            }
            Expr::Given { source, place } => {
                self.source(*source);
                self.put(".");
                self.name(&format!("c{place}"));
            }
            Expr::Ordinal(place) => self.put(&place.to_string()),
            Expr::Number(digits) => self.put(digits),
            Expr::Text(text) => {
                let text = literal(self.rules, text);
                self.put(&text);
            }
            Expr::Boolean(value) => self.put(if *value { "TRUE" } else { "FALSE" }),
            Expr::Null => self.put("NULL"),
            Expr::Parameter { place, kind } => self.parameter(*place, *kind),
            Expr::Query(query) => {
                self.put("(");
                self.query(query);
                self.put(")");
            }
            Expr::Cast { of, kind } => {
                self.put("CAST(");
                self.expr(of);
                self.put(" AS ");
                self.put(type_name(self.rules, *kind));
                self.put(")");
            }
            Expr::Extract { field, of } => {
                self.put("EXTRACT(");
                self.put(field);
                self.put(" FROM ");
                self.expr(of);
                self.put(")");
            }
            Expr::Call(call) => self.call(call),
            Expr::Exists { negated, query } => {
                self.put(if *negated { "(NOT EXISTS (" } else { "(EXISTS (" });
                self.query(query);
                self.put("))");
            }
            _ => {
                self.put("(");
                self.compound(expr);
                self.put(")");
            }
        }
    }

    /// What is always in parentheses.
    fn compound(&mut self, expr: &Expr) {
        let not = |negated: bool| if negated { " NOT" } else { "" };
        match expr {
            Expr::Unary { operator, of } => {
                self.put(operator);
                self.put(" ");
                self.expr(of);
            }
            Expr::Is { of, what } => {
                self.expr(of);
                self.put(" ");
                self.put(what);
            }
            Expr::Binary { operator, left, right } => {
                self.expr(left);
                self.put(" ");
                self.put(operator);
                self.put(" ");
                self.expr(right);
            }
            Expr::Like { insensitive, negated, of, pattern, escape } => {
                self.expr(of);
                self.put(not(*negated));
                self.put(if *insensitive { " ILIKE " } else { " LIKE " });
                self.expr(pattern);
                if let Some(escape) = escape {
                    self.put(" ESCAPE ");
                    let text = literal(self.rules, &escape.to_string());
                    self.put(&text);
                }
            }
            Expr::Between { negated, of, low, high } => {
                self.expr(of);
                self.put(not(*negated));
                self.put(" BETWEEN ");
                self.expr(low);
                self.put(" AND ");
                self.expr(high);
            }
            Expr::In { negated, of, list } => {
                self.expr(of);
                self.put(not(*negated));
                self.put(" IN (");
                self.list(list, Self::expr);
                self.put(")");
            }
            Expr::InQuery { negated, of, query } => {
                self.expr(of);
                self.put(not(*negated));
                self.put(" IN (");
                self.query(query);
                self.put(")");
            }
            Expr::Case { of, when, otherwise } => {
                self.put("CASE");
                if let Some(of) = of {
                    self.put(" ");
                    self.expr(of);
                }
                for (condition, result) in when {
                    self.put(" WHEN ");
                    self.expr(condition);
                    self.put(" THEN ");
                    self.expr(result);
                }
                if let Some(otherwise) = otherwise {
                    self.put(" ELSE ");
                    self.expr(otherwise);
                }
                self.put(" END");
            }
            other => self.expr(other),
        }
    }

    fn call(&mut self, call: &Call) {
        let kind = find(self.rules, call.name).map(|function| function.kind);
        let qualified =
            self.rules == Rules::Postgres && !matches!(kind, Some(Kind::Grammar | Kind::Word) | None);
        if qualified {
            self.put("pg_catalog.");
            self.name(call.name);
        } else {
            self.put(call.name);
        }
        if kind == Some(Kind::Word) {
            return;
        }
        self.put(if call.distinct { "(DISTINCT " } else { "(" });
        if call.star {
            self.put("*");
        }
        self.list(&call.arguments, Self::expr);
        self.put(")");
        if let Some(filter) = &call.filter {
            self.put(" FILTER (WHERE ");
            self.expr(filter);
            self.put(")");
        }
        if let Some(window) = &call.over {
            self.window(window);
        }
    }

    fn window(&mut self, window: &Window) {
        self.put(" OVER (");
        if !window.partition.is_empty() {
            self.put("PARTITION BY ");
            self.list(&window.partition, Self::expr);
        }
        if !window.order.is_empty() {
            self.put(if window.partition.is_empty() { "ORDER BY " } else { " ORDER BY " });
            self.list(&window.order, Self::order);
        }
        self.put(")");
    }
}
