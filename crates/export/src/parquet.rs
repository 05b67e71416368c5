//! Parquet: one flat table of optional columns, see [`COLUMNS`]. Lists are texts with a space between the items. Rows are
//! gathered into row groups of a bounded size, so that memory does not grow with the file but for the footer.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use bartizan_base::Timestamp;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::Placed;
use crate::facts::{Facts, joined};

/// Rows of one row group at the most.
const ROWS_MAX: usize = 16_384;
/// Bytes of text in one row group, at which it is written.
const BYTES_MAX: usize = 16 << 20;

/// One column.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds, with its unit.
    pub meaning: &'static str,
    read: Read,
}

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("name", &self.name).field("type", &self.kind()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Read {
    Moment(fn(&Facts<'_>) -> Option<u64>),
    Number(fn(&Facts<'_>) -> Option<u64>),
    Text(fn(&Facts<'_>) -> Option<String>),
}

impl Column {
    /// Its type in the file.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.read {
            Read::Moment(_) => "INT64 (TIMESTAMP(MICROS,true))",
            Read::Number(_) => "INT64",
            Read::Text(_) => "BINARY (UTF8)",
        }
    }

    fn definition(&self) -> String {
        let name = self.name;
        match self.read {
            Read::Moment(_) => format!("OPTIONAL INT64 {name} (TIMESTAMP(MICROS,true));"),
            Read::Number(_) => format!("OPTIONAL INT64 {name};"),
            Read::Text(_) => format!("OPTIONAL BINARY {name} (UTF8);"),
        }
    }
}

macro_rules! columns {
    ($($name:ident $read:ident $meaning:literal $value:expr;)+) => {
        /// Every column, in the order of the file.
        pub const COLUMNS: &[Column] = &[
            $(Column { name: stringify!($name), meaning: $meaning, read: Read::$read($value) },)+
        ];
    };
}

columns! {
    time Moment "When it was written." |f| f.time.map(Timestamp::as_micros);
    tenant Text "Whose log it belongs to." |f| f.tenant.map(str::to_owned);
    kind Text "The kind of the record, with its event: `intent`, `system.started` …" |f| Some(f.kind_name.to_owned());
    severity Text "How much it should worry its reader." |f| Some(f.severity.ocsf().1.to_owned());
    node Text "Which process wrote it." |f| f.record.map(|r| r.node.to_string());
    seq Number "The node's own running number." |f| f.record.map(|r| r.seq);
    decision Text "The decision that it is, or that it ended." |f| f.decision.map(|d| d.to_string());
    subject Text "The pseudonym of the one responsible." |f| f.who.map(|w| w.subject.to_string());
    subject_kind Text "What kind of being." |f| f.who.map(|w| w.subject_kind.entity_type().to_lowercase());
    actors Text "The pseudonyms of those in between, outermost first." |f| list(f.who.map(|w| joined(&w.actors)));
    key Text "Which of our keys was presented." |f| f.who.and_then(|w| w.key).map(|k| k.to_string());
    issuer Text "Who issued the credential, where somebody else did." |f| f.who.and_then(|w| w.issuer.as_ref()).map(ToString::to_string);
    assurance Number "How surely the subject was authenticated, 0 to 4." |f| f.who.map(|w| w.assurance.into());
    action Text "The action asked for." |f| f.action().map(|a| a.name().to_owned());
    resource_type Text "The type of the resource." |f| f.what.map(|w| w.resource.kind.to_string());
    resource Text "The name of the resource." |f| f.what.map(|w| w.resource.name.to_string());
    dialect Text "The dialect spoken." |f| f.what.map(|w| w.dialect.clone());
    upstream Text "Where a permitted call went." |f| f.upstream().map(str::to_owned);
    verdict Text "What was decided." |f| f.verdict.map(|v| v.name().to_owned());
    reasons Text "Why it was refused or failed, strongest first." |f| list(Some(joined(f.reasons)));
    rules Text "The rules that decided." |f| list(f.grounds.map(|g| joined(&g.rules)));
    obligations Text "What the permit demanded." |f| list(f.obligations.map(|o| joined(o.iter())));
    policy Text "Digest of the policy bundle in force." |f| f.grounds.map(|g| g.policy.to_string());
    repeated Number "How many further refusals this one stands for." |f| f.refusal.map(|r| r.repeated);
    end Text "How a permitted thing ended." |f| f.end().map(str::to_owned);
    status Number "The HTTP status of the upstream." |f| f.outcome.and_then(|o| o.status).map(u64::from);
    bytes_in Number "Bytes of the request." |f| f.what.map(|w| w.bytes);
    bytes_out Number "Bytes released to the caller." |f| f.outcome.map(|o| o.bytes);
    input_tokens Number "Input tokens the upstream counted." |f| f.outcome.and_then(|o| o.input_tokens);
    output_tokens Number "Output tokens the upstream counted." |f| f.outcome.and_then(|o| o.output_tokens);
    redacted Number "How many matches were redacted." |f| f.outcome.map(|o| o.redacted);
    took_us Number "From intent to end, in microseconds." |f| f.outcome.map(|o| o.took_us);
    origin Text "The log's name." |f| Some(f.placed.origin.to_string());
    index Number "The entry's index in the log." |f| Some(f.placed.index);
    leaf Text "The entry's hash as a leaf of the tree, in hexadecimal digits." |f| Some(f.placed.leaf.to_string());
    verified_size Number "The size of the signed checkpoint that the entry was held against." |f| Some(f.placed.verified_size);
    raw Text "The entry, word for word." |f| Some(f.placed.text().to_owned());
}

fn list(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}

/// A Parquet file that is being written.
pub(crate) struct Table<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Cells>,
    rows: usize,
    bytes: usize,
}

/// The cells of a column in the present row group: a level for each row, a value for each that has one.
#[derive(Default)]
struct Cells {
    levels: Vec<i16>,
    numbers: Vec<i64>,
    texts: Vec<ByteArray>,
}

impl<W: Write + Send> Table<W> {
    pub(crate) fn new(out: W) -> Result<Self, ParquetError> {
        let definitions: String = COLUMNS.iter().map(Column::definition).collect();
        let schema = parse_message_type(&format!("message record {{ {definitions} }}"))?;
        let version =
            KeyValue::new("bartizan.record.version".to_owned(), bartizan_model::record::VERSION.to_string());
        let properties = WriterProperties::builder()
            // The same rows give the same bytes, whoever writes them.
            .set_created_by("bartizan".to_owned())
            .set_key_value_metadata(Some(vec![version]))
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        let columns = COLUMNS.iter().map(|_| Cells::default()).collect();
        Ok(Self { file, columns, rows: 0, bytes: 0 })
    }

    pub(crate) fn push(&mut self, placed: &Placed) -> Result<(), ParquetError> {
        let facts = Facts::of(placed);
        for (column, cells) in COLUMNS.iter().zip(&mut self.columns) {
            let present = match column.read {
                Read::Moment(read) | Read::Number(read) => {
                    let number = read(&facts).map(|n| i64::try_from(n).unwrap_or(i64::MAX));
                    cells.numbers.extend(number);
                    number.is_some()
                }
                Read::Text(read) => {
                    let text = read(&facts);
                    self.bytes += text.as_ref().map_or(0, String::len);
                    let present = text.is_some();
                    cells.texts.extend(text.map(|t| ByteArray::from(t.into_bytes())));
                    present
                }
            };
            cells.levels.push(present.into());
        }
        self.rows += 1;
        if self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for (column, cells) in COLUMNS.iter().zip(&mut self.columns) {
            let cells = std::mem::take(cells);
            let mut writer = group
                .next_column()?
                .ok_or_else(|| ParquetError::General("the schema has too few columns".to_owned()))?;
            let levels = Some(cells.levels.as_slice());
            match column.read {
                Read::Moment(_) | Read::Number(_) => {
                    writer.typed::<Int64Type>().write_batch(&cells.numbers, levels, None)?
                }
                Read::Text(_) => writer.typed::<ByteArrayType>().write_batch(&cells.texts, levels, None)?,
            };
            writer.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W, ParquetError> {
        self.write_group()?;
        self.file.into_inner()
    }
}

impl<W: Write + Send> fmt::Debug for Table<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows).finish_non_exhaustive()
    }
}
