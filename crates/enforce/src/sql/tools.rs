//! Databases as tools: one of each, whose arguments are the body of `POST /query/{database}`.
//!
//! The MCP door lists them with [`Gate::query_tools`] and calls them with [`Gate::call_query_tool`]; it needs to know nothing
//! else of databases.

use std::sync::Arc;

use bartizan_base::{Digest, Name, json};
use bartizan_decide::Verdict;
use bartizan_identify::Caller;
use bartizan_model::action::DatabaseQuery;
use bartizan_model::{
    Action, Ask, AskFacts, DatabaseRouteSpec, DecisionId, EntityRef, Label, Problem, ReasonCode, Situation,
};
use bartizan_record::Receipt;
use serde_json::{Map, Value, json};

use crate::path::{Gate, Stop};
use crate::session::Session;
use crate::sql::ask::{QueryArguments, Statement};
use crate::world::World;

/// What tools of databases are called: this and the database's name, other characters than letters, digits, `_` and `-` as `_`.
const NAMED: &str = "query_";
/// Columns that a description names.
const COLUMNS_MAX: usize = 200;

/// A database as a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTool {
    /// The tool's name.
    pub name: String,
    /// What it does, for models: templates, and what the caller may read.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// Which database it is of.
    pub database: Name,
}

/// What a call gave.
#[derive(Debug)]
pub struct QueryResult {
    /// Columns, rows, and whether there were more.
    pub content: Value,
    /// What it carries into the session.
    pub label: Label,
    /// The decision.
    pub decision: DecisionId,
    /// Its receipt.
    pub receipt: Receipt,
}

impl Gate {
    /// The tools of databases that the caller may query, in the order of their names. Listing is not recorded here: whoever lists
    /// tools records that once for all of them.
    #[must_use]
    pub fn query_tools(&self, world: &World, caller: &Caller, situation: &Situation) -> Vec<QueryTool> {
        let Some(tenant) = world.tenants.get(caller.tenant()) else { return Vec::new() };
        let may = |action: Action, kind: &'static str, name: Name| {
            let facts = AskFacts { dialect: "list".to_owned(), ..AskFacts::default() };
            let resource = EntityRef::new(Name::literal(kind), name);
            let ask = Ask::<DatabaseQuery>::new(self.new_id(), action, resource, facts, Digest::of(b""));
            let decision = tenant.policy_for(caller).decide(caller, ask, situation, &Self::query_door());
            matches!(decision.verdict, Verdict::Permit(_))
        };
        let mut tools: Vec<QueryTool> = Vec::new();
        for (database, route) in tenant.databases.iter() {
            if !may(Action::DatabaseQuery, "Database", database.clone()) {
                continue;
            }
            let column = |table: &Name, column: &Name| {
                let asset = DatabaseRouteSpec::column_asset(database, table, column);
                asset.is_some_and(|asset| may(Action::ColumnRead, "Column", asset))
            };
            tools.push(QueryTool {
                name: tool_name(database),
                description: described(database, route, &column),
                input_schema: schema(route),
                database: database.clone(),
            });
        }
        // Two of one name: nobody could say which is called.
        let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
        tools.retain(|tool| names.iter().filter(|name| **name == tool.name).count() == 1);
        tools
    }

    /// Calls the tool called `name`; decided and recorded as the same sent to `POST /query/{database}`.
    ///
    /// # Errors
    /// The problem, with the receipt of its record where there is one.
    pub async fn call_query_tool(
        &self,
        world: &Arc<World>,
        caller: &Caller,
        (situation, session): (&Situation, &Session),
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<QueryResult, (Problem, Option<Receipt>)> {
        self.call_query(world, caller, (situation, session), name, arguments)
            .await
            .map_err(|stop| (stop.problem, stop.receipt))
    }

    async fn call_query(
        &self,
        world: &World,
        caller: &Caller,
        (situation, session): (&Situation, &Session),
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<QueryResult, Stop> {
        let arguments = Value::Object(arguments);
        let sent = json::canonical(&arguments).unwrap_or_default();
        let read = serde_json::from_value::<QueryArguments>(arguments)
            .map_err(|error| Problem::with_detail(ReasonCode::BodyMalformed, error.to_string()));
        let arguments = self.or_refuse(caller, None, read).await?;
        let tenant = world.tenants.get(caller.tenant());
        let databases = tenant.into_iter().flat_map(|tenant| tenant.databases.keys());
        let mut called = databases.filter(|database| tool_name(database) == name);
        let database = match (called.next(), called.next()) {
            (Some(database), None) => Ok(database.clone()),
            _ => Err(Problem::new(ReasonCode::NotFound)),
        };
        let database = self.or_refuse(caller, None, database).await?;
        let asked = Statement { database, arguments, bytes: sent.len() as u64, body: Digest::of(&sent) };
        let told = self.run_statement(world, caller, (situation, session), asked).await?;
        Ok(QueryResult {
            content: told.shown.value,
            label: told.label,
            decision: told.decision,
            receipt: told.receipt,
        })
    }
}

fn tool_name(database: &Name) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    NAMED.chars().chain(database.as_str().chars().map(plain)).take(64).collect()
}

fn described(database: &Name, route: &DatabaseRouteSpec, may: &dyn Fn(&Name, &Name) -> bool) -> String {
    let mut text = format!("Reads the database `{database}`.");
    for (name, template) in &route.templates {
        let parameters: Vec<&str> = template.parameters.keys().map(Name::as_str).collect();
        let what = template.description.as_ref().map_or("", |text| text.as_str());
        text.push_str(&format!("\nTemplate `{name}`({}): {what}", parameters.join(", ")));
    }
    if !route.free_statements {
        return text;
    }
    let dialect = if route.is_postgres() { "PostgreSQL" } else { "SQLite" };
    text.push_str(&format!("\nOr one query in the SQL of {dialect}, with parameters as `:name`, over:"));
    let mut left = COLUMNS_MAX;
    for (table, declared) in &route.tables {
        let columns: Vec<&str> = declared
            .columns
            .iter()
            .take(left)
            .filter(|column| may(table, &column.name))
            .map(|column| column.name.as_str())
            .collect();
        left = left.saturating_sub(declared.columns.len());
        if !columns.is_empty() {
            text.push_str(&format!("\n{table}({})", columns.join(", ")));
        }
    }
    text
}

fn schema(route: &DatabaseRouteSpec) -> Value {
    let templates: Vec<&str> = route.templates.keys().map(Name::as_str).collect();
    let mut properties = Map::new();
    if !templates.is_empty() {
        let template = json!({"type": "string", "enum": templates, "description": "Which template to run."});
        properties.insert("template".to_owned(), template);
    }
    if route.free_statements {
        let sql = json!({"type": "string", "description": "One query, in place of a template."});
        properties.insert("sql".to_owned(), sql);
    }
    let values = json!({"type": "object", "description": "Values of the parameters, by their names."});
    properties.insert("parameters".to_owned(), values);
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
