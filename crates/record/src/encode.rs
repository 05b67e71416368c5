//! Records in canonical form (JCS, RFC 8785), fast: every permitted call pays for this.
//!
//! The writer below knows what records hold: text, integers below 2^53, lists, and objects with ASCII member names. It
//! writes members as they come and sorts them where an object ends. Whatever else comes goes the slow way, through
//! `base::json::canonical`; a property test holds both against each other.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::ops::Range;

use bartizan_base::json;
use bartizan_model::record::ENCODED_MAX;
use serde::ser::{self, Impossible, Serialize};

use crate::intent::RecordError;

/// Stands for the sequence number, which only the writer knows: the greatest integer a record may hold.
pub(crate) const SEQ_PLACE: u64 = (1 << 53) - 1;

/// That number as it is written.
const SEQ_TEXT: &[u8] = b"9007199254740991";

/// A record encoded but for its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    bytes: Box<[u8]>,
    /// Where the number belongs.
    seq: Range<usize>,
}

impl Encoded {
    /// Encodes `record`, whose number must be [`SEQ_PLACE`].
    pub(crate) fn of<T: Serialize>(record: &T) -> Result<Self, RecordError> {
        with_canonical(record, |bytes, seq| {
            if bytes.len() > ENCODED_MAX {
                return Err(RecordError::TooLarge);
            }
            let seq = seq..seq + SEQ_TEXT.len();
            if bytes.get(seq.clone()) != Some(SEQ_TEXT) {
                return Err(RecordError::Failed("a record has no sequence number".to_owned()));
            }
            Ok(Self { bytes: bytes.into(), seq })
        })?
    }

    /// How many bytes the entry will have at the most.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 20
    }

    /// Appends the entry with its number to `out`.
    pub(crate) fn write(&self, seq: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(..self.seq.start).unwrap_or_default());
        push_integer(out, seq);
        out.extend_from_slice(self.bytes.get(self.seq.end..).unwrap_or_default());
    }
}

thread_local! {
    /// Every record is written into the same memory first.
    static WRITER: RefCell<Writer> = const { RefCell::new(Writer::new()) };
}

/// Gives the canonical form of `value` to `then`, with the place of the value of its member `seq`, if it has one.
fn with_canonical<T: Serialize, R>(
    value: &T,
    then: impl FnOnce(&[u8], usize) -> R,
) -> Result<R, RecordError> {
    WRITER.with_borrow_mut(|writer| {
        if writer.out.capacity() > 4 * ENCODED_MAX {
            *writer = Writer::new();
        }
        writer.out.clear();
        writer.members.clear();
        match value.serialize(&mut *writer) {
            Ok(()) => Ok(then(&writer.out, writer.seq)),
            Err(Unsupported) => {
                let bytes = json::canonical(value).map_err(|e| RecordError::Failed(e.to_string()))?;
                // It cannot be imitated: quotes inside of texts are escaped, and no other object has such a member.
                let seq = memchr::memmem::rfind(&bytes, b"\"seq\":").map_or(0, |at| at + 6);
                Ok(then(&bytes, seq))
            }
        }
    })
}

#[cfg(test)]
fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, RecordError> {
    with_canonical(value, |bytes, _| bytes.to_vec())
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
    /// The members of the objects that are being written, those of the innermost one last.
    members: Vec<Member>,
    /// Where the value of the member `seq` stands in the outermost object that was written last.
    seq: usize,
}

/// A member that was written: its name, in quotes, stands from `start` to `colon`, its value up to `end`.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// The first eight bytes of its name, which mostly decide about the order.
    key: u64,
    start: usize,
    colon: usize,
    end: usize,
}

impl Member {
    /// Without the closing quote a name sorts before its own extensions.
    fn name<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.start + 1..self.colon.saturating_sub(1)).unwrap_or_default()
    }

    fn cmp(&self, other: &Self, out: &[u8]) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.name(out).cmp(other.name(out)))
    }
}

/// The first eight bytes of a name; a shorter one is filled up with zeroes, which no name has.
fn key_of(name: &[u8]) -> u64 {
    let mut key = [0; 8];
    for (to, from) in key.iter_mut().zip(name) {
        *to = *from;
    }
    u64::from_be_bytes(key)
}

const SEQ_KEY: u64 = u64::from_be_bytes(*b"seq\0\0\0\0\0");

/// Whether text stands for itself: no quotes, no backslash, nothing below a space.
fn is_plain(text: &[u8]) -> bool {
    // Without a branch for each byte, so that many are looked at at once.
    text.iter().fold(true, |plain, b| plain & (*b >= 0x20) & (*b != b'"') & (*b != b'\\'))
}

fn push_integer(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(n % 10).unwrap_or(0);
        count += 1;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

impl Writer {
    const fn new() -> Self {
        Self { out: Vec::new(), spare: Vec::new(), members: Vec::new(), seq: 0 }
    }

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
        if is_plain(rest) {
            self.out.extend_from_slice(rest);
            return;
        }
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
    /// How many members of outer objects there are.
    outer: usize,
    /// Where the name of the member that is being written stands.
    name: Range<usize>,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> Result<(), Unsupported> {
        let start = self.begin();
        self.writer.text(name);
        self.named(start)
    }

    /// Begins a member.
    fn begin(&mut self) -> usize {
        if self.writer.members.len() > self.outer {
            self.writer.out.push(b',');
        }
        self.writer.out.len()
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
        self.name = start..out.len();
        out.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        value.serialize(&mut *self.writer)?;
        let Range { start, end: colon } = self.name;
        let mut member = Member { key: 0, start, colon, end: self.writer.out.len() };
        member.key = key_of(member.name(&self.writer.out));
        self.writer.members.push(member);
        Ok(())
    }

    fn finish(self) -> Result<(), Unsupported> {
        let Writer { out, spare, members, seq } = self.writer;
        let own = members.get_mut(self.outer..).unwrap_or_default();
        let is_outermost = self.outer == 0;
        if !own.is_sorted_by(|a, b| a.cmp(b, out).is_lt()) {
            own.sort_unstable_by(|a, b| a.cmp(b, out));
            if own.windows(2).any(|pair| matches!(pair, [a, b] if a.cmp(b, out).is_eq())) {
                return Err(Unsupported);
            }
            spare.clear();
            for (place, member) in own.iter_mut().enumerate() {
                if place > 0 {
                    spare.push(b',');
                }
                let from = self.start + spare.len();
                spare.extend_from_slice(out.get(member.start..member.end).ok_or(Unsupported)?);
                member.colon = from + (member.colon - member.start);
            }
            out.truncate(self.start);
            out.extend_from_slice(spare);
        }
        if is_outermost {
            *seq = own.iter().find(|member| member.key == SEQ_KEY).map_or(0, |member| member.colon + 1);
        }
        out.push(b'}');
        members.truncate(self.outer);
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
        let (start, outer) = (self.out.len(), self.members.len());
        Ok(Object { writer: self, start, outer, name: start..start })
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
        let start = self.begin();
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
