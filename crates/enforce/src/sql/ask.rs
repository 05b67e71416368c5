//! From what was sent to what is run.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, json};
use bartizan_decide::{PartDecided, Permit, Verdict};
use bartizan_identify::Caller;
use bartizan_model::action::DatabaseQuery;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{
    Action, Ask, AskFacts, DatabaseRouteSpec, DecisionId, Detector, EntityRef, Label, Obligations,
    PrincipalKind, Problem, ReasonCode, Situation, SqlType, Target,
};
use bartizan_record::{Ended, Receipt};
use bartizan_sql::{Answered, Failed, Identity, Run};
use bartizan_sql_guard::{Column, Parameter, Statement as Resolved, Values, analyse};
use serde::Deserialize;
use serde_json::Value;

use crate::admit::{Going, Step};
use crate::limits::Fields;
use crate::masking::links;
use crate::path::{Gate, Stop};
use crate::scrub::{DOOR, Scrub};
use crate::session::Session;
use crate::sql::answer::Shown;
use crate::sql::explain::explain;
use crate::sql::rows::Seeing;
use crate::world::{TenantWorld, World};

/// The longest name of a parameter, in bytes.
const NAME_MAX: usize = 63;

/// What is asked of a database: a template with its values, or a statement where the route allows that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryArguments {
    /// Which template.
    #[serde(default)]
    pub template: Option<Name>,
    /// The statement.
    #[serde(default)]
    pub sql: Option<String>,
    /// Values of its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// A statement that somebody sent.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) database: Name,
    pub(crate) arguments: QueryArguments,
    /// Bytes of what was sent, and its digest.
    pub(crate) bytes: u64,
    pub(crate) body: Digest,
}

/// What is told of a statement that ran.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) shown: Shown,
    pub(crate) label: Label,
    pub(crate) decision: DecisionId,
    pub(crate) receipt: Receipt,
    /// How limits stand.
    pub(crate) fields: Fields,
}

/// Everything that a statement touches beside its database, as policy knows it.
pub(crate) struct Touched {
    /// What is asked for each.
    pub(crate) parts: Vec<(Action, EntityRef)>,
    /// What each is called in the statement: a table, and of a column its own name.
    pub(crate) names: Vec<(Name, Option<Name>)>,
}

impl Touched {
    fn of(database: &Name, statement: &Resolved) -> Option<Self> {
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        for table in &statement.tables {
            let asset = DatabaseRouteSpec::table_asset(database, table)?;
            parts.push((Action::TableRead, EntityRef::new(Name::literal("Table"), asset)));
            names.push((table.clone(), None));
        }
        for (table, column) in statement.reads.keys() {
            let asset = DatabaseRouteSpec::column_asset(database, table, column)?;
            parts.push((Action::ColumnRead, EntityRef::new(Name::literal("Column"), asset)));
            names.push((table.clone(), Some(column.clone())));
        }
        Some(Self { parts, names })
    }
}

/// What is redacted of each output.
pub(crate) type Redacted = Vec<BTreeSet<Detector>>;

