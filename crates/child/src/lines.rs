//! Lines of bounded length.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Reads lines. One that is too long is either an error, or cut and its rest passed over.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    from: BufReader<R>,
    bytes_max: usize,
    cut: bool,
}

/// A line, and whether something of it was passed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: Bytes,
    pub(crate) cut: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines that must not be longer.
    pub(crate) fn bounded(from: R, bytes_max: usize) -> Self {
        Self { from: BufReader::with_capacity(16 << 10, from), bytes_max, cut: false }
    }

    /// Lines of which what is beyond is passed over.
    pub(crate) fn cut(from: R, bytes_max: usize) -> Self {
        Self { cut: true, ..Self::bounded(from, bytes_max) }
    }

    /// The next line that is not empty; none at the end. What stands after the last line end is a line, too.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        let (mut held, mut cut) = (Vec::new(), false);
        loop {
            let part = self.from.fill_buf().await?;
            let ended = part.is_empty();
            let end = memchr::memchr(b'\n', part);
            let (text, taken) = match end {
                Some(at) => (part.get(..at).unwrap_or_default(), at + 1),
                None => (part, part.len()),
            };
            let room = self.bytes_max.saturating_sub(held.len());
            if text.len() > room && !self.cut {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            cut |= text.len() > room;
            held.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            self.from.consume(taken);
            if end.is_some() || ended {
                while held.last().is_some_and(u8::is_ascii_whitespace) {
                    held.pop();
                }
                if !held.is_empty() {
                    return Ok(Some(Line { text: held.into(), cut }));
                }
                if ended {
                    return Ok(None);
                }
                cut = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut lines: Lines<&[u8]>) -> io::Result<Vec<(String, bool)>> {
        let mut out = Vec::new();
        while let Some(line) = lines.next().await? {
            out.push((String::from_utf8_lossy(&line.text).into_owned(), line.cut));
        }
        Ok(out)
    }

    #[tokio::test]
    async fn lines_come_one_by_one_however_they_end_and_empty_ones_not_at_all() {
        let got = all(Lines::bounded(&b"a\r\n\n  \nbc\nd"[..], 2)).await.unwrap();
        assert_eq!(got, [("a".into(), false), ("bc".into(), false), ("d".into(), false)]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_an_error_or_cut_without_harm_to_the_next() {
        let long = format!("{}\nnext\n", "x".repeat(40_000));
        let refused = all(Lines::bounded(long.as_bytes(), 39_999)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(all(Lines::bounded(long.as_bytes(), 40_000)).await.is_ok());
        let got = all(Lines::cut(long.as_bytes(), 10)).await.unwrap();
        assert_eq!(got, [("x".repeat(10), true), ("next".into(), false)]);
    }
}
