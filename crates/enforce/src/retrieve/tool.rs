//! The same as a tool, for those who speak the Model Context Protocol.

use std::net::IpAddr;

use bartizan_base::Name;
use bartizan_decide::RowsQuestion;
use bartizan_identify::Caller;
use bartizan_model::{Action, AskFacts, CorpusRouteSpec, EntityRef, Obligations, Situation};
use http::HeaderMap;
use serde_json::{Value, json};

use super::body::SearchAsked;
use super::search::Found;
use crate::path::{Gate, Stop};
use crate::world::World;

/// The tool that searches a corpus, as MCP lists tools: `name`, `description`, `inputSchema`, `annotations`.
#[must_use]
pub fn search_tool(corpus: &Name, route: &CorpusRouteSpec) -> Value {
    let fields: Vec<&Name> = route.metadata.keys().collect();
    let mut properties = json!({
        "query": {"type": "string", "minLength": 1, "maxLength": 8_192, "description": "What is looked for, in words."},
        "k": {"type": "integer", "minimum": 1, "maximum": route.k_max, "description": "How many passages at most."},
        "collections": {"type": "array", "maxItems": 8, "items": {"type": "string"}, "description": "In which collections; in all if left out."},
        "where": {"type": "object", "description": format!("A filter over the fields {fields:?}: {{\"field\": …, \"is\": …}}, {{\"all\": […]}}, {{\"any\": […]}}.")},
    });
    let mut required = json!(["query"]);
    if route.model.is_none() {
        let numbers = json!({"type": "array", "items": {"type": "number"}, "minItems": route.dimensions, "maxItems": route.dimensions});
        if let Some(members) = properties.as_object_mut() {
            members.remove("query");
            members.insert("vector".to_owned(), numbers);
        }
        required = json!(["vector"]);
    }
    json!({
        "name": format!("search_{corpus}"),
        "description": format!("Searches the corpus `{corpus}` for passages."),
        "inputSchema": {"type": "object", "properties": properties, "required": required, "additionalProperties": false},
        "annotations": {"readOnlyHint": true, "openWorldHint": false},
    })
}

impl Gate {
    /// The tools of the corpora of which the caller may search some collection.
    #[expect(dead_code, reason = "mounted by the door to tools")]
    pub(crate) fn search_tools(&self, world: &World, caller: &Caller, situation: &Situation) -> Vec<Value> {
        let Some(tenant) = world.tenants.get(caller.tenant()) else { return Vec::new() };
        let facts = AskFacts { dialect: "retrieve".to_owned(), ..AskFacts::default() };
        let question = RowsQuestion {
            caller,
            action: Action::CollectionRetrieve,
            rows: "Collection",
            facts: &facts,
            situation,
            applied: &Obligations::none(),
        };
        let policy = tenant.policy_for(caller);
        let may = |corpus: &Name| {
            world.state.of_kind(caller.tenant(), "collection").any(|(_, document, _)| {
                let within = document.spec.asset().is_some_and(|(spec, _)| spec.within.contains(corpus));
                let resource = EntityRef::new(Name::literal("Collection"), document.name.clone());
                within && policy.would_permit(&question, &resource, &self.retrieval.door)
            })
        };
        let corpora = tenant.corpora.iter().filter(|(corpus, _)| may(corpus));
        corpora.map(|(corpus, route)| search_tool(corpus, route)).collect()
    }

    /// Calls the tool of a corpus: the same search, with the arguments as its body.
    #[expect(dead_code, reason = "mounted by the door to tools")]
    pub(crate) async fn call_search_tool(
        &self,
        who: (&World, &Caller),
        from: (&HeaderMap, Option<IpAddr>),
        corpus: &str,
        arguments: Value,
    ) -> Result<Found, Stop> {
        let body = arguments.to_string();
        let asked = SearchAsked::of_arguments(arguments);
        let asked = self.or_refuse(who.1, None, asked).await?;
        self.search_corpus(who, from, corpus, (asked, body.as_bytes())).await
    }
}
