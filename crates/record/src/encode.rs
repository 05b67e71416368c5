//! Records in canonical form (JCS, RFC 8785), fast: every permitted call pays for this.
//!
//! The writer below knows what records hold: text, integers below 2^53, lists, and objects with ASCII member names. It
//! writes members as they come and sorts them where an object ends. Whatever else comes goes the slow way, through
//! `base::json::canonical`; a property test holds both against each other.

use std::fmt::{self, Write as _};

use bartizan_base::json;
use bartizan_model::record::{ENCODED_MAX, Record};
use serde::ser::{self, Impossible, Serialize};

use crate::intent::RecordError;

/// Stands for the sequence number, which only the writer knows: the greatest integer a record may hold.
pub(crate) const SEQ_PLACE: u64 = (1 << 53) - 1;

/// A record encoded but for its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Encoded {
    /// Encodes `record`, whose number must be [`SEQ_PLACE`].
    ///
    /// The place cannot be imitated: quotes inside of texts are escaped, and no other object has such a member.
    pub(crate) fn of(record: &Record) -> Result<Self, RecordError> {
        let mut before = canonical(record)?;
        if before.len() > ENCODED_MAX {
            return Err(RecordError::TooLarge);
        }
        let marker = format!("\"seq\":{SEQ_PLACE}");
        let at = memchr::memmem::rfind(&before, marker.as_bytes())
            .ok_or_else(|| RecordError::Failed("a record has no sequence number".to_owned()))?;
        let after = before.split_off(at + marker.len());
        before.truncate(at + "\"seq\":".len());
        Ok(Self { before, after })
    }

    /// About how many bytes the entry will have.
    pub(crate) fn len(&self) -> usize {
        self.before.len() + self.after.len() + 20
    }

    /// The entry with its number.
    pub(crate) fn numbered(&self, seq: u64) -> Vec<u8> {
        let mut entry = Vec::with_capacity(self.before.len() + self.after.len() + 20);
        entry.extend_from_slice(&self.before);
        push_integer(&mut entry, seq);
        entry.extend_from_slice(&self.after);
        entry
    }
}

fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, RecordError> {
    let mut writer = Writer { out: Vec::with_capacity(1_024), spare: Vec::new() };
    match value.serialize(&mut writer) {
        Ok(()) => Ok(writer.out),
        Err(Unsupported) => json::canonical(value).map_err(|e| RecordError::Failed(e.to_string())),
    }
}

/// What the fast writer does not do.
#[derive(Debug)]
struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not written by the fast writer")
    }
}
impl std::error::Error for Unsupported {}
impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Writer {
    out: Vec<u8>,
    /// Where members are put in order.
    spare: Vec<u8>,
}

fn push_integer(out: &mut Vec<u8>, mut n: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(n % 10).unwrap_or(0));
        n /= 10;
        if n == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

impl Writer {
    fn integer(&mut self, n: u64) -> Result<(), Unsupported> {
        if n > SEQ_PLACE {
            return Err(Unsupported);
        }
        push_integer(&mut self.out, n);
        Ok(())
    }

    /// The inside of a text: RFC 8785, 3.2.2.2.
    fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
            let (plain, behind) = rest.split_at(at);
            self.out.extend_from_slice(plain);
            let Some((byte, behind)) = behind.split_first() else { return };
            rest = behind;
            let short = match byte {
                b'"' | b'\\' => *byte,
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                _ => {
                    let low = byte & 0xf;
                    let digit = if low < 10 { b'0' + low } else { b'a' + low - 10 };
                    self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
                    continue;
                }
            };
            self.out.extend_from_slice(&[b'\\', short]);
        }
        self.out.extend_from_slice(rest);
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'"');
        self.escaped(text);
        self.out.push(b'"');
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.escaped(text);
        Ok(())
    }
}

/// A list that is being written.
struct List<'a> {
    writer: &'a mut Writer,
    empty: bool,
}

