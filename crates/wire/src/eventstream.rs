//! Messages of `application/vnd.amazon.eventstream`: lengths and their checksum, headers, the payload, and a checksum of it all
//! (<https://smithy.io/2.0/aws/amazon-eventstream.html>).

use bartizan_model::{Problem, ReasonCode};
use bytes::{BufMut as _, Bytes, BytesMut};

/// The content type of a stream of such messages.
pub(crate) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// The longest message that is read.
const MESSAGE_MAX: usize = 8 << 20;
/// Two lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const TRAILER: usize = 4;
/// The type of a header that is a text.
const STRING: u8 = 7;

/// A message: headers as they came, the texts among them, and the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    headers: Bytes,
    texts: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

/// Takes the next whole message from the front of `held`, once both of its checksums are right.
///
/// # Errors
/// When a checksum is wrong, or lengths contradict each other or are too large.
pub(crate) fn whole(held: &mut BytesMut) -> Result<Option<Bytes>, Problem> {
    let Some(prelude) = held.get(..PRELUDE) else { return Ok(None) };
    // The lengths are believed only when their own checksum is right.
    if number(prelude, 8) != Some(crc32fast::hash(prelude.get(..8).unwrap_or_default())) {
        return Err(invalid("the checksum of a message's lengths is wrong"));
    }
    let length = |at| number(prelude, at).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let (total, headers) = (length(0), length(4));
    if !(PRELUDE + TRAILER..=MESSAGE_MAX).contains(&total) || headers > total - PRELUDE - TRAILER {
        return Err(invalid("a message's lengths are out of bounds"));
    }
    let Some(message) = held.get(..total) else { return Ok(None) };
    let body = message.get(..total - TRAILER).unwrap_or_default();
    if number(message, total - TRAILER) != Some(crc32fast::hash(body)) {
        return Err(invalid("the checksum of a message is wrong"));
    }
    Ok(Some(held.split_to(total).freeze()))
}

/// What a message that [`whole`] gave consists of.
///
/// # Errors
/// When its headers cannot be read, or one stands twice.
pub(crate) fn open(message: &Bytes) -> Result<Message, Problem> {
    let broken = || invalid("a message cannot be read");
    let end =
        number(message, 4).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?.saturating_add(PRELUDE);
    let last = message.len().checked_sub(TRAILER).filter(|last| end <= *last).ok_or_else(broken)?;
    let headers = message.slice(PRELUDE..end);
    let texts = texts(&headers).ok_or_else(broken)?;
    Ok(Message { headers, texts, payload: message.slice(end..last) })
}

impl Message {
    /// The value of a header that is a text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same message with another payload.
    pub(crate) fn with(&self, payload: &[u8]) -> Bytes {
        build(&self.headers, payload)
    }
}

/// A message with headers that are texts.
pub(crate) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut raw = BytesMut::new();
    for (name, value) in headers {
        let (Ok(name_length), Ok(length)) = (u8::try_from(name.len()), u16::try_from(value.len())) else {
            continue;
        };
        raw.put_u8(name_length);
        raw.extend_from_slice(name.as_bytes());
        raw.put_u8(STRING);
        raw.put_u16(length);
        raw.extend_from_slice(value.as_bytes());
    }
    build(&raw, payload)
}

