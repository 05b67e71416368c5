//! What a tool says that its answers look like, held against what it answers.

use std::sync::OnceLock;

use bartizan_wire::api::ArgumentSchema;
use bartizan_wire::mcp::Message;
use serde_json::Value;

/// The `outputSchema` of a definition.
#[derive(Debug)]
pub(super) struct OutputSchema {
    schema: Value,
    /// Compiled when it is first needed; none where it is unusable.
    ready: OnceLock<Option<ArgumentSchema>>,
}

impl OutputSchema {
    /// That of a definition, if it has one.
    pub(super) fn of(definition: &str) -> Option<Self> {
        let mut definition: Value = serde_json::from_str(definition).ok()?;
        let schema = definition.get_mut("outputSchema")?.take();
        Some(Self { schema, ready: OnceLock::new() })
    }

    /// Whether an answer is what the schema says: its `structuredContent` is there and fits (revision 2025-06-18, structured
    /// content). What the tool tells as its own error, or asks back, has none.
    pub(super) fn fits(&self, answer: &Message) -> bool {
        let Some(result) = answer.result() else { return true };
        let is_error = result.member("isError").is_some_and(|node| answer.raw(node) == "true");
        let kind = result.member("resultType").and_then(|kind| answer.text(kind));
        if is_error || kind.is_some_and(|kind| kind != "complete") {
            return true;
        }
        let ready = self.ready.get_or_init(|| ArgumentSchema::new(&self.schema).ok());
        let given = result.member("structuredContent");
        let given = given.and_then(|given| serde_json::from_str::<Value>(answer.raw(given)).ok());
        // A schema that cannot be used is one that nothing fits.
        ready.as_ref().zip(given).is_some_and(|(schema, given)| match schema.check(&given) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a tool answered otherwise than its schema says");
                false
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    fn fits(schema: &Value, result: &Value) -> bool {
        let definition = json!({"name": "a", "outputSchema": schema}).to_string();
        let message = json!({"jsonrpc": "2.0", "id": "1", "result": result}).to_string();
        let message = Message::read(Bytes::from(message), bartizan_base::json::Limits::default()).unwrap();
        OutputSchema::of(&definition).unwrap().fits(&message)
    }

    #[test]
    fn what_a_tool_answers_must_be_what_its_approved_schema_says() {
        let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
        assert!(fits(&schema, &json!({"content": [], "structuredContent": {"n": 1}})));
        for wrong in [
            json!({"content": [], "structuredContent": {"n": "1"}}),
            json!({"content": [], "structuredContent": {}}),
            json!({"content": [{"type": "text", "text": "{\"n\":1}"}]}),
            json!({"content": [], "structuredContent": {"n": "1"}, "isError": false}),
            json!({"content": [], "structuredContent": {"n": "1"}, "resultType": "complete"}),
        ] {
            assert!(!fits(&schema, &wrong), "{wrong}");
        }
        assert!(fits(&schema, &json!({"content": [], "isError": true})), "its own error");
        assert!(fits(&schema, &json!({"resultType": "input_required"})));
    }

    #[test]
    fn a_schema_that_nobody_can_use_lets_nothing_through() {
        let good = json!({"content": [], "structuredContent": {"n": 1}});
        assert!(!fits(&json!({"$ref": "https://schemas.example/x"}), &good), "nothing is fetched");
        assert!(!fits(&json!({"type": 7}), &good));
        assert!(OutputSchema::of("{\"name\":\"a\"}").is_none());
    }
}
