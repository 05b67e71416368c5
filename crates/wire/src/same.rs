//! When two requests say the same.

use bartizan_base::Digest;

use crate::request::ModelRequest;
use crate::scan::Node;

impl ModelRequest {
    /// The same for requests that say the same at the same address, and for no others: the same members in the same order, texts
    /// as they read, numbers as they are written. Only white space and the way in which characters are escaped do not count.
    ///
    /// The order of members counts, since models answer by it; numbers count as written, since two of them that some reader
    /// takes for one are not the same request.
    #[must_use]
    pub fn sameness(&self) -> Digest {
        let (root, body, address) = self.read();
        let mut said = Vec::with_capacity(body.len() + 64);
        text(&address, &mut said);
        say(root, body, &mut said);
        Digest::of(&said)
    }
}

/// Every value with its kind and its length, so that no two documents read alike.
fn say(node: &Node, body: &[u8], out: &mut Vec<u8>) {
    match node {
        Node::Object(members, _) => {
            begin(b'{', members.len(), out);
            for (name, value) in members {
                text(name, out);
                say(value, body, out);
            }
        }
        Node::Array(items, _) => {
            begin(b'[', items.len(), out);
            items.iter().for_each(|item| say(item, body, out));
        }
        Node::String(span) => match node.text(body) {
            Some(said) => text(&said, out),
            // Half a surrogate pair: as it is written.
            None => raw(b'?', body.get(span.0..span.1).unwrap_or_default(), out),
        },
        Node::Scalar(_) => raw(b'0', node.scalar(body).unwrap_or_default().as_bytes(), out),
    }
}

fn text(said: &str, out: &mut Vec<u8>) {
    raw(b'"', said.as_bytes(), out);
}

fn raw(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    begin(kind, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn begin(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(length as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bartizan_base::json::Limits;
    use bartizan_model::directory::Dialect;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::parse_request;

    fn sameness(text: &str) -> bartizan_base::Digest {
        let body = Bytes::copy_from_slice(text.as_bytes());
        parse_request(Dialect::OpenAiChat, body, Limits::default()).unwrap().sameness()
    }

    fn with(rest: &str) -> bartizan_base::Digest {
        sameness(&format!(r#"{{"model":"m","messages":[]{rest}}}"#))
    }

    #[test]
    fn white_space_and_escapes_do_not_count_and_everything_else_does() {
        let one = with(r#","metadata":{"a":"é/","b":[1,{}]}"#);
        assert_eq!(one, with(",\n \"metadata\" : {\"a\":\"\\u00e9\\/\",\t\"b\": [ 1 , { } ] }"));
        for other in [
            r#","metadata":{"b":[1,{}],"a":"é/"}"#,
            r#","metadata":{"a":"e/","b":[1,{}]}"#,
            r#","metadata":{"a":"É/","b":[1,{}]}"#,
            r#","metadata":{"a":"é/","b":[1.0,{}]}"#,
            r#","metadata":{"a":"é/","b":["1",{}]}"#,
            r#","metadata":{"a":"é/","b":[1,[]]}"#,
            r#","metadata":{"a":"é/","b":[[1],{}]}"#,
            r#","metadata":{"a":"é/","b":[1,{}]},"user":null"#,
        ] {
            assert_ne!(one, with(other), "{other}");
        }
    }

    #[test]
    fn numbers_that_some_readers_take_for_one_are_two() {
        assert_ne!(with(r#","seed":9007199254740993"#), with(r#","seed":9007199254740992"#));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            "[a\"\\\\é{\\[0]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[ab]{0,2}", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_requests_are_the_same_exactly_if_they_say_the_same(one in values(), other in values()) {
            let body = |value: &Value| json!({"model": "m", "messages": [], "metadata": value});
            let (a, b) = (body(&one), body(&other));
            prop_assert_eq!(sameness(&a.to_string()), sameness(&serde_json::to_string_pretty(&a).unwrap()));
            prop_assert_eq!(sameness(&a.to_string()) == sameness(&b.to_string()), one == other);
        }
    }
}
