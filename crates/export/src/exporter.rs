//! Writing records one by one.

use std::io::{self, Write};

use bartizan_base::json::{self, JsonError};
use parquet::errors::ParquetError;

use crate::parquet::Table;
use crate::{Format, Placed, cef, json_lines, ocsf, otlp};

/// Records of one OTLP request at the most.
const BATCH_MAX: usize = 256;

/// Why an export broke off. What was written by then is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be written to where it should go.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
    /// A rendering is not JSON.
    #[error("a record cannot be written as JSON")]
    Json(#[from] JsonError),
    /// A Parquet file cannot be written.
    #[error("the Parquet file cannot be written")]
    Parquet(#[from] ParquetError),
}

/// An export that is being written. Memory is bounded: at most one OTLP request or one Parquet row group is held back, and
/// of a Parquet file its footer, which grows by some kilobytes for each row group.
#[derive(Debug)]
pub struct Exporter<W: Write + Send>(State<W>);

#[derive(Debug)]
enum State<W: Write + Send> {
    Lines(W, Line),
    Otlp(W, otlp::Batch),
    Parquet(Box<Table<W>>),
}

/// How a record becomes a line.
type Line = fn(&Placed) -> Result<Vec<u8>, JsonError>;

impl<W: Write + Send> Exporter<W> {
    /// Begins an export to `out`, which should be buffered.
    ///
    /// # Errors
    /// [`ExportError`] when the head of the file cannot be written.
    pub fn new(format: Format, out: W) -> Result<Self, ExportError> {
        Ok(Self(match format {
            Format::JsonLines => State::Lines(out, |placed| Ok(json_lines::line(placed).into_bytes())),
            Format::Ocsf => State::Lines(out, |placed| json::canonical(&ocsf::event(placed))),
            Format::Cef => State::Lines(out, |placed| Ok(cef::line(placed).into_bytes())),
            Format::OtlpJson => State::Otlp(out, otlp::Batch::default()),
            Format::Parquet => State::Parquet(Box::new(Table::new(out)?)),
        }))
    }

    /// Writes one record.
    ///
    /// # Errors
    /// [`ExportError`]; the export cannot be continued then.
    pub fn write(&mut self, placed: &Placed) -> Result<(), ExportError> {
        match &mut self.0 {
            State::Lines(out, line) => write_line(out, &line(placed)?),
            State::Otlp(out, batch) => {
                batch.push(placed);
                if batch.len() >= BATCH_MAX {
                    write_line(out, &json::canonical(&batch.take())?)
                } else {
                    Ok(())
                }
            }
            State::Parquet(table) => Ok(table.push(placed)?),
        }
    }

    /// Writes what is left and gives back what was written to, flushed.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn finish(self) -> Result<W, ExportError> {
        let mut out = match self.0 {
            State::Lines(out, _) => out,
            State::Otlp(mut out, mut batch) => {
                if !batch.is_empty() {
                    write_line(&mut out, &json::canonical(&batch.take())?)?;
                }
                out
            }
            State::Parquet(table) => table.finish()?,
        };
        out.flush()?;
        Ok(out)
    }
}

fn write_line(out: &mut impl Write, line: &[u8]) -> Result<(), ExportError> {
    out.write_all(line)?;
    Ok(out.write_all(b"\n")?)
}
