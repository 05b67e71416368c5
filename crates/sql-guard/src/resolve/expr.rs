//! Expressions.

use bartizan_model::SqlType;
use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Expr as Parsed, Interval,
    TrimWhereField, TypedString, Value, ValueWithSpan,
};

use crate::functions::FIELDS;
use crate::names::Rules;
use crate::operators;
use crate::refusal::{Place, Refusal, Why};
use crate::resolve::scope::Scope;
use crate::resolve::{Answer, CHAIN_MAX, Resolver, place};
use crate::tree::Expr;

/// Bytes of a number as it is written.
const NUMBER_MAX: usize = 100;
/// Values of a list.
const LIST_MAX: usize = 1_000;

fn refused(what: &'static str, expr: &Parsed) -> Refusal {
    Refusal { why: Why::NotAllowed(what), at: Place::of(place(expr)) }
}

impl Resolver<'_> {
    /// An expression. The columns in it are computed with, whatever it is.
    pub(super) fn expr(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Expr> {
        match expr {
            Parsed::Nested(inner) => self.deeper(|r| r.expr(inner, scope)),
            Parsed::BinaryOp { .. } => self.chain(expr, scope),
            _ => self.deeper(|r| r.plain(expr, scope)),
        }
    }

    fn boxed(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Box<Expr>> {
        self.expr(expr, scope).map(Box::new)
    }

    /// Signs in a row. They lean to the left, as deep as the row is long, so they are followed without going deeper.
    fn chain(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Expr> {
        let (mut next, mut rest) = (expr, Vec::new());
        while let Parsed::BinaryOp { left, op, right } = next {
            let sign = operators::binary(self.rules, op);
            let sign = sign.ok_or_else(|| refused(strange(op), right))?;
            rest.push((sign, right));
            if rest.len() > CHAIN_MAX {
                return Err(Why::TooLarge("more than 250 signs in a row").into());
            }
            next = left;
        }
        let mut left = self.expr(next, scope)?;
        for (operator, right) in rest.into_iter().rev() {
            let right = self.boxed(right, scope)?;
            left = Expr::Binary { operator, left: Box::new(left), right };
        }
        Ok(left)
    }

    fn plain(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Expr> {
        match expr {
            Parsed::Identifier(name) => self.used(std::slice::from_ref(name), scope),
            Parsed::CompoundIdentifier(parts) => self.used(parts, scope),
            Parsed::Value(value) => self.value(value),
            Parsed::Function(function) => self.call(function, scope),
            Parsed::UnaryOp { op, expr: of } => {
                let operator = operators::unary(*op).ok_or_else(|| refused("such a sign", of))?;
                Ok(Expr::Unary { operator, of: self.boxed(of, scope)? })
            }
            Parsed::IsNull(of) => self.is(of, "IS NULL", scope),
            Parsed::IsNotNull(of) => self.is(of, "IS NOT NULL", scope),
            Parsed::IsTrue(of) => self.is(of, "IS TRUE", scope),
            Parsed::IsNotTrue(of) => self.is(of, "IS NOT TRUE", scope),
            Parsed::IsFalse(of) => self.is(of, "IS FALSE", scope),
            Parsed::IsNotFalse(of) => self.is(of, "IS NOT FALSE", scope),
            Parsed::IsDistinctFrom(left, right) => self.two("IS DISTINCT FROM", left, right, scope),
            Parsed::IsNotDistinctFrom(left, right) => self.two("IS NOT DISTINCT FROM", left, right, scope),
            Parsed::Between { expr: of, negated, low, high } => Ok(Expr::Between {
                negated: *negated,
                of: self.boxed(of, scope)?,
                low: self.boxed(low, scope)?,
                high: self.boxed(high, scope)?,
            }),
            Parsed::Like { negated, any: false, expr: of, pattern, escape_char } => {
                self.like((*negated, false), (of, pattern), escape_char.as_deref(), scope)
            }
            Parsed::ILike { negated, any: false, expr: of, pattern, escape_char }
                if self.rules == Rules::Postgres =>
            {
                self.like((*negated, true), (of, pattern), escape_char.as_deref(), scope)
            }
            Parsed::InList { expr: of, list, negated } => {
                if list.is_empty() || list.len() > LIST_MAX {
                    return Err(Why::TooLarge("a list has 1 to 1,000 values").into());
                }
                let of = self.boxed(of, scope)?;
                let list = list.iter().map(|item| self.expr(item, scope)).collect::<Answer<_>>()?;
                Ok(Expr::In { negated: *negated, of, list })
            }
            Parsed::InSubquery { .. } | Parsed::Exists { .. } | Parsed::Subquery(_) => {
                self.nested(expr, scope)
            }
            Parsed::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                let of = operand.as_deref().map(|of| self.boxed(of, scope)).transpose()?;
                let mut when = Vec::with_capacity(conditions.len());
                for one in conditions {
                    when.push((self.expr(&one.condition, scope)?, self.expr(&one.result, scope)?));
                }
                let otherwise = else_result.as_deref().map(|e| self.boxed(e, scope)).transpose()?;
                Ok(Expr::Case { of, when, otherwise })
            }
            Parsed::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: of,
                data_type,
                format: None,
            } => {
                let kind = self.cast(data_type, of)?;
                Ok(Expr::Cast { of: self.boxed(of, scope)?, kind })
            }
            Parsed::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }) => {
                let kind = self.cast(data_type, expr)?;
                Ok(Expr::Cast { of: Box::new(self.value(value)?), kind })
            }
            Parsed::Interval(interval) => self.interval(interval, expr),
            _ => self.written_out(expr, scope),
        }
    }

    /// What the grammar knows of functions without calling them so.
    fn written_out(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Expr> {
        match expr {
            Parsed::Ceil { expr: of, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.named("ceil", &[of], place(expr), scope)
            }
            Parsed::Floor { expr: of, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.named("floor", &[of], place(expr), scope)
            }
            Parsed::Position { expr: what, r#in } => self.named("strpos", &[r#in, what], place(expr), scope),
            Parsed::Substring {
                expr: of,
                substring_from: Some(from),
                substring_for,
                special: _,
                shorthand: _,
            } => {
                let all: Vec<&Parsed> =
                    [&**of, &**from].into_iter().chain(substring_for.as_deref()).collect();
                self.named("substr", &all, place(expr), scope)
            }
            Parsed::Trim { trim_where, trim_what, expr: of, trim_characters } => {
                let name = match (trim_where, self.rules) {
                    (Some(TrimWhereField::Leading), _) => "ltrim",
                    (Some(TrimWhereField::Trailing), _) => "rtrim",
                    (None | Some(TrimWhereField::Both), Rules::Postgres) => "btrim",
                    (None | Some(TrimWhereField::Both), Rules::Sqlite) => "trim",
                };
                let what = match (trim_what, trim_characters.as_deref()) {
                    (what, None) => what.as_deref(),
                    (None, Some([one])) => Some(one),
                    _ => return Err(refused("`TRIM` of this kind", expr)),
                };
                let all: Vec<&Parsed> = [&**of].into_iter().chain(what).collect();
                self.named(name, &all, place(of), scope)
            }
            Parsed::Extract { field, syntax: _, expr: of } => {
                self.allowed("extract", place(of))?;
                let written = field.to_string().to_ascii_lowercase();
                let field = FIELDS.iter().find(|known| **known == written);
                let field = field.ok_or_else(|| refused("such a part of a moment", of))?;
                Ok(Expr::Extract { field, of: self.boxed(of, scope)? })
            }
            Parsed::Tuple(_) => Err(refused("a row of values", expr)),
            Parsed::Collate { .. } => Err(refused("`COLLATE`", expr)),
            Parsed::AnyOp { .. } | Parsed::AllOp { .. } => Err(refused("`ANY` and `ALL`: write `IN`", expr)),
            _ => Err(refused("an expression of this kind", expr)),
        }
    }

    /// A column that is computed with.
    fn used(&mut self, parts: &[sqlparser::ast::Ident], scope: &Scope<'_>) -> Answer<Expr> {
        let held = self.column(parts, scope)?;
        self.computed(&held.origins);
        Ok(held.expr)
    }

    fn is(&mut self, of: &Parsed, what: &'static str, scope: &Scope<'_>) -> Answer<Expr> {
        Ok(Expr::Is { of: self.boxed(of, scope)?, what })
    }

    fn two(
        &mut self,
        operator: &'static str,
        left: &Parsed,
        right: &Parsed,
        scope: &Scope<'_>,
    ) -> Answer<Expr> {
        let left = self.boxed(left, scope)?;
        Ok(Expr::Binary { operator, left, right: self.boxed(right, scope)? })
    }

    fn like(
        &mut self,
        (negated, insensitive): (bool, bool),
        (of, pattern): (&Parsed, &Parsed),
        escape: Option<&Parsed>,
        scope: &Scope<'_>,
    ) -> Answer<Expr> {
        let escape = match escape {
            None => None,
            Some(written) => {
                let text = match written {
                    Parsed::Value(ValueWithSpan {
                        value: Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text),
                        ..
                    }) => text,
                    _ => return Err(refused("such an `ESCAPE`", written)),
                };
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(one), None) => Some(one),
                    _ => return Err(refused("an `ESCAPE` of other than one character", written)),
                }
            }
        };
        let of = self.boxed(of, scope)?;
        Ok(Expr::Like { insensitive, negated, of, pattern: self.boxed(pattern, scope)?, escape })
    }

    /// A query within an expression: what it gives is compared or computed with.
    fn nested(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Expr> {
        let (of, query, negated) = match expr {
            Parsed::InSubquery { expr: of, subquery, negated } => (Some(of), subquery, *negated),
            Parsed::Exists { subquery, negated } => (None, subquery, *negated),
            Parsed::Subquery(query) => (None, query, false),
            _ => return Err(refused("an expression of this kind", expr)),
        };
        let of = of.map(|of| self.boxed(of, scope)).transpose()?;
        let (query, outputs) = self.query(query, Some(scope))?;
        outputs.iter().for_each(|output| self.computed(&output.origins));
        let is_exists = matches!(expr, Parsed::Exists { .. });
        if outputs.len() != 1 && !is_exists {
            return Err(refused("a query of several columns as a value", expr));
        }
        let query = Box::new(query);
        Ok(match of {
            Some(of) => Expr::InQuery { negated, of, query },
            None if is_exists => Expr::Exists { negated, query },
            None => Expr::Query(query),
        })
    }

    fn value(&mut self, value: &ValueWithSpan) -> Answer<Expr> {
        let refused = |what| Err(Refusal::at(Why::NotAllowed(what), value.span));
        match &value.value {
            Value::Number(digits, false) if is_number(digits) => Ok(Expr::Number(digits.clone())),
            Value::Number(..) => refused("such a number"),
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::UnicodeStringLiteral(text) => self.text(text, value),
            Value::DollarQuotedString(quoted) => self.text(&quoted.value, value),
            Value::Boolean(value) => Ok(Expr::Boolean(*value)),
            Value::Null => Ok(Expr::Null),
            Value::Placeholder(written) => self.parameter(written, value.span),
            _ => refused("a value in such quotes"),
        }
    }

    fn text(&self, text: &str, value: &ValueWithSpan) -> Answer<Expr> {
        // PostgreSQL holds no character of code 0, and neither driver takes it in a statement.
        if text.contains('\0') {
            return Err(Refusal::at(Why::NotAllowed("a character of code 0"), value.span));
        }
        Ok(Expr::Text(text.to_owned()))
    }

    fn cast(&self, kind: &DataType, of: &Parsed) -> Answer<SqlType> {
        operators::cast(self.rules, kind).ok_or_else(|| refused("a cast to such a type", of))
    }

    fn interval(&mut self, interval: &Interval, expr: &Parsed) -> Answer<Expr> {
        let Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision } =
            interval;
        let bare =
            leading_precision.is_none() && last_field.is_none() && fractional_seconds_precision.is_none();
        let text = match &**value {
            Parsed::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
            _ => None,
        };
        let (Some(text), true, Rules::Postgres) = (text, bare, self.rules) else {
            return Err(refused("an interval of this kind", expr));
        };
        let text = match leading_field {
            None => text.clone(),
            Some(field) => format!("{text} {}", field.to_string().to_ascii_lowercase()),
        };
        if text.contains('\0') {
            return Err(refused("a character of code 0", expr));
        }
        Ok(Expr::Cast { of: Box::new(Expr::Text(text)), kind: SqlType::Interval })
    }
}

/// Why a sign is refused, for the ones that are met.
fn strange(operator: &BinaryOperator) -> &'static str {
    match operator {
        BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch
        | BinaryOperator::Regexp => "a regular expression: write `LIKE`",
        BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Custom(_) => "an operator of a schema",
        _ => "such a sign",
    }
}

/// Digits with a point among them, and an exponent.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.trim_start_matches(['+', '-']))),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    text.len() <= NUMBER_MAX
        && digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|e| digits(e) && (1..=3).contains(&e.len()))
}
