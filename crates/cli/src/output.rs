//! Data on standard output, in a table for people or in JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

use crate::OutputFormat;

/// Writes results.
#[derive(Debug)]
pub struct Output<W> {
    format: OutputFormat,
    to: W,
}

/// Rows under headings.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What stands above each column.
    pub headings: Vec<&'static str>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

impl<W: Write> Output<W> {
    /// Writes to `to` in `format`.
    pub const fn new(format: OutputFormat, to: W) -> Self {
        Self { format, to }
    }

    /// Whether programs read it.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Writes `value` as JSON, or what `people` makes of it.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn value(&mut self, value: &Value, people: impl FnOnce(&Value) -> String) -> io::Result<()> {
        match self.format {
            OutputFormat::Json => writeln!(self.to, "{value:#}"),
            OutputFormat::Table => writeln!(self.to, "{}", people(value).trim_end()),
        }
    }
}

impl Table {
    /// A table whose rows are the members `fields` of each item of the array `items`.
    #[must_use]
    pub fn of(items: &Value, fields: &[(&'static str, &str)]) -> Self {
        let rows = items.as_array().map_or(&[][..], Vec::as_slice).iter();
        Self {
            headings: fields.iter().map(|(heading, _)| *heading).collect(),
            rows: rows
                .map(|item| {
                    fields
                        .iter()
                        .map(|(_, field)| cell(item.pointer(field).unwrap_or(&Value::Null)))
                        .collect()
                })
                .collect(),
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headings: Vec<String> = self.headings.iter().map(|h| h.to_uppercase()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        for line in &lines {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let pad = width(column).saturating_sub(cell.chars().count());
                text.push_str(cell);
                text.push_str(&" ".repeat(pad + 2));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_missing_members_show_a_dash() {
        let items = serde_json::json!([{"id": "key_1", "n": 3}, {"id": "key_1000"}]);
        let text = Table::of(&items, &[("id", "/id"), ("count", "/n")]).to_string();
        assert_eq!(text, "ID        COUNT\nkey_1     3\nkey_1000  -\n");
    }
}
