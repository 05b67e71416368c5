//! What is handed on to tools without having been read, and what they give that nobody reads.

use std::sync::Arc;

use bartizan_base::Name;
use bartizan_base::json::Limits;
use bartizan_model::asset::AssetSpec;
use bartizan_model::{EntityRef, Label, Problem, ReasonCode};
use bartizan_wire::Node;
use bartizan_wire::mcp::{LABEL, Message};
use serde_json::json;

use super::visit::Visit;
use crate::handles::Content;
use crate::path::Stop;
use crate::reply::Reply;

/// Where a result says which handle stands for it.
const HANDLE: &str = "bartizan/handle";

impl Visit {
    /// Does what a message wants, if it may be done: with contents in the place of the handles among its arguments, so that it is
    /// decided on, masked and sent as if the caller had written them there.
    pub(super) async fn call(self: &Arc<Self>) -> Result<Reply, Stop> {
        let takes = matches!(self.message.method(), "tools/call" | "prompts/get");
        let Some(arguments) = self.message.param("arguments").filter(|_| takes) else {
            return self.called().await;
        };
        let gate = &self.gate;
        let scene = (&self.situation, &self.entered);
        let handed = gate.hand_on(&self.world, &self.caller, scene, (self.message.bytes(), arguments));
        let Some(handed) = gate.or_refuse(&self.caller, None, handed).await? else {
            return self.called().await;
        };
        let limits = Limits { bytes_max: usize::MAX, ..gate.parts.bounds.body };
        let read = Message::read(handed.bytes, limits);
        let read = read.map_err(|error| Problem::with_detail(ReasonCode::ParamsInvalid, error.to_string()));
        let message = gate.or_refuse(&self.caller, None, read).await?;
        let (situation, entered) = (handed.situation, handed.session);
        Arc::new(Self { message, situation, entered, ..(**self).clone() }).called().await
    }

    /// The label of what comes of something of `server`: as it is declared itself, or else as the server is.
    pub(super) fn label_of(&self, server: &Name, entity: &EntityRef) -> Label {
        let part = self.world.tenants.get(self.caller.tenant());
        let asset = part
            .and_then(|part| part.tools.get(entity.name.as_str()).or_else(|| part.tool_servers.get(server)));
        asset.map_or_else(|| AssetSpec::default().label(), AssetSpec::label)
    }

    /// Keeps what a server has answered, and gives the result that is told in its place.
    pub(super) fn hidden(
        &self,
        entity: &EntityRef,
        label: &Label,
        message: &Message,
    ) -> Result<String, ReasonCode> {
        let (text, media, failed) = read(message)?;
        let content = Content::new(entity.clone(), text, media, label.clone());
        let mut told = self.gate.hide(&self.caller, &self.entered, content)?;
        if let Some(members) = told.as_object_mut() {
            members.insert("failed".to_owned(), failed.into());
        }
        let meta = json!({LABEL: Label::bottom(), HANDLE: told});
        let words = json!(told.to_string());
        let result = match self.message.method() {
            "resources/read" => {
                let uri = self.message.param_text("uri").unwrap_or_default();
                format!(
                    "{{\"contents\":[{{\"uri\":{},\"mimeType\":\"application/json\",\"text\":{words}}}],\"_meta\":{meta}{}}}",
                    json!(uri),
                    self.complete()
                )
            }
            _ => format!(
                "{{\"content\":[{{\"type\":\"text\",\"text\":{words}}}],\"isError\":{failed},\"_meta\":{meta}{}}}",
                self.complete()
            ),
        };
        Ok(result)
    }
}

/// What an answer holds, of which type, and whether it tells of a failure: structured content where there is some, texts where
/// there is nothing else, or else all of it as JSON.
fn read(message: &Message) -> Result<(String, &'static str, bool), ReasonCode> {
    let (json_type, text_type) = ("application/json", "text/plain");
    let Some(result) = message.result() else {
        let (code, words) = message.error().ok_or(ReasonCode::UpstreamInvalid)?;
        return Ok((json!({"code": code, "message": words}).to_string(), json_type, true));
    };
    let kind = result.member("resultType").and_then(|kind| message.text(kind));
    if kind.is_some_and(|kind| kind != "complete") {
        // What a server asks back would be read by whoever answers.
        return Err(ReasonCode::ToolServerAsks);
    }
    let failed = result.member("isError").is_some_and(|node| message.raw(node) == "true");
    if let Some(structured) = result.member("structuredContent") {
        return Ok((message.raw(structured).to_owned(), json_type, failed));
    }
    let items = result.member("content").or_else(|| result.member("contents"));
    let texts: Option<Vec<String>> = items.map(Node::items).and_then(|items| {
        let text = |item: &Node| {
            let is_text =
                item.member("type").is_none_or(|kind| message.text(kind).as_deref() == Some("text"));
            let text = item.member("text").filter(|_| is_text)?;
            message.text(text).map(|text| text.into_owned())
        };
        items.iter().map(text).collect()
    });
    match texts {
        Some(texts) => Ok((texts.join("\n"), text_type, failed)),
        None => Ok((message.raw(result).to_owned(), json_type, failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::Value;

    fn of(answer: &Value) -> Result<(String, &'static str, bool), ReasonCode> {
        let mut message = json!({"jsonrpc": "2.0", "id": "1"});
        message.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        read(&Message::read(Bytes::from(message.to_string()), Limits::default()).unwrap())
    }

    #[test]
    fn what_is_kept_of_an_answer_is_its_value_its_texts_or_all_of_it() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let (plain, structured) = ("text/plain", "application/json");
        for (answer, kept) in [
            (json!({"result": {"content": [text("a"), text("b")]}}), ("a\nb", plain, false)),
            (json!({"result": {"content": [text("a")], "isError": true}}), ("a", plain, true)),
            (
                json!({"result": {"content": [text("a")], "structuredContent": {"n": 1}}}),
                ("{\"n\":1}", structured, false),
            ),
            (json!({"result": {"contents": [{"uri": "x", "text": "c"}]}}), ("c", plain, false)),
            (
                json!({"error": {"code": -1, "message": "no"}}),
                ("{\"code\":-1,\"message\":\"no\"}", structured, true),
            ),
        ] {
            let (text, media, failed) = of(&answer).unwrap();
            assert_eq!((text.as_str(), media, failed), kept, "{answer}");
        }
        let picture =
            json!({"result": {"content": [{"type": "image", "data": "AA==", "mimeType": "image/png"}]}});
        let (all, media, _) = of(&picture).unwrap();
        assert_eq!(
            (serde_json::from_str::<Value>(&all).unwrap(), media),
            (picture["result"].clone(), structured)
        );
        let asks = json!({"result": {"resultType": "input_required", "inputRequests": {}}});
        assert_eq!(of(&asks).unwrap_err(), ReasonCode::ToolServerAsks);
    }
}
