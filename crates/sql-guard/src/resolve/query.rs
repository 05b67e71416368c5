//! Queries, selections and what is put together of them.

use sqlparser::ast::{
    Cte, Distinct, Expr as Parsed, GroupByExpr, LimitClause, Offset, OrderBy, OrderByExpr, OrderByKind,
    OrderByOptions, OrderBySort, Query as ParsedQuery, Select as ParsedSelect, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator as ParsedOperator, SetQuantifier, Value,
    WildcardAdditionalOptions, With,
};

use crate::names::Rules;
use crate::refusal::{Refusal, Why, shown};
use crate::resolve::from::{distinct, parts};
use crate::resolve::scope::{Held, Named, Output, Scope, Source};
use crate::resolve::{Answer, OUTPUTS_MAX, Resolver, place};
use crate::tree::{Body, Expr, Order, Query, Select, SetOperator};

/// A body with what it gives and, of a selection, where it is from.
type Whole = (Body, Vec<Output>, Option<Vec<Source>>);

fn not(what: &'static str) -> Refusal {
    Why::NotAllowed(what).into()
}

impl Resolver<'_> {
    pub(super) fn query(
        &mut self,
        query: &ParsedQuery,
        outer: Option<&Scope<'_>>,
    ) -> Answer<(Query, Vec<Output>)> {
        let ParsedQuery {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if !locks.is_empty() {
            return Err(not("locking rows"));
        }
        if fetch.is_some() {
            return Err(not("`FETCH`: write `LIMIT`"));
        }
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty()
        {
            return Err(not("a query with such options"));
        }
        let visible = self.with.len();
        let with = match with {
            Some(with) => self.deeper(|r| r.with(with))?,
            None => Vec::new(),
        };
        let (body, outputs, sources) = self.deeper(|r| r.body(body, outer))?;
        let order = self.order(order_by.as_ref(), &outputs, sources.as_deref(), outer)?;
        let (limit, offset) = self.limits(limit_clause.as_ref())?;
        self.with.truncate(visible);
        let bare = with.is_empty() && order.is_empty() && limit.is_none() && offset.is_none();
        match body {
            // Parentheses around all of it mean nothing.
            Body::Nested(inner) if bare => Ok((*inner, outputs)),
            body => Ok((Query { with, body, order, limit, offset }, outputs)),
        }
    }

    fn with(&mut self, with: &With) -> Answer<Vec<(u32, Query)>> {
        let With { with_token: _, recursive, cte_tables } = with;
        if *recursive {
            return Err(not("`RECURSIVE`"));
        }
        let visible = self.with.len();
        let mut all = Vec::new();
        for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
            if from.is_some() || alias.at.is_some() {
                return Err(not("a named query of this kind"));
            }
            let name = self.rules.folded(&alias.name)?;
            if self.with.iter().skip(visible).any(|named| named.name == name) {
                return Err(Refusal::at(Why::Ambiguous(shown(&name)), alias.name.span));
            }
            let (query, mut outputs) = self.query(query, None)?;
            if !alias.columns.is_empty() {
                if alias.columns.len() != outputs.len() || alias.columns.iter().any(|c| c.data_type.is_some())
                {
                    return Err(Refusal::at(Why::Arguments(shown(&name)), alias.name.span));
                }
                for (output, column) in outputs.iter_mut().zip(&alias.columns) {
                    output.name = Some(self.rules.folded(&column.name)?);
                    output.shown = shown(&column.name.value);
                }
            }
            let number = self.next_name();
            self.with.push(Named { name, number, outputs });
            all.push((number, query));
        }
        Ok(all)
    }

    fn body(&mut self, body: &SetExpr, outer: Option<&Scope<'_>>) -> Answer<Whole> {
        match body {
            SetExpr::Select(select) => {
                let (select, outputs, sources) = self.select(select, outer)?;
                Ok((Body::Select(Box::new(select)), outputs, Some(sources)))
            }
            SetExpr::Query(query) => {
                let (query, outputs) = self.query(query, outer)?;
                // A lone selection in parentheses is that selection.
                let bare = query.with.is_empty()
                    && query.order.is_empty()
                    && query.limit.is_none()
                    && query.offset.is_none();
                let body = if bare { query.body } else { Body::Nested(Box::new(query)) };
                Ok((body, outputs, None))
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                self.set((left, right), *op, *set_quantifier, outer)
            }
            SetExpr::Values(_) => Err(not("`VALUES`")),
            SetExpr::Table(_) => Err(not("`TABLE`: write `SELECT`")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(Why::NotAQuery.into())
            }
        }
    }

    fn set(
        &mut self,
        (left, right): (&SetExpr, &SetExpr),
        operator: ParsedOperator,
        quantifier: SetQuantifier,
        outer: Option<&Scope<'_>>,
    ) -> Answer<Whole> {
        let operator = match operator {
            ParsedOperator::Union => SetOperator::Union,
            ParsedOperator::Except => SetOperator::Except,
            ParsedOperator::Intersect => SetOperator::Intersect,
            ParsedOperator::Minus => return Err(not("`MINUS`: write `EXCEPT`")),
        };
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            _ => return Err(not("`BY NAME`")),
        };
        let (left, mut outputs, _) = self.deeper(|r| r.body(left, outer))?;
        let (right, others, _) = self.deeper(|r| r.body(right, outer))?;
        if self.rules == Rules::Sqlite {
            let plain = !matches!(left, Body::Nested(_)) && matches!(right, Body::Select(_));
            if !plain || (all && operator != SetOperator::Union) {
                return Err(not("queries put together in this order: use a subquery"));
            }
        }
        if outputs.len() != others.len() {
            return Err(Why::Arguments("UNION".to_owned()).into());
        }
        for (output, other) in outputs.iter_mut().zip(others) {
            output.origins.extend(other.origins);
        }
        // Anything but appending compares rows.
        if !all || operator != SetOperator::Union {
            outputs.iter().for_each(|output| self.computed(&output.origins));
        }
        Ok((Body::Set { operator, all, left: Box::new(left), right: Box::new(right) }, outputs, None))
    }

    fn select(
        &mut self,
        select: &ParsedSelect,
        outer: Option<&Scope<'_>>,
    ) -> Answer<(Select, Vec<Output>, Vec<Source>)> {
        let ParsedSelect {
            select_token: _,
            optimizer_hints: _,
            distinct: unique,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        if into.is_some() {
            return Err(not("`SELECT INTO`"));
        }
        let plain = select_modifiers.is_none()
            && top.is_none()
            && exclude.is_none()
            && lateral_views.is_empty()
            && prewhere.is_none()
            && connect_by.is_empty()
            && cluster_by.is_empty()
            && distribute_by.is_empty()
            && sort_by.is_empty()
            && named_window.is_empty()
            && qualify.is_none()
            && value_table_mode.is_none()
            && *flavor == SelectFlavor::Standard;
        if !plain {
            return Err(not("a selection with such options"));
        }
        let unique = match unique {
            None | Some(Distinct::All) => false,
            Some(Distinct::Distinct) => true,
            Some(Distinct::On(_)) => return Err(not("`DISTINCT ON`")),
        };
        let (mut items, mut sources) = (Vec::new(), Vec::new());
        for item in from {
            let (item, more) = self.from(item, outer)?;
            items.push(item);
            sources.extend(more);
        }
        distinct(&sources)?;
        let scope = Scope { sources: &sources, outer };
        let filter = selection.as_ref().map(|filter| self.expr(filter, &scope)).transpose()?;
        let (mut given, mut outputs) = (Vec::new(), Vec::new());
        for item in projection {
            self.item(item, &scope, &mut given, &mut outputs)?;
        }
        if given.is_empty() || given.len() > OUTPUTS_MAX {
            return Err(Why::TooLarge("a query gives 1 to 256 columns").into());
        }
        if unique {
            outputs.iter().for_each(|output| self.computed(&output.origins));
        }
        let GroupByExpr::Expressions(keys, modifiers) = group_by else { return Err(not("`GROUP BY ALL`")) };
        if !modifiers.is_empty() {
            return Err(not("`GROUP BY` of this kind"));
        }
        let group = keys.iter().map(|key| self.group(key, &outputs, &scope)).collect::<Answer<_>>()?;
        let having = having.as_ref().map(|having| self.expr(having, &scope)).transpose()?;
        Ok((
            Select { distinct: unique, outputs: given, from: items, filter, group, having },
            outputs,
            sources,
        ))
    }

    /// One item of the list of outputs.
    fn item(
        &mut self,
        item: &SelectItem,
        scope: &Scope<'_>,
        given: &mut Vec<Expr>,
        outputs: &mut Vec<Output>,
    ) -> Answer<()> {
        let mut add = |resolver: &mut Self, held: Held| {
            resolver.read(&held);
            given.push(held.expr);
            outputs.push(Output { shown: held.shown, name: held.name, origins: held.origins });
        };
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let held = self.output(expr, scope)?;
                add(self, held);
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = Some(self.rules.folded(alias)?);
                let held = self.output(expr, scope)?;
                add(self, Held { name, shown: shown(&alias.value), ..held });
            }
            SelectItem::Wildcard(options) => {
                plain(options)?;
                if scope.sources.is_empty() {
                    return Err(not("`*` without a table"));
                }
                let all: Vec<Held> = scope.sources.iter().flat_map(|s| s.columns.clone()).collect();
                all.into_iter().for_each(|held| add(self, held));
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                plain(options)?;
                let parts = parts(name)?;
                let folded: Vec<String> =
                    parts.iter().map(|part| self.rules.folded(part)).collect::<Answer<_>>()?;
                let source = match folded.as_slice() {
                    [name] => scope.sources.iter().find(|s| s.is_called(None, name)),
                    [schema, name] => scope.sources.iter().find(|s| s.is_called(Some(schema), name)),
                    _ => None,
                };
                let Some(source) = source else {
                    let span = parts.first().map_or_else(sqlparser::tokenizer::Span::empty, |p| p.span);
                    return Err(Refusal::at(Why::Table(crate::names::written(&parts)), span));
                };
                source.columns.iter().cloned().for_each(|held| add(self, held));
            }
            SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                return Err(not("an output of this kind"));
            }
        }
        Ok(())
    }

    /// An expression that is given out: a column as it is, or something computed.
    fn output(&mut self, expr: &Parsed, scope: &Scope<'_>) -> Answer<Held> {
        let column = match expr {
            Parsed::Identifier(name) => Some(std::slice::from_ref(name)),
            Parsed::CompoundIdentifier(parts) => Some(parts.as_slice()),
            Parsed::Nested(inner) => return self.deeper(|r| r.output(inner, scope)),
            _ => None,
        };
        if let Some(parts) = column {
            return self.column(parts, scope);
        }
        let called = match expr {
            Parsed::Function(function) => function.name.0.last().and_then(|part| part.as_ident()),
            _ => None,
        };
        let name = called.and_then(|name| self.rules.folded(name).ok());
        let shown = name.as_deref().map_or_else(|| "?column?".to_owned(), shown);
        let expr = self.expr(expr, scope)?;
        Ok(Held { name, shown, expr, origins: Default::default(), declared: None })
    }

    fn ordinal(&mut self, at: usize, outputs: &[Output]) -> Expr {
        if let Some(output) = outputs.get(at) {
            self.computed(&output.origins);
        }
        Expr::Ordinal(u32::try_from(at + 1).unwrap_or(u32::MAX))
    }

    /// A key that is written as a number of an output.
    fn numbered(&mut self, key: &Parsed, outputs: &[Output]) -> Option<Answer<Expr>> {
        let Parsed::Value(value) = bare(key) else { return None };
        let Value::Number(digits, false) = &value.value else { return None };
        let at = digits.parse::<usize>().ok().filter(|at| (1..=outputs.len()).contains(at));
        let refused = || Err(Refusal::at(Why::Column(shown(digits)), value.span));
        Some(at.map_or_else(refused, |at| Ok(self.ordinal(at - 1, outputs))))
    }

    /// The output that a bare name means, if one does.
    fn called(&self, key: &Parsed, outputs: &[Output]) -> Answer<Option<usize>> {
        let Parsed::Identifier(name) = bare(key) else { return Ok(None) };
        let folded = self.rules.folded(name)?;
        let mut found = outputs.iter().enumerate().filter(|(_, o)| o.name.as_ref() == Some(&folded));
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(Some(at)),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Refusal::at(Why::Ambiguous(shown(&folded)), name.span)),
        }
    }

    /// A key of `GROUP BY`: a column of a source first, then an output.
    fn group(&mut self, key: &Parsed, outputs: &[Output], scope: &Scope<'_>) -> Answer<Expr> {
        if let Some(numbered) = self.numbered(key, outputs) {
            return numbered;
        }
        match self.expr(key, scope) {
            Err(Refusal { why: Why::Column(name), at }) => match self.called(key, outputs)? {
                Some(at) => Ok(self.ordinal(at, outputs)),
                None => Err(Refusal { why: Why::Column(name), at }),
            },
            resolved => resolved,
        }
    }

    fn order(
        &mut self,
        order: Option<&OrderBy>,
        outputs: &[Output],
        sources: Option<&[Source]>,
        outer: Option<&Scope<'_>>,
    ) -> Answer<Vec<Order>> {
        let Some(OrderBy { kind, interpolate }) = order else { return Ok(Vec::new()) };
        let OrderByKind::Expressions(keys) = kind else { return Err(not("`ORDER BY ALL`")) };
        if interpolate.is_some() {
            return Err(not("`INTERPOLATE`"));
        }
        let mut all = Vec::with_capacity(keys.len());
        for item in keys {
            let key = match (self.numbered(&item.expr, outputs), self.called(&item.expr, outputs)?) {
                (Some(numbered), _) => numbered?,
                (None, Some(at)) => self.ordinal(at, outputs),
                (None, None) => match sources {
                    Some(sources) => self.expr(&item.expr, &Scope { sources, outer })?,
                    None => {
                        let why = not("ordering what is put together by anything but its columns");
                        return Err(Refusal { at: crate::refusal::Place::of(place(&item.expr)), ..why });
                    }
                },
            };
            all.push(ordered(item, key)?);
        }
        Ok(all)
    }

    fn limits(&mut self, clause: Option<&LimitClause>) -> Answer<(Option<Expr>, Option<Expr>)> {
        match clause {
            None => Ok((None, None)),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                let limit = limit.as_ref().map(|limit| self.count(limit)).transpose()?;
                let offset =
                    offset.as_ref().map(|Offset { value, rows: _ }| self.count(value)).transpose()?;
                if limit.is_none() && offset.is_some() && self.rules == Rules::Sqlite {
                    return Err(not("`OFFSET` without `LIMIT`"));
                }
                Ok((limit, offset))
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                Ok((Some(self.count(limit)?), Some(self.count(offset)?)))
            }
            Some(LimitClause::LimitOffset { .. }) => Err(not("`LIMIT BY`")),
        }
    }

    /// A number of rows: written out, or bound.
    fn count(&mut self, expr: &Parsed) -> Answer<Expr> {
        if let Parsed::Value(value) = expr {
            match &value.value {
                Value::Number(digits, false)
                    if digits.len() < 18 && digits.bytes().all(|b| b.is_ascii_digit()) =>
                {
                    return Ok(Expr::Number(digits.clone()));
                }
                Value::Placeholder(written) => {
                    let bound = self.parameter(written, value.span)?;
                    if matches!(bound, Expr::Parameter { kind: bartizan_model::SqlType::Integer, .. }) {
                        return Ok(bound);
                    }
                    return Err(Refusal::at(Why::ParameterType(shown(written)), value.span));
                }
                _ => {}
            }
        }
        Err(Refusal {
            at: crate::refusal::Place::of(place(expr)),
            ..not("a number of rows that is computed")
        })
    }
}

/// What stands in parentheses: databases take them off a key before they ask whether it is a number or a name of an output.
fn bare(mut key: &Parsed) -> &Parsed {
    while let Parsed::Nested(inner) = key {
        key = inner;
    }
    key
}

pub(super) fn ordered(item: &OrderByExpr, key: Expr) -> Answer<Order> {
    let OrderByExpr { expr: _, options: OrderByOptions { sort, nulls_first }, with_fill } = item;
    if with_fill.is_some() {
        return Err(not("`WITH FILL`"));
    }
    let descending = match sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(OrderBySort::Using(_)) => return Err(not("`ORDER BY … USING`")),
    };
    Ok(Order { key, descending, nulls_first: *nulls_first })
}

fn plain(options: &WildcardAdditionalOptions) -> Answer<()> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let plain = opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none();
    if plain { Ok(()) } else { Err(not("`*` with options")) }
}
