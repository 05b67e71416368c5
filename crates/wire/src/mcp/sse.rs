//! Streams of events (WHATWG HTML, server-sent events).

use bytes::{Bytes, BytesMut};

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty for a message.
    pub kind: String,
    /// What it carries.
    pub data: String,
}

/// An event is longer than is taken, or is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is too long or no text")]
pub struct EventTooLong;

/// Reads events out of pieces, wherever the borders of the pieces are.
#[derive(Debug)]
pub struct EventReader {
    line: BytesMut,
    event: Event,
    has_data: bool,
    /// The piece before ended in a carriage return: a line feed that follows belongs to it.
    returned: bool,
    first: bool,
    most: usize,
}

impl EventReader {
    /// A reader of events of at most `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let (line, event) = (BytesMut::new(), Event::default());
        Self { line, event, has_data: false, returned: false, first: true, most }
    }

    /// Takes a piece, and gives the events that are whole by now. An event without data is none.
    ///
    /// # Errors
    /// [`EventTooLong`].
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<Vec<Event>, EventTooLong> {
        let mut out = Vec::new();
        while !piece.is_empty() {
            if std::mem::take(&mut self.returned) && piece.first() == Some(&b'\n') {
                piece = piece.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', piece) else {
                self.hold(piece)?;
                break;
            };
            self.hold(piece.get(..end).unwrap_or_default())?;
            self.returned = piece.get(end) == Some(&b'\r');
            piece = piece.get(end + 1..).unwrap_or_default();
            self.take_line(&mut out)?;
        }
        Ok(out)
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), EventTooLong> {
        if self.line.len() + part.len() + self.event.data.len() > self.most {
            return Err(EventTooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn take_line(&mut self, out: &mut Vec<Event>) -> Result<(), EventTooLong> {
        let line = self.line.split();
        let line = std::str::from_utf8(&line).map_err(|_| EventTooLong)?;
        let line = if std::mem::take(&mut self.first) { line.trim_start_matches('\u{feff}') } else { line };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                out.push(event);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.kind),
            // Comments, `id` and `retry`: nothing is resumed.
            _ => {}
        }
        Ok(())
    }
}

/// A message as an event. Line ends in it are white space of JSON, since texts have none.
#[must_use]
pub fn event_of(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 24);
    out.extend_from_slice(b"event: message\ndata: ");
    out.extend(message.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
    out.extend_from_slice(b"\n\n");
    out.freeze()
}

/// The same under an id, by which whoever reads can come back to the stream. The id is ours: letters, digits and `-`.
#[must_use]
pub fn event_under(id: &str, message: &[u8]) -> Bytes {
    let mut out = BytesMut::from(format!("id: {id}\n").as_bytes());
    out.extend_from_slice(&event_of(message));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "\u{feff}: hello\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\ndata:\n\nretry: 5\n\ndata: b\rdata:c\r\rdata: lost";

    fn expected() -> Vec<Event> {
        let event = |kind: &str, data: &str| Event { kind: kind.to_owned(), data: data.to_owned() };
        vec![event("message", "{\"a\":\n1}"), event("", ""), event("", "b\nc")]
    }

    proptest! {
        #[test]
        fn events_are_the_same_wherever_the_pieces_end(cuts in proptest::collection::vec(0..STREAM.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut reader = EventReader::new(1_000);
            let mut events = Vec::new();
            for pair in cuts.windows(2) {
                events.extend(reader.feed(&STREAM.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(events, expected());
        }
    }

    #[test]
    fn an_event_that_never_ends_is_refused_before_it_fills_memory() {
        let mut reader = EventReader::new(64);
        let flood = (0..100).map(|_| reader.feed(b"data: 0123456789\n")).find(Result::is_err);
        assert_eq!(flood, Some(Err(EventTooLong)));
        let mut reader = EventReader::new(64);
        assert_eq!(reader.feed(&[b'x'; 65]), Err(EventTooLong));
    }

    #[test]
    fn a_message_of_several_lines_stays_one_event() {
        let mut reader = EventReader::new(100);
        let events = reader.feed(&event_of(b"{\r\n \"a\": 1\n}")).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&events[0].data).unwrap()["a"], 1);
    }
}
