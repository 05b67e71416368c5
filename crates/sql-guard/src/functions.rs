//! Functions that the house has looked at: without effects, without access to anything but their arguments, and none that makes
//! much of little. A route allows some of them; everything else is refused, whatever a database knows beside them.

use crate::names::Rules;

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of values.
    Scalar,
    /// Of values, written without a schema since it is part of the grammar.
    Grammar,
    /// A word without parentheses.
    Word,
    /// Of many rows.
    Aggregate,
    /// Of rows around the row, with `OVER` only.
    Window,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// How many arguments at least and at most.
    pub(crate) arguments: (usize, usize),
    in_postgres: bool,
    in_sqlite: bool,
}

const fn of(
    name: &'static str,
    kind: Kind,
    arguments: (usize, usize),
    (in_postgres, in_sqlite): (bool, bool),
) -> Function {
    Function { name, kind, arguments, in_postgres, in_sqlite }
}

const BOTH: (bool, bool) = (true, true);
const POSTGRES: (bool, bool) = (true, false);
const SQLITE: (bool, bool) = (false, true);

/// All of them. Left out on purpose: whatever reads settings, files, catalogues or other servers, waits, takes locks, counts on,
/// is random, and what repeats or replaces text (`repeat`, `lpad`, `replace`, `format`), since a few of those fill a server.
const FUNCTIONS: &[Function] = &[
    of("abs", Kind::Scalar, (1, 1), BOTH),
    of("age", Kind::Scalar, (1, 2), POSTGRES),
    of("avg", Kind::Aggregate, (1, 1), BOTH),
    of("bool_and", Kind::Aggregate, (1, 1), POSTGRES),
    of("bool_or", Kind::Aggregate, (1, 1), POSTGRES),
    of("btrim", Kind::Scalar, (1, 2), POSTGRES),
    of("ceil", Kind::Scalar, (1, 1), BOTH),
    of("coalesce", Kind::Grammar, (2, 16), BOTH),
    of("count", Kind::Aggregate, (1, 1), BOTH),
    of("current_date", Kind::Word, (0, 0), BOTH),
    of("current_timestamp", Kind::Word, (0, 0), BOTH),
    of("date", Kind::Scalar, (1, 4), SQLITE),
    of("date_part", Kind::Scalar, (2, 2), POSTGRES),
    of("date_trunc", Kind::Scalar, (2, 2), POSTGRES),
    of("datetime", Kind::Scalar, (1, 4), SQLITE),
    of("dense_rank", Kind::Window, (0, 0), BOTH),
    of("extract", Kind::Grammar, (2, 2), POSTGRES),
    of("first_value", Kind::Window, (1, 1), BOTH),
    of("floor", Kind::Scalar, (1, 1), BOTH),
    of("greatest", Kind::Grammar, (2, 16), POSTGRES),
    of("group_concat", Kind::Aggregate, (1, 2), SQLITE),
    of("ifnull", Kind::Scalar, (2, 2), SQLITE),
    of("initcap", Kind::Scalar, (1, 1), POSTGRES),
    of("instr", Kind::Scalar, (2, 2), SQLITE),
    of("julianday", Kind::Scalar, (1, 4), SQLITE),
    of("lag", Kind::Window, (1, 3), BOTH),
    of("last_value", Kind::Window, (1, 1), BOTH),
    of("lead", Kind::Window, (1, 3), BOTH),
    of("least", Kind::Grammar, (2, 16), POSTGRES),
    of("left", Kind::Scalar, (2, 2), POSTGRES),
    of("length", Kind::Scalar, (1, 1), BOTH),
    of("lower", Kind::Scalar, (1, 1), BOTH),
    of("ltrim", Kind::Scalar, (1, 2), BOTH),
    of("max", Kind::Aggregate, (1, 1), BOTH),
    of("min", Kind::Aggregate, (1, 1), BOTH),
    of("mod", Kind::Scalar, (2, 2), POSTGRES),
    of("now", Kind::Scalar, (0, 0), POSTGRES),
    of("nullif", Kind::Grammar, (2, 2), BOTH),
    of("rank", Kind::Window, (0, 0), BOTH),
    of("right", Kind::Scalar, (2, 2), POSTGRES),
    of("round", Kind::Scalar, (1, 2), BOTH),
    of("row_number", Kind::Window, (0, 0), BOTH),
    of("rtrim", Kind::Scalar, (1, 2), BOTH),
    of("sign", Kind::Scalar, (1, 1), BOTH),
    of("split_part", Kind::Scalar, (3, 3), POSTGRES),
    of("stddev", Kind::Aggregate, (1, 1), POSTGRES),
    of("strftime", Kind::Scalar, (2, 5), SQLITE),
    of("string_agg", Kind::Aggregate, (2, 2), POSTGRES),
    of("strpos", Kind::Scalar, (2, 2), POSTGRES),
    of("substr", Kind::Scalar, (2, 3), BOTH),
    of("sum", Kind::Aggregate, (1, 1), BOTH),
    of("time", Kind::Scalar, (1, 4), SQLITE),
    of("to_char", Kind::Scalar, (2, 2), POSTGRES),
    of("to_date", Kind::Scalar, (2, 2), POSTGRES),
    of("trim", Kind::Scalar, (1, 2), SQLITE),
    of("trunc", Kind::Scalar, (1, 2), POSTGRES),
    of("upper", Kind::Scalar, (1, 1), BOTH),
    of("variance", Kind::Aggregate, (1, 1), POSTGRES),
];

/// The function called `name`, folded, under these rules.
pub(crate) fn find(rules: Rules, name: &str) -> Option<&'static Function> {
    // Names that mean the same.
    let name = match name {
        "ceiling" => "ceil",
        "char_length" | "character_length" => "length",
        "substring" => "substr",
        other => other,
    };
    FUNCTIONS.iter().find(|function| {
        function.name == name
            && match rules {
                Rules::Postgres => function.in_postgres,
                Rules::Sqlite => function.in_sqlite,
            }
    })
}

/// Whether a route to such a database may allow a function of this name.
#[must_use]
pub fn is_known_function(postgres: bool, name: &str) -> bool {
    known_functions(postgres).any(|known| known == name)
}

/// The functions that a route to such a database may allow.
pub fn known_functions(postgres: bool) -> impl Iterator<Item = &'static str> {
    let there = move |f: &&Function| if postgres { f.in_postgres } else { f.in_sqlite };
    FUNCTIONS.iter().filter(there).map(|function| function.name)
}

/// Parts of a moment.
pub(crate) const FIELDS: [&str; 12] =
    ["year", "month", "day", "hour", "minute", "second", "week", "quarter", "dow", "doy", "epoch", "isodow"];