fn build(headers: &[u8], payload: &[u8]) -> Bytes {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut out = BytesMut::with_capacity(PRELUDE + headers.len() + payload.len() + TRAILER);
    out.put_u32(number(PRELUDE + headers.len() + payload.len() + TRAILER));
    out.put_u32(number(headers.len()));
    out.put_u32(crc32fast::hash(&out));
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

fn invalid(detail: &str) -> Problem {
    Problem::with_detail(ReasonCode::UpstreamInvalid, detail)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

/// The headers that are texts. None where any cannot be read or stands twice: another reader could take the other one.
fn texts(mut headers: &[u8]) -> Option<Vec<(String, String)>> {
    fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (head, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(head)
    }
    let (mut out, mut names) = (Vec::new(), Vec::new());
    while !headers.is_empty() {
        let length = *take(&mut headers, 1)?.first()?;
        let name = std::str::from_utf8(take(&mut headers, length.into())?).ok()?;
        if names.contains(&name) {
            return None;
        }
        names.push(name);
        let kind = *take(&mut headers, 1)?.first()?;
        let length = match kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | STRING => usize::from(u16::from_be_bytes(take(&mut headers, 2)?.try_into().ok()?)),
            9 => 16,
            _ => return None,
        };
        let value = take(&mut headers, length)?;
        if kind == STRING {
            out.push((name.to_owned(), std::str::from_utf8(value).ok()?.to_owned()));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<Message>, Problem> {
        let mut held = BytesMut::from(bytes);
        whole(&mut held)?.map(|message| open(&message)).transpose()
    }

    /// The published vectors that Amazon's own libraries are tested with.
    #[test]
    fn published_messages_are_read_as_their_own_libraries_read_them() {
        let empty = read(b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2H\xeb}\x98\xc8\xff").unwrap().unwrap();
        assert!(empty.texts.is_empty() && empty.payload.is_empty());
        let one = b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}\x8d\x9c\x08\xb1";
        let message_one = read(one).unwrap().unwrap();
        assert_eq!(message_one.header("content-type"), Some("application/json"));
        assert_eq!(message_one.payload.as_ref(), b"{'foo':'bar'}");
        assert_eq!(message_one.with(b"{'foo':'bar'}").as_ref(), one, "put together again byte by byte");
        assert_eq!(message(&[("content-type", "application/json")], b"{'foo':'bar'}").as_ref(), one);
        let all = b"\x00\x00\x00\x62\x00\x00\x00\x52\x03\xb5\xcb\x9c\x010\x00\x011\x01\x012\x02\x02\x013\x03\x00\x03\x014\x04\x00\x00\x00\x04\x015\x05\x00\x00\x00\x00\x00\x00\x00\x05\x016\x06\x00\x05bytes\x017\x07\x00\x04utf8\x018\x08\x00\x00\x00\x00\x00\x00\x00\x08\x019\x090123456789abcdef\x63\x35\x36\x71";
        assert_eq!(read(all).unwrap().unwrap().texts, [("7".to_owned(), "utf8".to_owned())]);
        let error = b"\x00\x00\x00\x52\x00\x00\x00\x42\xbf\x23\x63\x7e\x0d:message-type\x07\x00\x05error\x0b:error-code\x07\x00\x04code\x0e:error-message\x07\x00\x07message\x6b\x6c\xea\x3d";
        assert_eq!(read(error).unwrap().unwrap().header(":error-message"), Some("message"));
    }

    #[test]
    fn published_broken_messages_are_refused() {
        for broken in [
            b"\x00\x00\x00=\xFF\x00\x01\x02\x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}\x8d\x9c\x08\xb1".as_slice(),
            b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent+type\x07\x00\x10application/json{'foo':'bar'}\x8d\x9c\x08\xb1",
            b"\x01\x00\x00\x1d\x00\x00\x00\x00\xfdR\x8cZ{'foo':'bar'}\xc3e96",
            b"\x00\x00\x00\x1d\x00\x00\x00\x00\xfdR\x8cZ{'foo':'bar'\x8d\xc3e96",
            b"\x00\x00\x00\x24\x00\x00\x00\x14\x4b\xb9\x82\xd0\x04test\x04asdf\x04test\x04asdf\xf3\xf4\x75\x63",
        ] {
            assert_eq!(read(broken).unwrap_err().reason, ReasonCode::UpstreamInvalid);
        }
        // Lengths with a right checksum that make no sense, and more than is ever read.
        for (total, headers) in [(15_u32, 0_u32), (16, 1), (40, 25), (9 << 20, 0), (u32::MAX, u32::MAX)] {
            let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
            assert_eq!(read(&prelude).unwrap_err().reason, ReasonCode::UpstreamInvalid, "{total} {headers}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_read_again_and_no_changed_bit_passes(name in "[a-z:-]{1,20}", value in ".{0,40}", payload: Vec<u8>, at: usize, bit in 0_u8..8) {
            let built = message(&[(&name, &value)], &payload);
            let opened = read(&built).unwrap().unwrap();
            prop_assert_eq!(opened.header(&name), Some(value.as_str()));
            prop_assert_eq!(opened.payload.as_ref(), payload.as_slice());
            let mut changed = built.to_vec();
            let at = at % changed.len();
            *changed.get_mut(at).unwrap() ^= 1 << bit;
            prop_assert!(read(&changed).is_err());
            for cut in 0..built.len() {
                prop_assert_eq!(read(built.get(..cut).unwrap()), Ok(None));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_waited_for(bytes: Vec<u8>) {
            read(&bytes).map(drop).unwrap_or_default();
        }
    }
}
