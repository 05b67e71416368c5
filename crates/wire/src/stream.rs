//! Streams: their texts rewritten across frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;

use crate::answer::{LIMITS, STRUCTURE};
use crate::frame::{Framing, Opened};
use crate::request::collect_texts;
use crate::scan::{Node, Span};
use crate::splice::{quoted, splice};

/// Where a text that comes in pieces belongs: choice, block or output item, and member.
type Channel = String;

/// One text in progress: what masks it, and the last frame it came in, as the form for what was held back.
#[derive(Debug)]
struct Progress<M> {
    masker: M,
    frame: Arc<Form>,
    place: Span,
}

/// A frame as a form: every text in it is left out but the one that is put in.
#[derive(Debug)]
struct Form {
    opened: Opened,
    texts: Vec<Span>,
}

impl Form {
    fn with(&self, place: Span, text: &str) -> Bytes {
        let others = self.texts.iter().filter(|span| **span != place).map(|span| (*span, "\"\"".to_owned()));
        self.opened.with(&splice(&self.opened.data, others.chain([(place, quoted(text))]).collect()))
    }
}

/// Rewrites the texts of a stream. `M` masks one text in pieces.
#[derive(Debug)]
pub struct StreamRewriter<M> {
    dialect: Dialect,
    framing: Framing,
    channels: BTreeMap<Channel, Progress<M>>,
}

/// What the rewriter asks of a masker.
pub trait PieceMasker {
    /// Takes a piece and gives what can be released.
    fn feed(&mut self, piece: &str) -> String;
    /// Ends the text and gives the rest.
    fn finish(&mut self) -> String;
}

impl<M: PieceMasker> StreamRewriter<M> {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(dialect: Dialect, framing: Framing) -> Self {
        Self { dialect, framing, channels: BTreeMap::new() }
    }

    /// Rewrites one frame: pieces of texts go through their channel's masker, whole texts through `whole`. What had been held
    /// back of a text that ends here comes first, in a frame of its own.
    ///
    /// # Errors
    /// When the frame cannot be read: then it must not be released.
    pub fn frame(
        &mut self,
        frame: &Bytes,
        new: impl Fn() -> M,
        mut whole: impl FnMut(&str) -> String,
    ) -> Result<Vec<Bytes>, Problem> {
        let Some(opened) = Opened::read(frame, self.dialect, self.framing)? else {
            return Ok(vec![frame.clone()]);
        };
        let data = opened.data.clone();
        if data.as_ref() == b"[DONE]" {
            let mut out = self.finish();
            out.push(frame.clone());
            return Ok(out);
        }
        let root = Node::parse(&data, LIMITS)
            .map_err(|e| Problem::with_detail(ReasonCode::UpstreamInvalid, e.to_string()))?;
        let (pieces, ends) = self.pieces(&root, &opened);
        let has_piece = |channel: &Channel| pieces.iter().any(|(c, _)| c == channel);
        let over: Vec<Channel> =
            self.channels.keys().filter(|c| ends.covers(c) && !has_piece(c)).cloned().collect();
        let mut out: Vec<Bytes> = over.iter().filter_map(|c| self.close(c)).collect();
        let mut texts = Vec::new();
        collect_texts(&root, &data, STRUCTURE, &mut texts);
        let form =
            Arc::new(Form { opened: opened.clone(), texts: texts.iter().map(|(place, _)| *place).collect() });
        let mut edits = Vec::new();
        for (place, text) in texts {
            let masked = match pieces.iter().find(|(_, span)| *span == place) {
                Some((channel, _)) => {
                    let fresh = || Progress { masker: new(), frame: form.clone(), place };
                    let progress = self.channels.entry(channel.clone()).or_insert_with(fresh);
                    progress.frame = form.clone();
                    progress.place = place;
                    let mut masked = progress.masker.feed(&text);
                    let last = pieces.iter().rfind(|(c, _)| c == channel);
                    if ends.covers(channel) && last.is_some_and(|(_, span)| *span == place) {
                        // The text ends with this very piece: what was held back goes with it.
                        masked.push_str(&progress.masker.finish());
                        self.channels.remove(channel);
                    }
                    masked
                }
                None => whole(&text),
            };
            if masked != text {
                edits.push((place, quoted(&masked)));
            }
        }
        out.push(if edits.is_empty() { frame.clone() } else { opened.with(&splice(&data, edits)) });
        Ok(out)
    }

    /// Ends every text: what is still held back, as frames.
    pub fn finish(&mut self) -> Vec<Bytes> {
        let open: Vec<Channel> = self.channels.keys().cloned().collect();
        open.iter().filter_map(|c| self.close(c)).collect()
    }

