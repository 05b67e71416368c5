//! Databases and corpora as servers of tools: the same questions as over HTTP, by the same functions. One ask, one record; a tool
//! call is none of it.

use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_decide::{Permit, Verdict};
use bartizan_model::action::ReadState;
use bartizan_model::database_route::ColumnRoute;
use bartizan_model::directory::Spec;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::tool_route::{TOOL_SEPARATOR, is_server_name, is_tool_name};
use bartizan_model::{
    Action, AskFacts, CorpusRouteSpec, DatabaseRouteSpec, DecisionId, EntityRef, Label, Problem, ReasonCode,
    SqlType, Target,
};
use bartizan_record::{Ended, Receipt};
use bartizan_wire::mcp::LABEL;
use bytes::Bytes;
use futures_util::stream::empty;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::flight::Under;
use super::hear::streamed;
use super::visit::{Endpoint, Visit};
use crate::path::Stop;
use crate::reply::{self, Reply};
use crate::retrieve::SearchAsked;
use crate::scrub::DOOR;
use crate::sql::{QueryArguments, Statement};

/// The tool that runs statements of the caller's own.
const QUERY: &str = "query";
/// The tool that searches a corpus.
const SEARCH: &str = "search";
/// Collections of a corpus that are looked at to see whether any may be searched.
const COLLECTIONS_MAX: usize = 256;

/// What a tool of the house does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Does {
    /// Runs a statement of the caller's own.
    Query,
    /// Runs a template.
    Template(Name),
    /// Searches.
    Search,
}

/// Where it does that.
#[derive(Clone, Copy)]
enum Place<'a> {
    Database(&'a DatabaseRouteSpec),
    Corpus(&'a CorpusRouteSpec),
}

/// A tool of the house that the caller may know of.
pub(super) struct OwnTool {
    /// As it is listed.
    pub(super) definition: String,
    /// What permits it.
    permit: Permit<ReadState>,
}

impl Place<'_> {
    /// Its tools by their names.
    fn tools(self) -> Vec<(String, Does)> {
        match self {
            Self::Corpus(_) => vec![(SEARCH.to_owned(), Does::Search)],
            Self::Database(route) => {
                let free = route.free_statements.then(|| (QUERY.to_owned(), Does::Query));
                let taken = |name: &Name| route.free_statements && name.as_str() == QUERY;
                let templates = route.templates.keys().filter(|name| is_tool_name(name) && !taken(name));
                free.into_iter()
                    .chain(templates.map(|name| (name.to_string(), Does::Template(name.clone()))))
                    .collect()
            }
        }
    }

    /// A tool as clients know it: what it is for, what it takes, what it answers.
    fn definition(self, server: &Name, shown: &str, does: &Does) -> Value {
        let (description, input, output) = match (self, does) {
            (Self::Corpus(route), _) => {
                let mut takes = Map::new();
                if route.model.is_some() {
                    takes.insert(
                        "query".to_owned(),
                        json!({"type": "string", "description": "What is looked for, in words."}),
                    );
                } else {
                    let numbers = json!({"type": "array", "items": {"type": "number"}, "minItems": route.dimensions, "maxItems": route.dimensions});
                    takes.insert("vector".to_owned(), numbers);
                }
                let required: Vec<String> = takes.keys().cloned().collect();
                takes
                    .insert("k".to_owned(), json!({"type": "integer", "minimum": 1, "maximum": route.k_max}));
                takes.insert("collections".to_owned(), json!({"type": "array", "items": {"type": "string"}}));
                takes.insert("where".to_owned(), json!({"type": "object"}));
                let output = json!({"passages": {"type": "array", "items": {"type": "object"}}});
                (format!("Searches the documents of `{server}`."), input(&takes, &required), output)
            }
            (Self::Database(route), does) => {
                let output = json!({
                    "columns": {"type": "array", "items": {"type": "object"}},
                    "rows": {"type": "array", "items": {"type": "array"}}, "truncated": {"type": "boolean"}
                });
                let (description, takes, required) = match does {
                    Does::Template(name) => {
                        let template = route.templates.get(name);
                        let told = template.and_then(|template| template.description.as_ref());
                        let told = told.map_or_else(
                            || format!("Runs the query `{name}` on the database `{server}`."),
                            ToString::to_string,
                        );
                        let parameters = template.into_iter().flat_map(|template| &template.parameters);
                        let takes: Map<_, _> =
                            parameters.map(|(name, kind)| (name.to_string(), json_type(*kind))).collect();
                        let required = takes.keys().cloned().collect();
                        (told, takes, required)
                    }
                    Does::Query | Does::Search => {
                        let takes = [
                            (
                                "sql".to_owned(),
                                json!({"type": "string", "description": "One statement that reads; values as `:name`."}),
                            ),
                            (
                                "parameters".to_owned(),
                                json!({"type": "object", "description": "Values by name."}),
                            ),
                        ];
                        (statement_of(server, route), takes.into_iter().collect(), vec!["sql".to_owned()])
                    }
                };
                (description, input(&takes, &required), output)
            }
        };
        let required: Vec<String> = output.as_object().into_iter().flat_map(Map::keys).cloned().collect();
        json!({
            "name": shown, "description": description, "inputSchema": input,
            "outputSchema": {"type": "object", "properties": output, "required": required},
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        })
    }
}

