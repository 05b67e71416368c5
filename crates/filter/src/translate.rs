//! From what partial evaluation leaves of a rule to two trees: where it is true, and where it is false.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::pst::{BinaryOp, Expr, Literal, PatternElem, UnaryOp, Var};
use cedar_policy::{Entities, EntityId, EntityTypeName, EntityUid};

use crate::constant;
use crate::partial::{FilterError, NODES_MAX, Rule};
use crate::shape::{chain, field_of, networks, path, why};
use crate::test::{Atom, Check, Relation, What};
use crate::tree::{Filter, Tree};
use crate::value::{Entity, Field, Pattern, Piece, Value};

/// The deepest nesting that is translated. Chains of one operator count once.
const DEPTH_MAX: usize = 64;

/// A condition, from both sides. A row where it errs is in neither tree.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub(crate) yes: Filter,
    pub(crate) no: Filter,
    /// Whether a row that has what the translator needs is in one of both for certain.
    pub(crate) total: bool,
}

impl Both {
    fn constant(value: bool) -> Self {
        let (yes, no) = (Tree::Always, Tree::Never);
        if value { Self { yes, no, total: true } } else { Self { yes: no, no: yes, total: true } }
    }

    fn not(self) -> Self {
        Self { yes: self.no, no: self.yes, total: self.total }
    }

    /// `&&`: the right side counts only where the left one is true.
    fn and(self, right: Self) -> Self {
        // Where the left side cannot err, its truth need not be said again: where it is false the first part matches.
        let second = if self.total { right.no } else { Tree::all([self.yes.clone(), right.no]) };
        Self {
            yes: Tree::all([self.yes, right.yes]),
            no: Tree::any([self.no, second]),
            total: self.total && right.total,
        }
    }

    fn or(self, right: Self) -> Self {
        self.not().and(right.not()).not()
    }
}

/// One side of a comparison.
enum Side {
    Value(Value),
    Values(Vec<Value>),
    Field(Field),
    Other,
}

/// Fields known to be there, because a condition further to the left says so.
type Known = BTreeSet<Field>;

/// Translates one rule.
pub(crate) struct Translator<'a> {
    rule: &'a Arc<str>,
    kind: &'a EntityTypeName,
    entities: &'a Entities,
    needed: BTreeSet<Field>,
    /// Fields of a record that need not be there. They cannot be needed of every row, so a test of one may err.
    unsure: BTreeSet<Field>,
    depth: usize,
}

impl<'a> Translator<'a> {
    pub(crate) const fn new(rule: &'a Arc<str>, kind: &'a EntityTypeName, entities: &'a Entities) -> Self {
        Self { rule, kind, entities, needed: BTreeSet::new(), unsure: BTreeSet::new(), depth: 0 }
    }

    /// The fields that the rule uses without having asked whether they are there.
    pub(crate) fn into_needed(self) -> BTreeSet<Field> {
        self.needed
    }

    pub(crate) fn rule(&mut self, rule: &Rule) -> Result<Both, FilterError> {
        let mut whole = Both::constant(true);
        let mut known = Known::new();
        for (condition, negated) in &rule.conditions {
            let (both, more) = self.condition(condition, &known)?;
            whole = whole.and(if *negated { both.not() } else { both });
            if !negated {
                known = more;
            }
        }
        Ok(whole)
    }

    /// Translates a condition; also says what is known to be there wherever it is true.
    fn condition(&mut self, expr: &Expr, known: &Known) -> Result<(Both, Known), FilterError> {
        if self.depth >= DEPTH_MAX {
            let both = self.opaque(expr, known, "it is nested too deeply");
            return Ok((both, known.clone()));
        }
        self.depth += 1;
        let result = self.condition_within(expr, known);
        self.depth -= 1;
        let (both, known) = result?;
        Ok((bounded(both)?, known))
    }