impl Gate {
    /// Runs a statement for somebody, if all that it touches may be read by them.
    pub(crate) async fn run_statement(
        &self,
        world: &World,
        caller: &Caller,
        (situation, session): (&Situation, &Session),
        asked: Statement,
    ) -> Result<Told, Stop> {
        let began_us = self.parts.clock.monotonic_us();
        let id = self.new_id();
        let Some(tenant) = world.tenants.get(caller.tenant()) else {
            return Err(self.refuse_early(caller, Some(id), Problem::new(ReasonCode::PolicyMissing)).await);
        };
        self.may_query(world, caller, situation, &asked, id).await?;
        // From here on the caller may know what the route declares.
        let problem = Problem::with_detail(ReasonCode::NotFound, "no route leads to this database");
        let route =
            self.or_refuse(caller, Some(id), tenant.databases.get(&asked.database).ok_or(problem)).await?;
        let resolved = self.or_refuse(caller, Some(id), resolve(route, &asked.arguments)).await?;
        let touched =
            Touched::of(&asked.database, &resolved).ok_or_else(|| Problem::new(ReasonCode::Internal));
        let touched = self.or_refuse(caller, Some(id), touched).await?;
        let (permit, parts) =
            self.decide_statement(tenant, caller, situation, (&asked, id), &touched).await?;
        let redacted = redacted(route, &resolved, &touched, &parts);
        let redacted = self.or_refuse(caller, Some(id), redacted).await?;
        let whole = parts.first().map_or_else(Obligations::none, |itself| itself.obligations.clone());
        let facts = asked.ask(id).facts;
        let (database, applied) = (&asked.database, &whole);
        let seeing = Seeing { tenant, caller, situation, facts: &facts, database, route, applied };
        let resolved = self.or_refuse(caller, Some(id), seeing.narrow(resolved)).await?;
        let scrubs = self.scrubs(tenant, caller, permit.obligations(), &redacted);
        let scrubs = self.or_refuse(caller, Some(id), scrubs).await?;
        let label = label(world, caller, &touched);
        let run = Run::new(&resolved, identity(tenant, caller), route.limits);
        let beside: Vec<EntityRef> = touched.parts.iter().map(|(_, resource)| resource.clone()).collect();
        let (run_named, same) = (session.run(), asked.same());
        let step = Step { world, caller, situation, run: run_named, beside: &beside, same, ends: true };
        let mut reserved = self.admit(&permit, &step).await?;
        let going = Going::new(&step, &permit.what().resource);
        self.counted(&session.tracks(caller), &permit);
        let target = Target::Direct { name: asked.database.clone(), body: run.digest() };
        let intent = self.intend_labelled(permit, target, None, session, &label).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(Action::DatabaseQuery), VerdictKind::Permit, None);
        self.parts.metrics.forwarded(self.since(began_us));
        let stopped = |problem: Problem| Stop { problem: problem.of(id), receipt: Some(receipt.clone()) };
        let Some(databases) = &self.parts.databases else {
            intent.begin().finish(Ended::new(End::Failed { reason: ReasonCode::FeatureAbsent }));
            return Err(stopped(Problem::new(ReasonCode::FeatureAbsent)));
        };
        let running = databases.query(intent, &asked.database, route, &run);
        let answered = tokio::select! {
            answered = running => answered,
            () = going.until_over(self) => return Err(stopped(Problem::new(ReasonCode::StreamEnded))),
        };
        match answered {
            Err(Failed { reason, hint, running }) => {
                running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                Err(stopped(Problem::with_detail(reason, hint.unwrap_or_default())))
            }
            Ok(Answered { running, .. }) if !going.holds(self) => {
                running.finish(Ended::new(End::Failed { reason: ReasonCode::StreamEnded }));
                Err(stopped(Problem::new(ReasonCode::StreamEnded)))
            }
            Ok(Answered { rows, running }) => {
                let shown = Shown::new(&resolved.columns, rows, &scrubs);
                running.finish(Ended {
                    bytes: shown.body.len() as u64,
                    redacted: shown.redacted,
                    ..Ended::new(End::Done)
                });
                let fields = std::mem::take(&mut reserved.fields);
                Ok(Told { shown, label, decision: id, receipt, fields })
            }
        }
    }

    /// Whether the caller may query the database at all; only then anything is told about what is in it. Only a refusal is recorded
    /// here: what is permitted is decided again with everything that it touches.
    async fn may_query(
        &self,
        world: &World,
        caller: &Caller,
        situation: &Situation,
        asked: &Statement,
        id: DecisionId,
    ) -> Result<(), Stop> {
        let tenant = world.tenants.get(caller.tenant());
        let permits = tenant.is_some_and(|tenant| {
            let decision = tenant.policy_for(caller).decide(caller, asked.ask(id), situation, &DOOR);
            matches!(decision.verdict, Verdict::Permit(_))
        });
        if permits {
            return Ok(());
        }
        self.decide(world, caller, asked.ask(id), situation, &DOOR).await.map(drop)
    }

    /// Decides on the database, its tables and its columns at once.
    async fn decide_statement(
        &self,
        tenant: &TenantWorld,
        caller: &Caller,
        situation: &Situation,
        (asked, id): (&Statement, DecisionId),
        touched: &Touched,
    ) -> Result<(Permit<DatabaseQuery>, Vec<PartDecided>), Stop> {
        let policy = tenant.policy_for(caller);
        let (decision, parts) = policy.decide_all(caller, asked.ask(id), &touched.parts, situation, &DOOR);
        match decision.verdict {
            Verdict::Permit(permit) => Ok((permit, parts)),
            Verdict::StepUp(refused)
            | Verdict::Justify(refused)
            | Verdict::Hold(refused)
            | Verdict::Deny(refused) => {
                let mut stop = self.refuse(refused).await;
                stop.problem.detail = explain(touched, &parts);
                Err(stop)
            }
        }
    }

    /// What is taken out of each output. Where any part of the statement wants addresses taken out, they are of all of it.
    fn scrubs(
        &self,
        tenant: &TenantWorld,
        caller: &Caller,
        obligations: &Obligations,
        redacted: &Redacted,
    ) -> Result<Vec<Scrub>, Problem> {
        let of = |detectors: &BTreeSet<Detector>| {
            let maskers = self.maskers_of(tenant, caller.tenant(), detectors, obligations.mask_by())?;
            Ok(Scrub::new(maskers, links(obligations)))
        };
        redacted.iter().map(of).collect()
    }
}

