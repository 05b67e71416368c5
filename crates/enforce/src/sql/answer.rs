//! Rows as they are told.

use bartizan_mask::Masker;
use bartizan_sql::Rows;
use bartizan_sql_guard::Column;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::sql::ask::Told;

/// An answer, redacted and written.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) body: Bytes,
    /// How many matches were redacted.
    pub(crate) redacted: u64,
}

impl Shown {
    /// `rows` under the names that whoever asked gave them.
    pub(crate) fn new(columns: &[Column], rows: Rows, maskers: &[Option<Masker>]) -> Self {
        let Rows { types, rows, truncated, bytes: _ } = rows;
        let mut count = 0;
        let row = |row: Vec<Value>| {
            let masked = row.into_iter().zip(maskers.iter()).map(|(value, masker)| match masker {
                Some(masker) => masked(masker, value, &mut count),
                None => value,
            });
            Value::Array(masked.collect())
        };
        let rows: Vec<Value> = rows.into_iter().map(row).collect();
        let column = |(column, kind): (&Column, &String)| json!({"name": column.name, "type": kind});
        let columns: Vec<Value> = columns.iter().zip(&types).map(column).collect();
        let value = json!({"columns": columns, "rows": rows, "truncated": truncated});
        let body = serde_json::to_vec(&value).unwrap_or_default();
        Self { body: body.into(), redacted: count }
    }
}

impl Told {
    pub(crate) fn body(&self) -> Bytes {
        self.shown.body.clone()
    }
}

/// A value without what is redacted of it. A number that looks like one of them is text then.
fn masked(masker: &Masker, value: Value, count: &mut u64) -> Value {
    let mut text = |text: &str| {
        let masked = masker.mask(text);
        *count += masked.count;
        (masked.count > 0).then(|| masked.text.into_owned())
    };
    match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(number) => text(&number.to_string()).map_or(Value::Number(number), Value::String),
        Value::String(whole) => Value::String(text(&whole).unwrap_or(whole)),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| masked(masker, item, count)).collect())
        }
        Value::Object(members) => {
            let mut out = Map::new();
            for (name, member) in members {
                let shown = masker.mask(&name);
                *count += shown.count;
                out.insert(shown.text.clone().into_owned(), masked(masker, member, count));
            }
            Value::Object(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use bartizan_model::Detector;

    use super::*;

    #[test]
    fn what_is_redacted_is_so_in_texts_numbers_and_documents() {
        let column = |name: &str| Column { name: name.to_owned(), origins: Default::default() };
        let columns = [column("a"), column("b"), column("c")];
        let rows = Rows {
            types: vec!["text".to_owned(), "int8".to_owned(), "jsonb".to_owned()],
            rows: vec![vec![
                json!("write to ann@mail.example"),
                json!(4_111_111_111_111_111_i64),
                json!({"ann@mail.example": ["ann@mail.example", 7]}),
            ]],
            truncated: true,
            bytes: 0,
        };
        let every = Masker::new(&Detector::ALL.iter().cloned().collect(), &Default::default()).unwrap();
        let told = |maskers: &[Option<Masker>]| {
            let shown = Shown::new(&columns, rows.clone(), maskers);
            (serde_json::from_slice::<Value>(&shown.body).unwrap(), shown.redacted)
        };
        let (value, redacted) = told(&vec![Some(every); 3]);
        assert_eq!(value["rows"], json!([["write to [email]", "[card]", {"[email]": ["[email]", 7]}]]));
        assert_eq!((redacted, &value["truncated"]), (4, &json!(true)));
        assert_eq!(told(&[None, None, None]).0["rows"], json!(rows.rows));
    }
}
