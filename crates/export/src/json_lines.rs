//! JSON lines: one canonical JSON object (RFC 8785) a line.
//!
//! | member | holds |
//! |---|---|
//! | `origin` | the log's name |
//! | `index` | the entry's index in it, from 0 |
//! | `leaf` | the entry's hash as a leaf of the tree (RFC 6962, 2.1), in hexadecimal digits |
//! | `verified_size` | the size of the signed checkpoint that the entry was held against |
//! | `record` | the entry itself, word for word; as text if it is not canonical JSON |
//!
//! The hash of one zero byte and the bytes of `record` is `leaf`.

use serde_json::Value;

use crate::{Placed, Said};

/// The line of a record, without the line feed.
#[must_use]
pub fn line(placed: &Placed) -> String {
    let record = match placed.said() {
        Said::Record(_) | Said::Unknown(_) => placed.text().to_owned(),
        Said::Text => Value::from(placed.text()).to_string(),
    };
    format!(
        r#"{{"index":{},"leaf":"{}","origin":{},"record":{record},"verified_size":{}}}"#,
        placed.index,
        placed.leaf,
        Value::from(&*placed.origin),
        placed.verified_size,
    )
}

#[cfg(test)]
mod tests {
    use bartizan_base::json::{Limits, canonical, parse};

    use super::*;
    use crate::catalogue;

    #[test]
    fn every_line_is_canonical_and_its_record_hashes_to_its_leaf() {
        for placed in catalogue::placed() {
            let line = line(&placed);
            let value = parse(line.as_bytes(), Limits::default()).unwrap();
            assert_eq!(canonical(&value).unwrap(), line.as_bytes());
            if let Value::Object(_) = value["record"] {
                let leaf = bartizan_ledger::leaf_hash(&canonical(&value["record"]).unwrap());
                assert_eq!(value["leaf"], leaf.to_string());
            }
        }
    }

    #[test]
    fn what_is_not_canonical_stays_one_line_of_text() {
        let placed = Placed::read("log \"x\"\n".into(), 0, 1, b"{ \"a\":\n1 }\xff");
        let line = line(&placed);
        assert!(!line.contains('\n'));
        let value = parse(line.as_bytes(), Limits::default()).unwrap();
        assert_eq!(value["record"], "{ \"a\":\n1 }\u{fffd}");
        assert_eq!(value["origin"], "log \"x\"\n");
    }
}
