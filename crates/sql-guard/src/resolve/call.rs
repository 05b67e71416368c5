//! Calls of functions.

use sqlparser::ast::{
    DuplicateTreatment, Expr as Parsed, Function as ParsedFunction, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span;

use crate::functions::{Function, Kind, find};
use crate::names::{Rules, written};
use crate::refusal::{Refusal, Why, shown};
use crate::resolve::from::parts;
use crate::resolve::query::ordered;
use crate::resolve::scope::Scope;
use crate::resolve::{Answer, Resolver};
use crate::tree::{Call, Expr, Window};

fn not(what: &'static str, at: Span) -> Refusal {
    Refusal::at(Why::NotAllowed(what), at)
}

/// What is between the parentheses.
enum Given<'p> {
    /// None at all.
    Word,
    /// `*`.
    Star,
    /// Values.
    Values(Vec<&'p Parsed>, bool),
}

impl Resolver<'_> {
    /// The function called `name`, if it is one that the route allows.
    pub(super) fn allowed(&self, name: &str, at: Span) -> Answer<&'static Function> {
        let known = find(self.rules, name);
        let allowed = known.filter(|f| self.route.functions.iter().any(|allowed| allowed.as_str() == f.name));
        allowed.ok_or_else(|| Refusal::at(Why::Function(shown(name)), at))
    }

    /// A call that the grammar writes otherwise.
    pub(super) fn named(
        &mut self,
        name: &str,
        arguments: &[&Parsed],
        at: Span,
        scope: &Scope<'_>,
    ) -> Answer<Expr> {
        let function = self.allowed(name, at)?;
        let arguments = self.arguments(function, arguments, at, scope)?;
        let call =
            Call { name: function.name, distinct: false, star: false, arguments, filter: None, over: None };
        Ok(Expr::Call(Box::new(call)))
    }

    fn arguments(
        &mut self,
        function: &Function,
        arguments: &[&Parsed],
        at: Span,
        scope: &Scope<'_>,
    ) -> Answer<Vec<Expr>> {
        let (least, most) = function.arguments;
        if !(least..=most).contains(&arguments.len()) {
            return Err(Refusal::at(Why::Arguments(function.name.to_owned()), at));
        }
        arguments.iter().map(|argument| self.expr(argument, scope)).collect()
    }

    pub(super) fn call(&mut self, function: &ParsedFunction, scope: &Scope<'_>) -> Answer<Expr> {
        let ParsedFunction {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment,
            over,
        } = function;
        let parts = parts(name)?;
        let at = parts.first().map_or_else(Span::empty, |part| part.span);
        let folded: Vec<String> = parts.iter().map(|part| self.rules.folded(part)).collect::<Answer<_>>()?;
        let name = match (folded.as_slice(), self.rules) {
            ([name], _) => name,
            ([schema, name], Rules::Postgres) if schema == "pg_catalog" => name,
            _ => return Err(Refusal::at(Why::Function(written(&parts)), at)),
        };
        let known = self.allowed(name, at)?;
        let plain = !uses_odbc_syntax
            && matches!(parameters, FunctionArguments::None)
            && within_group.is_empty()
            && null_treatment.is_none();
        if !plain {
            return Err(not("a call of this kind", at));
        }
        let (arguments, distinct, star) = match (given(args, at)?, known.kind) {
            (Given::Word, Kind::Word) => (Vec::new(), false, false),
            (Given::Star, Kind::Aggregate) if known.name == "count" => (Vec::new(), false, true),
            (Given::Values(values, distinct), kind) if kind != Kind::Word => {
                if distinct && (kind != Kind::Aggregate || values.len() != 1) {
                    return Err(not("`DISTINCT` in this call", at));
                }
                (self.arguments(known, &values, at, scope)?, distinct, false)
            }
            _ => return Err(Refusal::at(Why::Arguments(known.name.to_owned()), at)),
        };
        let filter = match (filter, known.kind) {
            (None, _) => None,
            (Some(filter), Kind::Aggregate) => Some(self.expr(filter, scope)?),
            (Some(_), _) => return Err(not("`FILTER` in this call", at)),
        };
        let over = match (over, known.kind) {
            (None, Kind::Window) => return Err(not("this function without `OVER`", at)),
            (None, _) => None,
            (Some(WindowType::WindowSpec(window)), Kind::Window | Kind::Aggregate) => {
                Some(self.window(window, at, scope)?)
            }
            (Some(_), _) => return Err(not("`OVER` in this call", at)),
        };
        if known.name == "extract" {
            return Err(Refusal::at(Why::Arguments(known.name.to_owned()), at));
        }
        Ok(Expr::Call(Box::new(Call { name: known.name, distinct, star, arguments, filter, over })))
    }

    fn window(&mut self, window: &WindowSpec, at: Span, scope: &Scope<'_>) -> Answer<Window> {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = window;
        if window_name.is_some() || window_frame.is_some() {
            return Err(not("a named window or a frame", at));
        }
        let partition = partition_by.iter().map(|key| self.expr(key, scope)).collect::<Answer<_>>()?;
        let mut order = Vec::with_capacity(order_by.len());
        for item in order_by {
            let key = self.expr(&item.expr, scope)?;
            order.push(ordered(item, key)?);
        }
        Ok(Window { partition, order })
    }
}

fn given(arguments: &FunctionArguments, at: Span) -> Answer<Given<'_>> {
    let list = match arguments {
        FunctionArguments::None => return Ok(Given::Word),
        FunctionArguments::Subquery(_) => return Err(not("a query as an argument", at)),
        FunctionArguments::List(list) => list,
    };
    let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
    if !clauses.is_empty() {
        return Err(not("an argument with options", at));
    }
    if let ([FunctionArg::Unnamed(FunctionArgExpr::Wildcard)], None) = (args.as_slice(), duplicate_treatment)
    {
        return Ok(Given::Star);
    }
    let value = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Ok(expr),
        _ => Err(not("an argument of this kind", at)),
    };
    let values = args.iter().map(value).collect::<Answer<_>>()?;
    Ok(Given::Values(values, matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct))))
}
