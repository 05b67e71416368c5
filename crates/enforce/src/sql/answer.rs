//! Rows as they are told.

use bartizan_sql::Rows;
use bartizan_sql_guard::Column;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::scrub::{Scrub, Way};
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
    pub(crate) fn new(columns: &[Column], rows: Rows, scrubs: &[Scrub]) -> Self {
        let Rows { types, rows, truncated, bytes: _ } = rows;
        let mut count = 0;
        let row = |row: Vec<Value>| {
            let shown = row.into_iter().zip(scrubs).map(|(value, scrub)| {
                let (value, found) = scrub.value(value, Way::Back);
                count += found;
                value
            });
            Value::Array(shown.collect())
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

#[cfg(test)]
mod tests {
    use bartizan_mask::Masker;
    use bartizan_model::Detector;

    use super::*;
    use crate::mask::CallMaskers;

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
        let maskers = CallMaskers { request: every.clone(), answer: every };
        let told = |scrubs: &[Scrub]| {
            let shown = Shown::new(&columns, rows.clone(), scrubs);
            (serde_json::from_slice::<Value>(&shown.body).unwrap(), shown.redacted)
        };
        let (value, redacted) = told(&vec![Scrub::new(Some(maskers), None); 3]);
        assert_eq!(value["rows"], json!([["write to [email]", "[card]", {"[email]": ["[email]", 7]}]]));
        assert_eq!((redacted, &value["truncated"]), (4, &json!(true)));
        assert_eq!(told(&vec![Scrub::default(); 3]).0["rows"], json!(rows.rows));
    }
}
