//! What a statement can be: nothing else can be said in these types, so nothing else can be printed.
//!
//! Names of the submitted statement do not occur. Sources are numbered through the whole statement, output columns within
//! their query.

use std::collections::BTreeSet;

use bartizan_base::Name;
use bartizan_model::database_route::SqlType;

/// A query with what goes before and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Queries that are named first, each with the number of its name.
    pub with: Vec<(u32, Self)>,
    /// The query itself.
    pub body: Body,
    /// How its rows are ordered.
    pub order: Vec<Order>,
    /// How many rows at most.
    pub limit: Option<Expr>,
    /// How many rows are left out first.
    pub offset: Option<Expr>,
}

/// The part between `WITH` and `ORDER BY`.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A selection.
    Select(Box<Select>),
    /// Two put together.
    Set {
        /// How.
        operator: SetOperator,
        /// Whether equal rows stay.
        all: bool,
        /// The first.
        left: Box<Self>,
        /// The second.
        right: Box<Self>,
    },
    /// One in parentheses.
    Nested(Box<Query>),
}

/// How the rows of two queries are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOperator {
    /// Of both.
    Union,
    /// Of the first that the second has not.
    Except,
    /// Of both at once.
    Intersect,
}

/// A selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// Whether equal rows are given once.
    pub distinct: bool,
    /// What is given.
    pub outputs: Vec<Expr>,
    /// From what.
    pub from: Vec<From>,
    /// Of which rows.
    pub filter: Option<Expr>,
    /// How they are put together.
    pub group: Vec<Expr>,
    /// Of which groups.
    pub having: Option<Expr>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// A declared table.
    Table {
        /// Its schema.
        schema: Name,
        /// Its own name.
        table: Name,
        /// The number of the source.
        source: u32,
    },
    /// A query that was named first.
    With {
        /// The number of its name.
        name: u32,
        /// The number of the source.
        source: u32,
    },
    /// A query in its place.
    Query {
        /// The query.
        query: Box<Query>,
        /// The number of the source.
        source: u32,
    },
    /// Two joined.
    Join {
        /// The first.
        left: Box<Self>,
        /// The second.
        right: Box<Self>,
        /// How.
        kind: Join,
        /// Under which condition; none for all with all.
        on: Option<Expr>,
    },
}

/// How two sources are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Where both fit.
    Inner,
    /// With all of the first.
    Left,
    /// With all of the second.
    Right,
    /// With all of both.
    Full,
    /// All with all.
    Cross,
}

/// By what rows are ordered.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The key.
    pub key: Expr,
    /// Whether the greatest is first.
    pub descending: bool,
    /// Whether what is absent is first, if that is said.
    pub nulls_first: Option<bool>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A column of a source: of a table by its own name.
    Column {
        /// The number of the source.
        source: u32,
        /// Its name.
        name: Name,
    },
    /// An output of a query that is a source, counted from one.
    Given {
        /// The number of the source.
        source: u32,
        /// Which.
        place: u32,
    },
    /// An output of this very query, counted from one: in `GROUP BY` and `ORDER BY` alone.
    Ordinal(u32),
    /// A number as it was written: digits, a point, an exponent.
    Number(String),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// Nothing.
    Null,
    /// A value that is bound, by its place among the parameters.
    Parameter {
        /// The place, counted from one.
        place: u32,
        /// Its type.
        kind: SqlType,
    },
    /// A sign before, or a word after.
    Unary {
        /// Which; see [`UNARY`].
        operator: &'static str,
        /// Of what.
        of: Box<Self>,
    },
    /// What is said of a value behind it, such as `IS NULL`.
    Is {
        /// What.
        of: Box<Self>,
        /// Which; see [`IS`].
        what: &'static str,
    },
    /// Two with a sign between.
    Binary {
        /// Which; see [`BINARY`].
        operator: &'static str,
        /// The first.
        left: Box<Self>,
        /// The second.
        right: Box<Self>,
    },
    /// Like a pattern.
    Like {
        /// Whether case does not matter.
        insensitive: bool,
        /// Whether not.
        negated: bool,
        /// What.
        of: Box<Self>,
        /// The pattern.
        pattern: Box<Self>,
        /// What takes a sign of the pattern literally.
        escape: Option<char>,
    },
    /// Between two others.
    Between {
        /// Whether not.
        negated: bool,
        /// What.
        of: Box<Self>,
        /// The least.
        low: Box<Self>,
        /// The greatest.
        high: Box<Self>,
    },
    /// One of several.
    In {
        /// Whether not.
        negated: bool,
        /// What.
        of: Box<Self>,
        /// Of these.
        list: Vec<Self>,
    },
    /// One of those that a query gives.
    InQuery {
        /// Whether not.
        negated: bool,
        /// What.
        of: Box<Self>,
        /// Of these.
        query: Box<Query>,
    },
    /// Whether a query gives anything.
    Exists {
        /// Whether not.
        negated: bool,
        /// The query.
        query: Box<Query>,
    },
    /// What a query gives.
    Query(Box<Query>),
    /// A case.
    Case {
        /// Of what, if of something.
        of: Option<Box<Self>>,
        /// Conditions with what follows.
        when: Vec<(Self, Self)>,
        /// What else.
        otherwise: Option<Box<Self>>,
    },
    /// As another type.
    Cast {
        /// What.
        of: Box<Self>,
        /// As which.
        kind: SqlType,
    },
    /// A part of a moment.
    Extract {
        /// Which; one of a closed list.
        field: &'static str,
        /// Of what.
        of: Box<Self>,
    },
    /// A function of the list.
    Call(Box<Call>),
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name, from the list.
    pub name: &'static str,
    /// Whether equal values count once.
    pub distinct: bool,
    /// Whether it is of rows, not of values: `count(*)`.
    pub star: bool,
    /// Its arguments.
    pub arguments: Vec<Expr>,
    /// Of which rows, for aggregates.
    pub filter: Option<Expr>,
    /// Over which rows, if over others than the group.
    pub over: Option<Window>,
}

/// Over which rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Those that agree in these.
    pub partition: Vec<Expr>,
    /// In this order.
    pub order: Vec<Order>,
}

/// Signs before an expression.
pub const UNARY: [&str; 3] = ["-", "+", "NOT"];
/// Words behind an expression.
pub const IS: [&str; 6] = ["IS NULL", "IS NOT NULL", "IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE"];
/// Signs between two expressions.
pub const BINARY: [&str; 18] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=",
    "<>",
    "<",
    ">",
    "<=",
    ">=",
    "AND",
    "OR",
    "->",
    "->>",
    "IS DISTINCT FROM",
    "IS NOT DISTINCT FROM",
];

/// A declared column, by table and own name.
pub type Origin = (Name, Name);
/// Several of them.
pub type Origins = BTreeSet<Origin>;
