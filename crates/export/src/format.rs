//! The formats.

use std::fmt;
use std::str::FromStr;

/// A format that records can be had in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// One JSON object a line: the record and its place.
    JsonLines,
    /// One OCSF 1.8.0 event a line, as JSON.
    Ocsf,
    /// One CEF event a line.
    Cef,
    /// One OTLP `ExportLogsServiceRequest` a line, as JSON; each holds many records.
    OtlpJson,
    /// One Parquet file.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[Self::JsonLines, Self::Ocsf, Self::Cef, Self::OtlpJson, Self::Parquet];

    /// The name in configuration and commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
            Self::OtlpJson => "otlp-json",
            Self::Parquet => "parquet",
        }
    }

    /// The media type of a whole export. A single line of `otlp-json` is `application/json`, as OTLP over HTTP wants it.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines | Self::Ocsf | Self::OtlpJson => "application/x-ndjson",
            Self::Cef => "text/plain; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// How a file's name ends, without the first dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Ocsf => "ocsf.jsonl",
            Self::Cef => "cef",
            Self::OtlpJson => "otlp.jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// What it is, in one sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::JsonLines => "One JSON object a line: the record and its place in the ledger.",
            Self::Ocsf => "One event of the Open Cybersecurity Schema Framework 1.8.0 a line.",
            Self::Cef => "One event of the Common Event Format a line.",
            Self::OtlpJson => "OpenTelemetry logs: one `ExportLogsServiceRequest` with many records a line.",
            Self::Parquet => "One flat table, compressed with Snappy.",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No format has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format; there are `jsonl`, `ocsf`, `cef`, `otlp-json` and `parquet`")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.iter().copied().find(|f| f.name() == text).ok_or(UnknownFormat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_stand_in_the_message_about_unknown_ones() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(*format));
            assert!(UnknownFormat.to_string().contains(&format!("`{format}`")));
        }
        assert_eq!("JSONL".parse::<Format>(), Err(UnknownFormat));
    }
}