    fn condition_within(&mut self, expr: &Expr, known: &Known) -> Result<(Both, Known), FilterError> {
        match expr {
            Expr::Literal(Literal::Bool(value)) => Ok((Both::constant(*value), known.clone())),
            Expr::UnaryOp { op: UnaryOp::Not, expr } => {
                Ok((self.condition(expr, known)?.0.not(), known.clone()))
            }
            Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => {
                let mut operands = Vec::new();
                chain(expr, *op, &mut operands);
                if *op == BinaryOp::And { self.and(&operands, known) } else { self.or(&operands, known) }
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                let (test, when) = self.condition(cond, known)?;
                let (yes, known_yes) = self.condition(then_expr, &when)?;
                let (no, known_no) = self.condition(else_expr, known)?;
                let total = test.total && yes.total && no.total;
                let both = Both {
                    yes: Tree::any([
                        Tree::all([test.yes.clone(), yes.yes]),
                        Tree::all([test.no.clone(), no.yes]),
                    ]),
                    no: Tree::any([Tree::all([test.yes, yes.no]), Tree::all([test.no, no.no])]),
                    total,
                };
                Ok((both, known_yes.intersection(&known_no).cloned().collect()))
            }
            Expr::HasAttr { expr, attrs } => Ok(self.has(expr, attrs.iter().map(ToString::to_string), known)),
            Expr::ResidualError => {
                Ok((Both { yes: Tree::Never, no: Tree::Never, total: false }, known.clone()))
            }
            _ => self.leaf(expr, known),
        }
    }

    fn and(&mut self, operands: &[&Expr], known: &Known) -> Result<(Both, Known), FilterError> {
        let mut whole = Both::constant(true);
        let mut known = known.clone();
        for operand in operands {
            let (both, more) = self.condition(operand, &known)?;
            whole = bounded(whole.and(both))?;
            known = more;
        }
        Ok((whole, known))
    }

    fn or(&mut self, operands: &[&Expr], known: &Known) -> Result<(Both, Known), FilterError> {
        let mut whole = Both::constant(false);
        let mut common: Option<Known> = None;
        for operand in operands {
            let (both, more) = self.condition(operand, known)?;
            whole = bounded(whole.or(both))?;
            common = Some(match common {
                None => more,
                Some(common) => common.intersection(&more).cloned().collect(),
            });
        }
        Ok((whole, common.unwrap_or_else(|| known.clone())))
    }

    /// `expr has a.b.c`
    fn has(&mut self, expr: &Expr, attributes: impl Iterator<Item = String>, known: &Known) -> (Both, Known) {
        let Some(mut path) = path(expr) else {
            let why = "it looks at an entity other than the resource";
            return (self.opaque(expr, known, why), known.clone());
        };
        if !path.is_empty() {
            self.use_field(&Field::Attribute(path.clone()), known);
        }
        let mut more = known.clone();
        for attribute in attributes {
            path.push(attribute);
            more.insert(Field::Attribute(path.clone()));
        }
        (self.test(Field::Attribute(path), Check::Present), more)
    }

    fn leaf(&mut self, expr: &Expr, known: &Known) -> Result<(Both, Known), FilterError> {
        // `resource.hasTag("name")` tells what is there, as `has` does.
        if let Expr::BinaryOp { op: BinaryOp::HasTag, left, right } = expr
            && let (Some([]), Some(Value::Text(name))) = (path(left).as_deref(), constant::value(right))
        {
            let field = Field::Tag(name);
            let mut more = known.clone();
            more.insert(field.clone());
            return Ok((self.test(field, Check::Present), more));
        }
        let found = match expr {
            Expr::BinaryOp { op, left, right } => self.binary(*op, left, right, known),
            Expr::UnaryOp { op: UnaryOp::IsEmpty, expr } => {
                self.field(expr, known).map(|field| self.test(field, Check::Empty))
            }
            Expr::UnaryOp { op, expr } => networks(*op).and_then(|networks| {
                self.field(expr, known).map(|field| self.test(field, Check::InNetworks(networks)))
            }),
            Expr::Like { expr, pattern } => self.field(expr, known).map(|field| {
                let pattern = Pattern::new(pattern.iter().map(|element| match element {
                    PatternElem::Char(c) => Piece::Text(c.to_string()),
                    PatternElem::Wildcard => Piece::Anything,
                }));
                self.test(field, Check::Like(pattern))
            }),
            Expr::Is { expr, entity_type, in_expr: None } if matches!(**expr, Expr::Var(Var::Resource)) => {
                Some(Both::constant(entity_type.to_string() == self.kind.to_string()))
            }
            // A truth value of the row.
            _ => self.field(expr, known).map(|field| self.test(field, Check::In(vec![Value::Bool(true)]))),
        };
        let both = found.unwrap_or_else(|| self.opaque(expr, known, why(expr)));
        Ok((both, known.clone()))
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr, known: &Known) -> Option<Both> {
        let relation = match op {
            BinaryOp::Eq => Relation::Equal,
            BinaryOp::NotEq => Relation::NotEqual,
            BinaryOp::Less | BinaryOp::DecimalLessThan => Relation::Less,
            BinaryOp::LessEq | BinaryOp::DecimalLessEq => Relation::LessOrEqual,
            BinaryOp::Greater | BinaryOp::DecimalGreater => Relation::Greater,
            BinaryOp::GreaterEq | BinaryOp::DecimalGreaterEq => Relation::GreaterOrEqual,
            _ => return self.membership(op, left, right, known),
        };
        match (self.side(left, known), self.side(right, known)) {
            (Side::Field(field), Side::Value(value)) => self.compared(field, relation, value),
            (Side::Value(value), Side::Field(field)) => self.compared(field, relation.flipped(), value),
            (Side::Field(field), Side::Values(values)) | (Side::Values(values), Side::Field(field)) => {
                let same = self
                    .test(field.clone(), Check::HoldsAll(values.clone()))
                    .and(self.test(field, Check::Within(values)));
                match relation {
                    Relation::Equal => Some(same),
                    Relation::NotEqual => Some(same.not()),
                    _ => None,
                }
            }
            (Side::Field(field), Side::Field(other)) => {
                Some(self.test(field, Check::Against(relation, other)))
            }
            _ => None,
        }
    }