/// An object that is being written.
struct Object<'a> {
    writer: &'a mut Writer,
    /// Where its first member begins.
    start: usize,
    /// Per member: where its name (in quotes) ends and where it ends; it begins where the one before ends.
    members: Vec<(usize, usize)>,
    name_end: usize,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> Result<(), Unsupported> {
        let start = self.writer.out.len();
        self.writer.text(name);
        self.named(start)
    }

    /// A name was written from `start` on.
    fn named(&mut self, start: usize) -> Result<(), Unsupported> {
        let out = &mut self.writer.out;
        let name = out.get(start..).unwrap_or_default();
        // RFC 8785 sorts by UTF-16 code units; for plain ASCII that is the order of bytes. A key that is not text, such
        // as a number, has no quotes.
        if name.first() != Some(&b'"') || !name.iter().all(|b| b.is_ascii() && *b != b'\\') {
            return Err(Unsupported);
        }
        self.name_end = out.len();
        out.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        value.serialize(&mut *self.writer)?;
        self.members.push((self.name_end, self.writer.out.len()));
        Ok(())
    }

    fn finish(self) -> Result<(), Unsupported> {
        let Writer { out, spare } = self.writer;
        let mut members = Vec::with_capacity(self.members.len());
        let mut at = self.start;
        for (name_end, end) in self.members {
            // Without the closing quote a name sorts before its own extensions.
            let name = out.get(at + 1..name_end.saturating_sub(1)).ok_or(Unsupported)?;
            members.push((name, out.get(at..end).ok_or(Unsupported)?));
            at = end;
        }
        members.sort_unstable_by_key(|(name, _)| *name);
        if members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return Err(Unsupported);
        }
        spare.clear();
        for (place, (_, member)) in members.iter().enumerate() {
            if place > 0 {
                spare.push(b',');
            }
            spare.extend_from_slice(member);
        }
        out.truncate(self.start);
        out.extend_from_slice(spare);
        out.push(b'}');
        Ok(())
    }
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = Impossible<(), Unsupported>;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    fn serialize_bool(self, v: bool) -> Result<(), Unsupported> {
        self.out.extend_from_slice(if v { b"true" } else { b"false" });
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Result<(), Unsupported> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<(), Unsupported> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<(), Unsupported> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<(), Unsupported> {
        self.integer(u64::try_from(v).map_err(|_| Unsupported)?)
    }
    fn serialize_u8(self, v: u8) -> Result<(), Unsupported> {
        self.integer(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<(), Unsupported> {
        self.integer(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<(), Unsupported> {
        self.integer(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<(), Unsupported> {
        self.integer(v)
    }
    fn serialize_f32(self, _: f32) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_f64(self, _: f64) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_char(self, v: char) -> Result<(), Unsupported> {
        self.text(v.encode_utf8(&mut [0; 4]));
        Ok(())
    }
    fn serialize_str(self, v: &str) -> Result<(), Unsupported> {
        self.text(v);
        Ok(())
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_none(self) -> Result<(), Unsupported> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Unsupported> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsupported> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unsupported> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Unsupported> {
        self.out.push(b'[');
        Ok(List { writer: self, empty: true })
    }
    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Unsupported> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Unsupported>, Unsupported> {
        Err(Unsupported)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Unsupported>, Unsupported> {
        Err(Unsupported)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Object<'a>, Unsupported> {
        self.out.push(b'{');
        let start = self.out.len();
        Ok(Object { writer: self, start, members: Vec::with_capacity(16), name_end: 0 })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'a>, Unsupported> {
        self.serialize_map(None)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Unsupported>, Unsupported> {
        Err(Unsupported)
    }
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        self.out.push(b'"');
        write!(self, "{value}").map_err(|_| Unsupported)?;
        self.out.push(b'"');
        Ok(())
    }
}

impl ser::SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        if !std::mem::take(&mut self.empty) {
            self.writer.out.push(b',');
        }
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.writer.out.push(b']');
        Ok(())
    }
}

impl ser::SerializeTuple for List<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        ser::SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), Unsupported> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeStruct for Object<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        self.name(name)?;
        self.value(value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.finish()
    }
}

impl ser::SerializeMap for Object<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsupported> {
        let start = self.writer.out.len();
        key.serialize(&mut *self.writer)?;
        self.named(start)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.value(value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.finish()
    }
}

#[cfg(test)]
mod tests;
