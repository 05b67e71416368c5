//! A client as cheap as it can be: requests are written as they are, answers are only measured.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One kept-alive connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Bytes of the body without transfer coding.
    pub bytes: u64,
    /// Server-sent events in it.
    pub events: u64,
    /// When the first byte of the body was there.
    pub first_byte: Option<Instant>,
}

/// The bytes of a POST request.
pub fn post(path: &str, headers: &[(String, String)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway.bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16_384] })
    }

    /// Sends one request and reads its answer to the end.
    pub async fn call(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let mut reader = Reader::default();
        while !reader.done() {
            let length = self.stream.read(&mut self.buffer).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reader.take(self.buffer.get(..length).unwrap_or_default())?;
        }
        Ok(Answer {
            status: reader.status,
            bytes: reader.bytes,
            events: reader.events,
            first_byte: reader.first_byte,
        })
    }
}

#[derive(Default)]
struct Reader {
    head: Vec<u8>,
    part: Part,
    status: u16,
    bytes: u64,
    events: u64,
    /// The last byte of the body, to see the empty line that ends an event also across reads.
    last: u8,
    first_byte: Option<Instant>,
}

#[derive(Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// A body of known length: what is left of it.
    Length(u64),
    /// The line with a chunk's size, as far as it has come.
    ChunkSize(Vec<u8>),
    /// A chunk: what is left of it, and the line end after it.
    Chunk(u64),
    ChunkEnd(u8),
    /// The lines after the last chunk: bytes of the current one.
    Trailer(u64),
    Done,
}

impl Reader {
    fn done(&self) -> bool {
        self.part == Part::Done
    }

    fn take(&mut self, mut input: &[u8]) -> io::Result<()> {
        while let Some((&byte, rest)) = input.split_first() {
            match &mut self.part {
                Part::Head => {
                    self.head.push(byte);
                    input = rest;
                    if self.head.ends_with(b"\r\n\r\n") {
                        self.read_head()?;
                    }
                }
                Part::Length(left) | Part::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(here);
                    *left -= here as u64;
                    input = rest;
                    match self.part {
                        Part::Length(0) => self.part = Part::Done,
                        Part::Chunk(0) => self.part = Part::ChunkEnd(2),
                        _ => {}
                    }
                    self.data(data);
                }
                Part::ChunkSize(line) => {
                    input = rest;
                    if byte != b'\n' {
                        line.push(byte);
                        continue;
                    }
                    let size =
                        std::str::from_utf8(line).ok().map(|l| l.split(';').next().unwrap_or(l).trim());
                    let size =
                        size.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(invalid)?;
                    self.part = if size == 0 { Part::Trailer(0) } else { Part::Chunk(size) };
                }
                Part::ChunkEnd(left) => {
                    input = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.part = Part::ChunkSize(Vec::new());
                    }
                }
                Part::Trailer(length) => {
                    input = rest;
                    match byte {
                        b'\n' if *length == 0 => self.part = Part::Done,
                        b'\n' => *length = 0,
                        b'\r' => {}
                        _ => *length += 1,
                    }
                }
                Part::Done => return Err(invalid()),
            }
        }
        Ok(())
    }

    fn read_head(&mut self) -> io::Result<()> {
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        self.status = head.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(invalid)?;
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        self.part = match (header("content-length:"), header("transfer-encoding:")) {
            (_, Some("chunked")) => Part::ChunkSize(Vec::new()),
            (Some(length), _) => match length.parse().map_err(|_| invalid())? {
                0 => Part::Done,
                length => Part::Length(length),
            },
            (None, _) => return Err(invalid()),
        };
        Ok(())
    }

    fn data(&mut self, data: &[u8]) {
        if self.first_byte.is_none() && !data.is_empty() {
            self.first_byte = Some(Instant::now());
        }
        self.bytes += data.len() as u64;
        for &byte in data {
            self.events += u64::from(byte == b'\n' && self.last == b'\n');
            self.last = byte;
        }
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Reader {
        let mut reader = Reader::default();
        for piece in pieces {
            reader.take(piece).unwrap();
        }
        reader
    }

    #[test]
    fn body_of_known_length_is_read_to_its_end() {
        let reader = read(&[b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n", b"\r\nhel", b"lo"]);
        assert!(reader.done());
        assert_eq!((reader.status, reader.bytes), (403, 5));
    }

    #[test]
    fn chunks_are_read_and_events_counted_however_they_are_cut() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n9;x=y\r\ndata: b\n\n\r\n0\r\n\r\n";
        for cut in 0..answer.len() {
            let (one, two) = answer.split_at(cut);
            let reader = read(&[one, two]);
            assert!(reader.done());
            assert_eq!((reader.status, reader.bytes, reader.events), (200, 18, 2));
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut reader = Reader::default();
        assert!(reader.take(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab").is_err());
    }
}