impl Statement {
    /// What is the same where the same is asked again, however it is written.
    fn same(&self) -> Digest {
        let QueryArguments { template, sql, parameters } = &self.arguments;
        Digest::of(&json::canonical(&(template, sql, parameters)).unwrap_or_default())
    }

    fn ask(&self, id: DecisionId) -> Ask<DatabaseQuery> {
        let dialect = if self.arguments.template.is_some() { "sql.template" } else { "sql.free" };
        let facts = AskFacts { dialect: dialect.to_owned(), bytes: self.bytes, ..AskFacts::default() };
        let database = EntityRef::new(Name::literal("Database"), self.database.clone());
        Ask::new(id, Action::DatabaseQuery, database, facts, self.body)
    }
}

/// The statement that is meant, with every name looked up.
fn resolve(route: &DatabaseRouteSpec, arguments: &QueryArguments) -> Result<Resolved, Problem> {
    let malformed = |detail: &str| Problem::with_detail(ReasonCode::BodyMalformed, detail);
    let refused = |detail: String| Problem::with_detail(ReasonCode::StatementRefused, detail);
    let (sql, values) = match (&arguments.template, &arguments.sql) {
        (Some(name), None) => {
            let template = route.templates.get(name);
            let template = template.ok_or_else(|| refused(format!("there is no template `{name}` here")))?;
            (template.sql.as_str(), values(&arguments.parameters, Some(&template.parameters))?)
        }
        (None, Some(_)) if !route.free_statements => {
            let known: Vec<&str> = route.templates.keys().map(Name::as_str).collect();
            let detail = format!("only templates are run here: {}", known.join(", "));
            return Err(refused(detail));
        }
        (None, Some(sql)) => (sql.as_str(), values(&arguments.parameters, None)?),
        _ => return Err(malformed("send either `template` or `sql`")),
    };
    analyse(route, sql, &values).map_err(|refusal| refused(refusal.to_string()))
}

/// The values that were sent, as their parameters take them; what is not declared is taken as what it looks like.
fn values(
    given: &BTreeMap<String, Value>,
    declared: Option<&BTreeMap<Name, SqlType>>,
) -> Result<Values, Problem> {
    let one = |(name, value): (&String, &Value)| {
        let wrong = |what: &str| {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
            Problem::with_detail(ReasonCode::StatementRefused, format!("the parameter `{shown}` {what}"))
        };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || name.len() > NAME_MAX || !plain {
            return Err(wrong("has no name of letters, digits and `_`"));
        }
        let kind = match declared {
            None => looks_like(value).ok_or_else(|| wrong("is a list or object"))?,
            Some(all) => {
                let found = all.iter().find(|(known, _)| known.as_str() == name);
                *found.ok_or_else(|| wrong("is none of the template"))?.1
            }
        };
        let value = bound(kind, value).ok_or_else(|| wrong("takes another type"))?;
        Ok((name.clone(), (kind, value)))
    };
    given.iter().map(one).collect()
}

fn looks_like(value: &Value) -> Option<SqlType> {
    Some(match value {
        Value::Null | Value::String(_) => SqlType::Text,
        Value::Bool(_) => SqlType::Boolean,
        Value::Number(number) if number.is_i64() => SqlType::Integer,
        Value::Number(_) => SqlType::Number,
        Value::Array(_) | Value::Object(_) => return None,
    })
}

