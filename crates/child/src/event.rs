//! Events of a stream (HTML Living Standard 9.2.6), as far as the old transport uses them.

use bytes::Bytes;

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Where messages are posted to.
    Endpoint(String),
    /// A message.
    Message(Bytes),
    /// A comment, or an event that nobody here knows.
    Other,
}

impl Event {
    /// Reads a frame; none if it is no text.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(frame).ok()?;
        let (mut name, mut data) = ("message", None::<String>);
        for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value,
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                _ => {}
            }
        }
        Some(match (name, data) {
            ("endpoint", Some(data)) => Self::Endpoint(data),
            ("message", Some(data)) => Self::Message(data.into()),
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_browsers_read_them() {
        let read = |text: &str| Event::read(text.as_bytes()).unwrap();
        assert_eq!(read("event: endpoint\ndata: /messages?s=1\n\n"), Event::Endpoint("/messages?s=1".into()));
        assert_eq!(read("data: {\"a\":\r\ndata: 1}\r\nid: 7\r\n\r\n"), Event::Message("{\"a\":\n1}".into()));
        assert_eq!(read("event:message\ndata:x\n\n"), Event::Message("x".into()));
        for other in [": ping\n\n", "event: endpoint\n\n", "event: other\ndata: x\n\n", "retry: 1\n\n"] {
            assert_eq!(read(other), Event::Other, "{other}");
        }
        assert_eq!(Event::read(b"data: \xff\n\n"), None);
    }
}