fn input(takes: &Map<String, Value>, required: &[String]) -> Value {
    json!({"type": "object", "properties": takes, "required": required, "additionalProperties": false})
}

/// What a statement can be about. Whoever may query the database may know that.
fn statement_of(server: &Name, route: &DatabaseRouteSpec) -> String {
    let columns = |columns: &[ColumnRoute]| {
        let shown = columns.iter().filter(|column| !column.hidden);
        shown.map(|column| column.name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let tables: Vec<String> =
        route.tables.iter().map(|(name, table)| format!("{name}({})", columns(&table.columns))).collect();
    format!("Runs one SQL statement that reads on the database `{server}`. Tables: {}.", tables.join("; "))
}

fn json_type(kind: SqlType) -> Value {
    match kind {
        SqlType::Boolean => json!({"type": ["boolean", "null"]}),
        SqlType::Integer => json!({"type": ["integer", "null"]}),
        SqlType::Number => json!({"type": ["number", "null"]}),
        SqlType::Decimal => json!({"type": ["number", "string", "null"]}),
        SqlType::Json => json!({}),
        _ => json!({"type": ["string", "null"]}),
    }
}

impl Visit {
    /// The database or corpus that is served under this name: none where a server of tools has the name.
    fn place(&self, server: &Name) -> Option<Place<'_>> {
        let part = self.part()?;
        if part.tool_routes.contains_key(server) || !is_server_name(server) {
            return None;
        }
        let database = part.databases.get(server).map(Place::Database);
        database.or_else(|| part.corpora.get(server).map(Place::Corpus))
    }

    /// What a call of a tool at `server` is decided on, if that is a database or corpus.
    pub(super) fn own_action(&self, server: &Name) -> Option<Action> {
        self.place(server).map(|place| match place {
            Place::Database(_) => Action::DatabaseQuery,
            Place::Corpus(_) => Action::CollectionRetrieve,
        })
    }

    /// The tools of databases and corpora that this caller may know of here: by the decision that a call begins with.
    pub(super) fn own(&self) -> Vec<OwnTool> {
        let Some(part) = self.part() else { return Vec::new() };
        let policy = part.policy_for(&self.caller);
        let named = part
            .databases
            .keys()
            .chain(part.corpora.keys().filter(|name| !part.databases.contains_key(*name)));
        let mut out = Vec::new();
        for server in named.filter(|server| self.endpoint.one().is_none_or(|one| one == *server)) {
            let Some(place) = self.place(server) else { continue };
            for (name, does) in place.tools() {
                let mut permitted =
                    self.own_asks(server, &does).into_iter().filter_map(|(action, entity, facts)| {
                        let ask = self.ask::<ReadState>(action, &entity, facts);
                        match policy.decide(&self.caller, ask, &self.situation, &DOOR).verdict {
                            Verdict::Permit(permit) => Some(permit),
                            Verdict::StepUp(_)
                            | Verdict::Justify(_)
                            | Verdict::Hold(_)
                            | Verdict::Deny(_) => None,
                        }
                    });
                let Some(permit) = permitted.next() else { continue };
                let shown = match self.endpoint {
                    Endpoint::One(_) => name,
                    Endpoint::All => format!("{server}{TOOL_SEPARATOR}{name}"),
                };
                let definition = place.definition(server, &shown, &does).to_string();
                out.push(OwnTool { definition, permit });
            }
        }
        out
    }

    /// What a call of a tool begins with, one of which must be permitted.
    fn own_asks(&self, server: &Name, does: &Does) -> Vec<(Action, EntityRef, AskFacts)> {
        let bytes = self.message.bytes().len() as u64;
        let facts = |dialect: &str| AskFacts { dialect: dialect.to_owned(), bytes, ..AskFacts::default() };
        let entity = |kind, name: &Name| EntityRef::new(Name::literal(kind), name.clone());
        let dialect = match does {
            Does::Query => "sql.free",
            Does::Template(_) => "sql.template",
            Does::Search => {
                let all = self.world.state.of_kind(self.caller.tenant(), "collection");
                let own = all.filter(
                    |(_, document, _)| matches!(&document.spec, Spec::Collection(spec) if spec.within.contains(server)),
                );
                let asks = own.take(COLLECTIONS_MAX).map(|(_, document, _)| {
                    (Action::CollectionRetrieve, entity("Collection", &document.name), facts("retrieve"))
                });
                return asks.collect();
            }
        };
        vec![(Action::DatabaseQuery, entity("Database", server), facts(dialect))]
    }

    /// Records that the caller was told of these, as an answer of the house.
    pub(super) async fn own_recorded(&self, own: Vec<OwnTool>) -> Result<(DecisionId, Receipt), Stop> {
        let told = own.len() as u64;
        let definitions: Vec<&[u8]> = own.iter().map(|tool| tool.definition.as_bytes()).collect();
        let body = Digest::of_parts(&definitions);
        let permit = own.into_iter().next_back().ok_or(ReasonCode::Internal)?.permit;
        let decision = permit.id();
        let (gate, part) = (&self.gate, self.part().ok_or(ReasonCode::PolicyMissing)?);
        gate.unlocked(&self.world, &self.caller, &permit, &self.situation, (&[], self.entered.run())).await?;
        gate.counted(&self.entered.tracks(&self.caller), &permit);
        let action = permit.what().action;
        let policy = part.policy.bundle().map_or(Digest::EMPTY, |bundle| bundle.digest());
        let target = Target::Answer { asked: told, permitted: told, body, policy };
        let intent = gate.intend(permit, target, None).await?;
        let receipt = intent.receipt().clone();
        intent.begin().finish(Ended::new(End::Done));
        gate.parts.metrics.asked(Some(action), VerdictKind::Permit, None);
        Ok((decision, receipt))
    }

    /// Calls the tool `name` of the database or corpus `server`; none where that is neither.
    pub(super) async fn call_own(&self, server: &Name, name: &str) -> Option<Result<Reply, Stop>> {
        let place = self.place(server)?;
        let does = place.tools().into_iter().find(|(known, _)| known == name).map(|(_, does)| does);
        let called = match does {
            Some(does) => self.do_own(server, &does).await,
            None => {
                Err(self.gate.refuse_early(&self.caller, None, Problem::new(ReasonCode::ToolNotFound)).await)
            }
        };
        Some(match called {
            Ok(reply) => Ok(reply),
            // Who is to prove more, and what would help, is told as at every other tool.
            Err(stop) if is_of_protocol(&stop.problem) => Err(stop),
            Err(stop) => Ok(self.own_error(&stop)),
        })
    }

    async fn do_own(&self, server: &Name, does: &Does) -> Result<Reply, Stop> {
        let (gate, bytes) = (&self.gate, self.message.bytes());
        let arguments = gate.or_refuse(&self.caller, None, self.own_arguments()).await?;
        if *does == Does::Search {
            let body = Bytes::from(Value::Object(arguments).to_string());
            let asked = SearchAsked::read(&body, gate.parts.bounds.body);
            let asked = gate.or_refuse(&self.caller, None, asked).await?;
            let scene = (self.situation.clone(), self.entered.clone());
            let found =
                gate.search_corpus((&self.world, &self.caller), scene, server, (asked, bytes)).await?;
            return Ok(self.own_answer(&found.body.to_string(), &found.label, found.marks(), &found.fields));
        }
        let arguments = gate.or_refuse(&self.caller, None, query_arguments(does, arguments)).await?;
        let body = Digest::of(bytes);
        let statement = Statement { database: server.clone(), arguments, bytes: bytes.len() as u64, body };
        let scene = (&self.situation, &self.entered);
        let end = Arc::<Notify>::default();
        let under = Under {
            server: server.clone(),
            id: gate.new_id().to_string(),
            entity: EntityRef::new(Name::literal("Database"), server.clone()),
            facts: AskFacts::default(),
            end: end.clone(),
        };
        let theirs = self.message.id().unwrap_or("null");
        let Some(_flight) = gate.tools.flights.begin(self.session, theirs, under) else {
            return Err(gate.refuse_early(&self.caller, None, Problem::new(ReasonCode::Busy)).await);
        };
        let told = tokio::select! {
            told = gate.run_statement(&self.world, &self.caller, scene, statement) => told?,
            // Taken back: what nobody waits for is cancelled at the database, and there is nothing to say.
            () = end.notified() => return Ok(streamed(empty())),
        };
        let rows = told.body();
        let rows = String::from_utf8_lossy(&rows);
        Ok(self.own_answer(&rows, &told.label, (told.decision, &told.receipt), &told.fields))
    }

    fn own_arguments(&self) -> Result<Map<String, Value>, Problem> {
        let malformed = |detail: String| Problem::with_detail(ReasonCode::ParamsInvalid, detail);
        if let Some(name) =
            self.message.param_names().find(|name| !["_meta", "name", "arguments", "task"].contains(name))
        {
            let shown: String = name.chars().take(40).collect();
            return Err(malformed(format!("`params.{shown}` is not known here")));
        }
        Ok(self.message.arguments().map_err(|error| malformed(error.to_string()))?.unwrap_or_default())
    }

    /// An answer of the house as a tool's result: once for programs, once for models.
    fn own_answer(
        &self,
        body: &str,
        label: &Label,
        (decision, receipt): (DecisionId, &Receipt),
        fields: &[(&'static str, String)],
    ) -> Reply {
        let result = format!(
            "{{\"content\":[{{\"type\":\"text\",\"text\":{}}}],\"structuredContent\":{body},\"isError\":false,\"_meta\":{}{}}}",
            json!(body),
            json!({LABEL: label}),
            self.complete()
        );
        let mut reply = self.result(&result, Some((decision, receipt)));
        reply::label(reply.headers_mut(), label);
        reply::tell(reply.headers_mut(), fields);
        reply
    }

    /// A refusal as a tool's own error, so that the model that called it can do better.
    fn own_error(&self, stop: &Stop) -> Reply {
        let problem = &stop.problem;
        let meta = json!({
            "bartizan/reason": problem.reason.code(), "bartizan/decision": problem.decision,
            "bartizan/receipt": stop.receipt.as_ref().map(ToString::to_string),
        });
        let text = format!("{}: {}", problem.reason.code(), problem.message());
        let result = format!(
            "{{\"content\":[{{\"type\":\"text\",\"text\":{}}}],\"isError\":true,\"_meta\":{meta}{}}}",
            json!(text),
            self.complete()
        );
        let decision = problem.decision.unwrap_or_else(|| self.gate.new_id());
        let mut reply = self.result(&result, None);
        reply::mark(reply.headers_mut(), decision, stop.receipt.as_ref());
        reply::tell(reply.headers_mut(), &problem.fields);
        reply
    }

    fn complete(&self) -> &'static str {
        if self.revision.is_stateless() { ",\"resultType\":\"complete\"" } else { "" }
    }
}

/// Whether a problem is told as an error of the protocol: it is about who asks, or about what could be done about it.
fn is_of_protocol(problem: &Problem) -> bool {
    problem.reason.status() == 401
        || !problem.offers.is_empty()
        || matches!(problem.reason, ReasonCode::ScopeInsufficient | ReasonCode::ToolNotFound)
}

fn query_arguments(does: &Does, mut arguments: Map<String, Value>) -> Result<QueryArguments, Problem> {
    let malformed = |detail: &str| Problem::with_detail(ReasonCode::ParamsInvalid, detail);
    if let Does::Template(name) = does {
        let parameters = arguments.into_iter().collect();
        return Ok(QueryArguments { template: Some(name.clone()), sql: None, parameters });
    }
    let sql = match arguments.remove("sql") {
        Some(Value::String(sql)) => sql,
        _ => return Err(malformed("`sql` is a text")),
    };
    let parameters = match arguments.remove("parameters") {
        None => Map::new(),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => return Err(malformed("`parameters` is an object")),
    };
    if !arguments.is_empty() {
        return Err(malformed("there is nothing beside `sql` and `parameters`"));
    }
    Ok(QueryArguments { template: None, sql: Some(sql), parameters: parameters.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_wire::api::ArgumentSchema;

    fn database(free: bool) -> DatabaseRouteSpec {
        serde_json::from_value(json!({
            "server": {"engine": "sqlite", "file": "shop.db"}, "free_statements": free,
            "tables": {"orders": {"rows": "all", "columns": [{"name": "id", "type": "integer"}, {"name": "secret", "hidden": true}]}},
            "templates": {
                "mails_of": {"sql": "select id from orders where id >= :least", "parameters": {"least": "integer", "day": "date"}},
                "query": {"sql": "select id from orders"}
            }
        }))
        .unwrap()
    }

    fn names(route: &DatabaseRouteSpec) -> Vec<(String, Does)> {
        Place::Database(route).tools()
    }

    #[test]
    fn each_template_is_a_tool_with_a_schema_of_its_own_and_statements_are_one_where_they_are_free() {
        let template = |name: &'static str| (name.to_owned(), Does::Template(Name::literal(name)));
        assert_eq!(names(&database(false)), [template("mails_of"), template("query")]);
        assert_eq!(names(&database(true)), [(QUERY.to_owned(), Does::Query), template("mails_of")]);
        let shop = Name::literal("shop");
        let (route, does) = (database(true), Does::Template(Name::literal("mails_of")));
        let definition = Place::Database(&route).definition(&shop, "shop__mails_of", &does);
        assert_eq!(definition["name"], "shop__mails_of");
        let input = ArgumentSchema::new(&definition["inputSchema"]).unwrap();
        assert!(input.check(&json!({"least": 3, "day": "2026-11-22"})).is_ok());
        for wrong in [
            json!({"least": "3", "day": null}),
            json!({"least": 3}),
            json!({"least": 3, "day": null, "sql": "x"}),
        ] {
            assert!(input.check(&wrong).is_err(), "{wrong}");
        }
        let output = ArgumentSchema::new(&definition["outputSchema"]).unwrap();
        assert!(output.check(&json!({"columns": [], "rows": [[1]], "truncated": false})).is_ok());
        let query = Place::Database(&route).definition(&shop, QUERY, &Does::Query);
        let told = query["description"].as_str().unwrap();
        assert!(told.contains("orders(id)") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn a_template_takes_its_parameters_alone_and_a_statement_nothing_else() {
        let of = |does: &Does, value: Value| query_arguments(does, value.as_object().unwrap().clone());
        let template =
            of(&Does::Template(Name::literal("a")), json!({"sql": "drop table x", "n": 1})).unwrap();
        assert!(template.sql.is_none() && template.parameters.len() == 2, "a value, never a statement");
        assert_eq!(of(&Does::Query, json!({"sql": "select 1"})).unwrap().sql.as_deref(), Some("select 1"));
        for wrong in [
            json!({}),
            json!({"sql": 1}),
            json!({"sql": "select 1", "parameters": []}),
            json!({"sql": "select 1", "template": "a"}),
        ] {
            assert_eq!(of(&Does::Query, wrong).unwrap_err().reason, ReasonCode::ParamsInvalid);
        }
    }
}