fn bound(kind: SqlType, value: &Value) -> Option<Parameter> {
    Some(match (kind, value) {
        (SqlType::Json, value) => Parameter::Text(value.to_string()),
        (_, Value::Null) => Parameter::Null,
        (SqlType::Boolean, Value::Bool(value)) => Parameter::Boolean(*value),
        (SqlType::Integer, Value::Number(number)) => Parameter::Integer(number.as_i64()?),
        (SqlType::Number, Value::Number(number)) => Parameter::Number(number.as_f64()?),
        (SqlType::Decimal, Value::Number(number)) => Parameter::Text(number.to_string()),
        (SqlType::Boolean | SqlType::Integer | SqlType::Number, _) => return None,
        // A character of code 0 is in no text of a database.
        (_, Value::String(text)) if !text.contains('\0') => Parameter::Text(text.clone()),
        _ => return None,
    })
}

/// What is redacted of each output. A column that is redacted for the caller may be given out and nothing else: whatever is
/// computed of it would tell of it.
fn redacted(
    route: &DatabaseRouteSpec,
    statement: &Resolved,
    touched: &Touched,
    parts: &[PartDecided],
) -> Result<Redacted, Problem> {
    let nothing = Obligations::none();
    let of_part = |table: &Name, column: Option<&Name>| {
        let at = touched.names.iter().position(|(t, c)| t == table && c.as_ref() == column);
        // The first is the statement itself.
        at.and_then(|at| parts.get(at + 1)).map_or(&nothing, |part| &part.obligations).detectors()
    };
    let whole: BTreeSet<Detector> = parts.first().map_or(&nothing, |part| &part.obligations).detectors();
    let of_column = |table: &Name, column: &Name| {
        let mut found = whole.clone();
        found.extend(of_part(table, None));
        found.extend(of_part(table, Some(column)));
        found
    };
    for ((table, column), read) in &statement.reads {
        let declared = route.tables.get(table).and_then(|t| t.columns.iter().find(|c| c.name == *column));
        let is_plain = declared.is_some_and(|column| column.plain || column.hidden);
        if read.computed && !is_plain && !of_column(table, column).is_empty() {
            let detail = format!(
                "`{table}.{column}` is redacted for you: it can be given out, not compared, ordered, grouped or computed with"
            );
            return Err(Problem::with_detail(ReasonCode::PersonalData, detail));
        }
    }
    let of_output = |column: &Column| {
        let of = column.origins.iter().flat_map(|(table, column)| of_column(table, column));
        whole.iter().cloned().chain(of).collect()
    };
    Ok(statement.columns.iter().map(of_output).collect())
}

/// What the answer carries: the join of the columns that were read, and of the tables of which no column was.
fn label(world: &World, caller: &Caller, touched: &Touched) -> Label {
    let is_counted = |(table, column): &(Name, Option<Name>)| {
        column.is_some() || !touched.names.iter().any(|(t, c)| t == table && c.is_some())
    };
    let all = touched.parts.iter().zip(&touched.names).filter(|(_, names)| is_counted(names));
    all.fold(Label::bottom(), |joined, ((action, resource), _)| {
        let kind = if *action == Action::TableRead { "table" } else { "column" };
        let name: Option<Name> = resource.name.as_str().parse().ok();
        let found = name.and_then(|name| world.state.document(caller.tenant(), kind, &name));
        let asset = found.and_then(|(_, document, _)| document.spec.asset());
        let own = asset.map_or_else(Label::default, |(asset, _)| Label {
            categories: asset.categories.clone(),
            confidentiality: asset.confidentiality,
            integrity: asset.integrity,
        });
        joined.join(&own)
    })
}

fn identity(tenant: &TenantWorld, caller: &Caller) -> Identity {
    let subject = &caller.subject().principal;
    let kind = |kind: PrincipalKind| kind.entity_type().to_ascii_lowercase();
    let actor = |member: &bartizan_model::Member| {
        format!("{}/{}", kind(member.principal.kind), member.principal.name)
    };
    Identity {
        tenant: caller.tenant().to_string(),
        subject: subject.name.to_string(),
        kind: kind(subject.kind),
        groups: tenant.policy.entities().groups_of(&subject.entity()),
        actors: caller.actors().iter().map(actor).collect(),
    }
}
