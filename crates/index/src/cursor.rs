//! Where a row of pages goes on, and what all of them are made of.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bartizan_base::json::{self, Limits};
use bartizan_base::{Digest, Timestamp};
use bartizan_model::Tenant;
use bartizan_query::Query;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::search::Order;

/// The longest cursor, as text.
const TEXT_MAX: usize = 64 * 1024;
/// How many bytes of the digest stand before the content.
const CHECK: usize = 8;
/// What every JSON reader keeps exactly.
const NUMBER_MAX: u64 = 1 << 53;

/// A page of one question: which query, asked when, over which entries, and where the page begins.
///
/// It is opaque text for whoever holds it. It bounds what the pages are made of, so they never change although entries
/// keep coming. It is no secret and grants nothing: the holder still asks, in the own tenant, and a cursor of another
/// question is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) Pin);

/// The content of a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// Tenant, query and order, see [`question`].
    pub(crate) question: Digest,
    /// When the first page was asked for: relative moments are held against it.
    pub(crate) now_us: Timestamp,
    /// How many entries of each log there were then.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// The last entry before this page, by the order of pages; none for the first page.
    pub(crate) after: Option<Key>,
}

/// The order of pages: the moment, the log's number, the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key(pub(crate) u64, pub(crate) i64, pub(crate) u64);

/// Why a cursor was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It was not made here, or was changed.
    #[error("this is not a cursor: begin with the first page")]
    Malformed,
    /// It belongs to another query, order or tenant.
    #[error("the cursor belongs to another question: begin with the first page")]
    OtherQuestion,
}

/// What a cursor is bound to. None of the first two holds a line feed, so the borders are unambiguous.
pub(crate) fn question(tenant: &Tenant, order: Order, query: &Query) -> Digest {
    Digest::of(format!("{tenant}\n{}\n{query}", order.name()).as_bytes())
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = json::canonical(&self.0).map_err(|_| fmt::Error)?;
        let mut bytes: Vec<u8> = Digest::of(&content).as_bytes().iter().copied().take(CHECK).collect();
        bytes.extend(content);
        f.pad(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > TEXT_MAX {
            return Err(CursorError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)?;
        let (check, content) = bytes.split_at_checked(CHECK).ok_or(CursorError::Malformed)?;
        if !Digest::of(content).as_bytes().starts_with(check) {
            return Err(CursorError::Malformed);
        }
        let pin: Pin = json::parse_as(content, Limits::default()).map_err(|_| CursorError::Malformed)?;
        let fits = pin.sizes.values().all(|size| *size < NUMBER_MAX)
            && pin.after.is_none_or(|Key(time, _, index)| time < NUMBER_MAX && index < NUMBER_MAX);
        if fits { Ok(Self(pin)) } else { Err(CursorError::Malformed) }
    }
}
