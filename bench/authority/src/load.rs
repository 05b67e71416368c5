//! The load: connections that ask the token endpoint again as soon as they are answered. A refresh asks with the token that
//! the refresh of the same login before gave, so answers are read.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ClientCredentials,
    Refresh,
    Exchange,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::ClientCredentials, Self::Refresh, Self::Exchange];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Refresh => "refresh",
            Self::Exchange => "exchange",
        }
    }
}

/// Where tokens are asked for, and with what.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub path: String,
    /// Refresh tokens, of as many logins.
    pub refresh: Vec<String>,
    /// A person's access token.
    pub subject: String,
}

impl Endpoint {
    /// What a server has written when it was ready.
    pub fn read(address: SocketAddr, told: &Value) -> Result<Self, Error> {
        let text = |name: &str| told[name].as_str().map(str::to_owned).ok_or(format!("no {name}"));
        let refresh = told["refresh"].as_array().ok_or("no refresh tokens")?;
        let refresh = refresh.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Self { address, path: text("path")?, refresh, subject: text("subject")? })
    }

    fn request(&self, way: Way, refresh: &str) -> Vec<u8> {
        let client = "client_id=bench-app&client_secret=0123456789abcdef0123456789abcdef";
        let resource = "resource=https%3A%2F%2Fgateway.example";
        let rest = match way {
            Way::ClientCredentials => {
                format!("grant_type=client_credentials&scope=model%3Ainvoke&{resource}")
            }
            Way::Refresh => format!("grant_type=refresh_token&refresh_token={refresh}&{resource}"),
            Way::Exchange => format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={}&\
                 subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&scope=model%3Ainvoke&{resource}",
                self.subject
            ),
        };
        let body = format!("{client}&{rest}");
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        )
        .into_bytes()
    }
}

/// What a round brought.
#[derive(Debug, Default)]
pub struct Round {
    pub tokens: u64,
    /// Nanoseconds from sending to the last byte; sorted.
    pub latency: Vec<u64>,
}

/// Asks on `connections` for `window`. Any answer without a token ends the measurement: a server that refuses is not quick.
pub async fn closed(
    endpoint: &Endpoint,
    way: Way,
    connections: usize,
    window: Duration,
) -> Result<(Round, Endpoint), Error> {
    let end = Instant::now() + window;
    let mut endpoint = endpoint.clone();
    let mut tasks = Vec::new();
    // Logins take turns: one that refreshed all the time would be told to wait, and none does so.
    let waiting = Arc::new(Mutex::new(VecDeque::from(std::mem::take(&mut endpoint.refresh))));
    for _ in 0..connections {
        let (own, waiting) = (endpoint.clone(), waiting.clone());
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(own.address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let mut round = Round::default();
            while Instant::now() < end {
                let refresh = match way {
                    Way::Refresh => locked(&waiting).pop_front().ok_or("too few refresh tokens")?,
                    Way::ClientCredentials | Way::Exchange => String::new(),
                };
                let request = own.request(way, &refresh);
                let from = Instant::now();
                stream.write_all(&request).await.map_err(|e| e.to_string())?;
                let answer = answer(&mut stream).await?;
                round.latency.push(u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX));
                if !answer["access_token"].is_string() {
                    return Err(format!("{}: {answer}", way.name()));
                }
                if way == Way::Refresh {
                    let next = answer["refresh_token"].as_str().unwrap_or(&refresh);
                    locked(&waiting).push_back(next.to_owned());
                }
                round.tokens += 1;
            }
            Ok(round)
        }));
    }
    let mut all = Round::default();
    for task in tasks {
        let round: Round = task.await??;
        all.tokens += round.tokens;
        all.latency.extend(round.latency);
    }
    endpoint.refresh = locked(&waiting).drain(..).collect();
    all.latency.sort_unstable();
    Ok((all, endpoint))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(stream: &mut TcpStream) -> Result<Value, String> {
    let mut bytes = Vec::with_capacity(2_048);
    loop {
        let mut buffer = [0; 4_096];
        let length = stream.read(&mut buffer).await.map_err(|e| e.to_string())?;
        if length == 0 {
            return Err("the server closed the connection".to_owned());
        }
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let (head, body) = bytes.split_at(end + 4);
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let declared = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let declared: usize = declared.and_then(|v| v.trim().parse().ok()).ok_or("no content-length")?;
        if body.len() >= declared {
            return serde_json::from_slice(body).map_err(|e| format!("{e}: {head}"));
        }
    }
}