    fn compared(&self, field: Field, relation: Relation, value: Value) -> Option<Both> {
        match relation {
            Relation::Equal => Some(self.equal(field, vec![value])),
            Relation::NotEqual => Some(self.equal(field, vec![value]).not()),
            _ => Some(self.test(field, Check::Order(relation, value))),
        }
    }

    fn equal(&self, field: Field, mut values: Vec<Value>) -> Both {
        if field == Field::Id {
            // No row has an id of another type.
            let kind = self.kind.to_string();
            values.retain(|value| matches!(value, Value::Entity(entity) if entity.kind == kind));
            if values.is_empty() {
                return Both::constant(false);
            }
        }
        self.test(field, Check::In(values))
    }

    fn membership(&mut self, op: BinaryOp, left: &Expr, right: &Expr, known: &Known) -> Option<Both> {
        let (left_side, right_side) = (self.side(left, known), self.side(right, known));
        match (op, left_side, right_side) {
            (BinaryOp::In, Side::Field(Field::Id), Side::Value(value)) => Some(self.within(vec![value])),
            (BinaryOp::In, Side::Field(Field::Id), Side::Values(values)) => Some(self.within(values)),
            (BinaryOp::In, Side::Value(Value::Entity(entity)), Side::Field(field)) if field != Field::Id => {
                let values = self.with_ancestors(&entity)?;
                Some(self.test(field, Check::Among(values)))
            }
            (BinaryOp::Contains, Side::Field(field), Side::Value(value)) => {
                Some(self.test(field, Check::HoldsAny(vec![value])))
            }
            (BinaryOp::Contains, Side::Values(values), Side::Field(field)) => Some(self.equal(field, values)),
            (BinaryOp::ContainsAny, Side::Field(field), Side::Values(values))
            | (BinaryOp::ContainsAny, Side::Values(values), Side::Field(field)) => {
                Some(self.test(field, Check::HoldsAny(values)))
            }
            (BinaryOp::ContainsAll, Side::Field(field), Side::Values(values)) => {
                Some(self.test(field, Check::HoldsAll(values)))
            }
            (BinaryOp::ContainsAll, Side::Values(values), Side::Field(field)) => {
                Some(self.test(field, Check::Within(values)))
            }
            (BinaryOp::IsInRange, Side::Field(field), Side::Value(Value::Address(network))) => {
                Some(self.test(field, Check::InNetworks(vec![network])))
            }
            _ => None,
        }
    }

    /// `resource in [values]`: the row itself, or one of its ancestors.
    fn within(&mut self, values: Vec<Value>) -> Both {
        if values.is_empty() {
            return Both::constant(false);
        }
        self.needed.insert(Field::Ancestors);
        let ancestors = self.test(Field::Ancestors, Check::HoldsAny(values.clone()));
        self.equal(Field::Id, values).or(ancestors)
    }

    /// An entity and all its ancestors, if they are known here.
    fn with_ancestors(&self, entity: &Entity) -> Option<Vec<Value>> {
        let kind: EntityTypeName = entity.kind.parse().ok()?;
        let uid = EntityUid::from_type_name_and_id(kind, EntityId::new(&entity.id));
        let ancestors = self.entities.ancestors(&uid)?;
        let known = ancestors.map(|uid| {
            let id = AsRef::<str>::as_ref(uid.id()).to_owned();
            Value::Entity(Entity { kind: uid.type_name().to_string(), id })
        });
        let mut out: Vec<_> = known.chain([Value::Entity(entity.clone())]).collect();
        out.sort();
        Some(out)
    }