    /// The pieces of texts in this frame, and which texts end with it.
    fn pieces(&self, root: &Node, opened: &Opened) -> (Vec<(Channel, Span)>, Ends) {
        let data: &[u8] = &opened.data;
        let kind = root.member("type").and_then(|t| t.text(data)).unwrap_or_default();
        let scalar = |node: &Node, name: &str| {
            node.member(name)
                .map(|n| {
                    n.scalar(data)
                        .map_or_else(|| n.text(data).unwrap_or_default().into_owned(), str::to_owned)
                })
                .unwrap_or_default()
        };
        let mut out = Vec::new();
        match self.dialect {
            Dialect::OpenAiChat
            | Dialect::OpenAiEmbeddings
            | Dialect::AzureChat
            | Dialect::AzureCompletions
            | Dialect::AzureEmbeddings => {
                let mut ends = Vec::new();
                for choice in root.member("choices").map(Node::items).unwrap_or_default() {
                    let prefix = format!("{}/", scalar(choice, "index"));
                    if let Some(delta) = choice.member("delta") {
                        leaves(delta, data, &prefix, &mut out);
                    }
                    if let Some(Node::String(span)) = choice.member("text") {
                        out.push((format!("{prefix}text/"), *span));
                    }
                    if choice.member("finish_reason").is_some_and(|f| !f.is_null(data)) {
                        ends.push(prefix);
                    }
                }
                (out, Ends::Prefixes(ends))
            }
            Dialect::OpenAiResponses if kind.ends_with(".delta") => {
                let parts = ["item_id", "output_index", "content_index", "summary_index"]
                    .map(|name| scalar(root, name));
                if let Some(delta) = root.member("delta") {
                    out.push((format!("{kind}/{}", parts.join("/")), delta.span()));
                }
                (out, Ends::Prefixes(Vec::new()))
            }
            Dialect::AnthropicMessages | Dialect::BedrockInvoke if kind == "content_block_delta" => {
                if let Some(delta) = root.member("delta") {
                    leaves(delta, data, &format!("{}/", scalar(root, "index")), &mut out);
                }
                (out, Ends::Prefixes(Vec::new()))
            }
            Dialect::AnthropicMessages | Dialect::BedrockInvoke if kind == "ping" => {
                (out, Ends::Prefixes(Vec::new()))
            }
            Dialect::BedrockConverse if opened.kind.as_deref() == Some("contentBlockDelta") => {
                if let Some(delta) = root.member("delta") {
                    leaves(delta, data, &format!("{}/", scalar(root, "contentBlockIndex")), &mut out);
                }
                (out, Ends::Prefixes(Vec::new()))
            }
            Dialect::GeminiGenerate => {
                let mut ends = Vec::new();
                for candidate in root.member("candidates").map(Node::items).unwrap_or_default() {
                    let prefix = format!("{}/", scalar(candidate, "index"));
                    let parts = candidate.member("content").and_then(|content| content.member("parts"));
                    // A text goes on in the next frame wherever it stands there; thoughts are a text of their own.
                    let mut others = false;
                    for part in parts.map(Node::items).unwrap_or_default() {
                        match part.member("text") {
                            Some(Node::String(span)) => {
                                let thought =
                                    part.member("thought").is_some_and(|t| t.scalar(data) == Some("true"));
                                let kind = if thought { "thought/" } else { "text/" };
                                out.push((format!("{prefix}{kind}"), *span));
                            }
                            _ => others = true,
                        }
                    }
                    let finished = candidate.member("finishReason").is_some_and(|f| !f.is_null(data));
                    // What else stands in a frame must not be said again with what was held back of a text.
                    if finished || others {
                        ends.push(prefix);
                    }
                }
                (out, Ends::Prefixes(ends))
            }
            // Any other event comes between texts, or repeats them whole.
            Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::AnthropicCountTokens
            | Dialect::BedrockConverse
            | Dialect::BedrockInvoke
            | Dialect::GeminiEmbed
            | Dialect::GeminiCountTokens => (out, Ends::All),
        }
    }

    fn close(&mut self, channel: &Channel) -> Option<Bytes> {
        let mut progress = self.channels.remove(channel)?;
        let rest = progress.masker.finish();
        (!rest.is_empty()).then(|| progress.frame.with(progress.place, &rest))
    }
}

enum Ends {
    All,
    Prefixes(Vec<String>),
}

impl Ends {
    fn covers(&self, channel: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefixes(prefixes) => prefixes.iter().any(|p| channel.starts_with(p.as_str())),
        }
    }
}