    fn side(&mut self, expr: &Expr, known: &Known) -> Side {
        if let Some(value) = constant::value(expr) {
            return Side::Value(value);
        }
        if let Some(values) = constant::values(expr) {
            return Side::Values(values);
        }
        if matches!(expr, Expr::Var(Var::Resource)) {
            return Side::Field(Field::Id);
        }
        self.field(expr, known).map_or(Side::Other, Side::Field)
    }

    /// The attribute or tag of the resource that `expr` is.
    fn field(&mut self, expr: &Expr, known: &Known) -> Option<Field> {
        let field = field_of(expr)?;
        self.use_field(&field, known);
        Some(field)
    }

    fn use_field(&mut self, field: &Field, known: &Known) {
        if known.contains(field) {
            return;
        }
        let within = |outer: &Field| match (outer, field) {
            (Field::Attribute(outer), Field::Attribute(path)) => path.starts_with(outer),
            _ => false,
        };
        if known.iter().any(within) {
            self.unsure.insert(field.clone());
        } else {
            self.needed.insert(field.clone());
        }
    }

    fn test(&self, field: Field, check: Check) -> Both {
        let leaf = |field, check| {
            let what = What::Test { field, check };
            Tree::Leaf(Atom { rule: Arc::clone(self.rule), what })
        };
        match check {
            // Nothing is one of none.
            Check::In(values) | Check::HoldsAny(values) if values.is_empty() => Both::constant(false),
            Check::HoldsAll(values) if values.is_empty() => Both::constant(true),
            check => {
                let asks = matches!(check, Check::Present | Check::Absent);
                let other =
                    if let Check::Against(_, other) = &check { self.unsure.contains(other) } else { false };
                let total = asks || !(other || self.unsure.contains(&field));
                Both { no: leaf(field.clone(), check.complement()), yes: leaf(field, check), total }
            }
        }
    }

    /// A condition that no store can be asked. What it uses is needed all the same, because without that it errs.
    fn opaque(&mut self, expr: &Expr, known: &Known, why: &str) -> Both {
        let errs = self.scan(expr, known);
        // Without the expression: it holds values of the context by now.
        let what = What::Opaque(why.to_owned());
        let leaf = Tree::Leaf(Atom { rule: Arc::clone(self.rule), what });
        Both { yes: leaf.clone(), no: leaf, total: !errs }
    }

    /// Whether `expr` can err on a row that has what is needed; notes what that is.
    fn scan(&mut self, expr: &Expr, known: &Known) -> bool {
        if let Some(field) = field_of(expr) {
            self.use_field(&field, known);
            return self.unsure.contains(&field);
        }
        match expr {
            Expr::Literal(_) | Expr::Var(_) => false,
            Expr::HasAttr { expr, .. } | Expr::Like { expr, .. } => self.scan(expr, known),
            Expr::Is { expr, in_expr, .. } => {
                self.scan(expr, known) | in_expr.as_ref().is_some_and(|within| self.scan(within, known))
            }
            Expr::UnaryOp { op, expr } => {
                // Constructors of values were checked when the policy was validated.
                let erring = matches!(op, UnaryOp::Neg | UnaryOp::ToDate);
                self.scan(expr, known) | erring
            }
            Expr::BinaryOp { op, left, right } => {
                let erring = matches!(
                    op,
                    BinaryOp::Add
                        | BinaryOp::Sub
                        | BinaryOp::Mul
                        | BinaryOp::GetTag
                        | BinaryOp::Offset
                        | BinaryOp::DurationSince
                );
                self.scan(left, known) | self.scan(right, known) | erring
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.scan(cond, known) | self.scan(then_expr, known) | self.scan(else_expr, known)
            }
            Expr::Set(items) => items.iter().fold(false, |errs, item| errs | self.scan(item, known)),
            Expr::Record(items) => items.values().fold(false, |errs, item| errs | self.scan(item, known)),
            // An attribute of another entity, which need not exist; or nothing we know.
            _ => true,
        }
    }
}

/// Refuses a condition that has become too large. Only what can err makes trees grow faster than rules.
fn bounded(both: Both) -> Result<Both, FilterError> {
    if !both.total && both.yes.leaves().len() + both.no.leaves().len() > NODES_MAX {
        return Err(FilterError::TooLarge);
    }
    Ok(both)
}