/// Every string below `node`, by its path; array items by their `index` where they say one.
fn leaves(node: &Node, data: &[u8], path: &str, out: &mut Vec<(Channel, Span)>) {
    match node {
        Node::Object(members, _) => {
            for (name, value) in members {
                if !(matches!(value, Node::String(_)) && STRUCTURE.contains(&name.as_str())) {
                    leaves(value, data, &format!("{path}{name}/"), out);
                }
            }
        }
        Node::Array(items, _) => {
            for (place, item) in items.iter().enumerate() {
                let index = item
                    .member("index")
                    .and_then(|i| i.scalar(data))
                    .map_or_else(|| place.to_string(), str::to_owned);
                leaves(item, data, &format!("{path}{index}/"), out);
            }
        }
        Node::String(span) => out.push((path.to_owned(), *span)),
        Node::Scalar(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameSplitter;
    use serde_json::Value;

    /// Holds back everything after the last space and writes `secret` as `[hidden]`.
    #[derive(Debug, Default)]
    struct Words(String);

    impl PieceMasker for Words {
        fn feed(&mut self, piece: &str) -> String {
            self.0.push_str(piece);
            let cut = self.0.rfind(' ').map_or(0, |at| at + 1);
            let rest = self.0.split_off(cut);
            std::mem::replace(&mut self.0, rest).replace("secret", "[hidden]")
        }

        fn finish(&mut self) -> String {
            std::mem::take(&mut self.0).replace("secret", "[hidden]")
        }
    }

    fn run(dialect: Dialect, frames: &[&str]) -> String {
        let mut splitter = FrameSplitter::default();
        let mut rewriter = StreamRewriter::<Words>::new(dialect, Framing::Events);
        let mut out = String::new();
        let all = frames.concat();
        // In odd pieces, to try the splitter.
        for chunk in all.as_bytes().chunks(7) {
            splitter.feed(chunk);
            while let Some(frame) = splitter.whole_frame().unwrap() {
                for frame in
                    rewriter.frame(&frame, Words::default, |t| t.replace("secret", "[hidden]")).unwrap()
                {
                    out.push_str(std::str::from_utf8(&frame).unwrap());
                }
            }
        }
        for frame in rewriter.finish() {
            out.push_str(std::str::from_utf8(&frame).unwrap());
        }
        assert!(splitter.rest().is_empty());
        out
    }

    fn texts(stream: &str, pointer: &str) -> String {
        let data = stream.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|d| *d != "[DONE]");
        data.filter_map(|d| {
            serde_json::from_str::<Value>(d)
                .unwrap()
                .pointer(pointer)
                .and_then(|v| v.as_str().map(str::to_owned))
        })
        .collect()
    }

    #[test]
    fn chat_texts_are_masked_across_frames_and_flushed_before_the_end() {
        let chunk = |t: &str| {
            format!(
                "data: {{\"id\":\"secret\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{t}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        };
        let end =
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let out = run(
            Dialect::OpenAiChat,
            &[": hello\n\n", &chunk("a sec"), &chunk("ret b se"), &chunk("cret"), end, "data: [DONE]\n\n"],
        );
        assert_eq!(texts(&out, "/choices/0/delta/content"), "a [hidden] b [hidden]");
        assert!(
            out.find("b [hidden]").is_none()
                && out.starts_with(": hello\n\n")
                && out.ends_with("data: [DONE]\n\n")
        );
        assert!(out.rfind("[hidden]").unwrap() < out.find("\"stop\"").unwrap());
    }

    #[test]
    fn a_last_piece_in_the_ending_frame_is_not_lost() {
        let end = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ret\"},\"finish_reason\":\"stop\"}]}\n\n";
        let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x sec\"},\"finish_reason\":null}]}\n\n";
        let out = run(Dialect::OpenAiChat, &[first, end]);
        assert_eq!(texts(&out, "/choices/0/delta/content"), "x [hidden]");
    }

    #[test]
    fn a_stream_that_breaks_off_still_gives_what_was_held_back_masked() {
        let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x secret\"},\"finish_reason\":null}]}\n\n";
        assert_eq!(texts(&run(Dialect::OpenAiChat, &[first]), "/choices/0/delta/content"), "x [hidden]");
    }

    #[test]
    fn anthropic_blocks_are_masked_and_flushed_before_their_stop() {
        let delta = |t: &str| {
            format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{t}\"}}}}\n\n"
            )
        };
        let stop = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
        let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
        let out = run(Dialect::AnthropicMessages, &[&delta("a sec"), ping, &delta("ret"), stop]);
        assert_eq!(texts(&out, "/delta/text"), "a [hidden]");
        assert!(out.ends_with(stop));
    }

    #[test]
    fn responses_mask_pieces_and_the_events_that_repeat_them_whole() {
        let delta = |t: &str| {
            format!(
                "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"{t}\"}}\n\n"
            )
        };
        let done = "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"item_id\":\"m\",\"text\":\"a secret\"}\n\n";
        let out = run(Dialect::OpenAiResponses, &[&delta("a sec"), &delta("ret"), done]);
        assert_eq!(texts(&out, "/delta"), "a [hidden]");
        assert_eq!(texts(&out, "/text"), "a [hidden]");
    }

    #[test]
    fn what_cannot_be_read_is_refused_not_released() {
        let mut rewriter = StreamRewriter::<Words>::new(Dialect::OpenAiChat, Framing::Events);
        for bad in ["data: {broken\n\n", "data: {\"a\":1}\ndata: {\"b\":2}\n\n"] {
            assert!(rewriter.frame(&Bytes::from(bad), Words::default, str::to_owned).is_err(), "{bad}");
        }
    }
}
