//! Revocations under load: how long until one is acknowledged, what is served after that, when streams end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use bartizan_bench::report::Value;

use crate::node::{Admin, Node};

/// Connections of somebody else that ask all the time, on each node.
const LOAD: usize = 4;
/// Connections that ask with the key that is revoked, on each node.
const ASKING: usize = 2;
/// Streams that are open under that key, on each node.
const STREAMS: usize = 2;
/// How long streams may take to end before they count as not ended.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// What the rounds brought, in nanoseconds.
#[derive(Default)]
pub struct Rounds {
    acknowledged: Vec<u64>,
    streams: Vec<u64>,
    served_after: u64,
    answers: u64,
    ran_out: u64,
    seconds: f64,
}

/// Revokes `rounds` keys one after the other. With `silent`, the last node is suspended before each revocation and goes on
/// after its acknowledgement.
pub fn drive(admin: &Admin, nodes: &[Node], rounds: u32, silent: bool) -> Result<Rounds, Error> {
    let mut found = Rounds::default();
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (_, load_key) = admin.key()?;
    let load: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..LOAD).map(|_| node.data))
        .map(|address| {
            let (stop, answers, request) = (stop.clone(), answers.clone(), chat(&load_key, false));
            thread::spawn(move || {
                ask_until(address, &request, &stop, |_, status| {
                    if status == 200 {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
        })
        .collect();
    let began = Instant::now();
    for _ in 0..rounds {
        round(admin, nodes, silent, &mut found)?;
    }
    found.seconds = began.elapsed().as_secs_f64();
    found.answers = answers.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().map_err(|_| "the load broke")?;
    }
    Ok(found)
}

fn round(admin: &Admin, nodes: &[Node], silent: bool, found: &mut Rounds) -> Result<(), Error> {
    let (id, key) = admin.key()?;
    let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
    // When an ask was sent that was answered by 200, the latest of them, in nanoseconds since the beginning.
    let latest = Arc::new(AtomicU64::new(0));
    let served: Vec<Arc<AtomicU64>> = nodes.iter().map(|_| Arc::default()).collect();
    let mut asking = Vec::new();
    for (node, served) in nodes.iter().zip(&served) {
        for _ in 0..ASKING {
            let (stop, latest, served) = (stop.clone(), latest.clone(), served.clone());
            let (address, request) = (node.data, chat(&key, false));
            asking.push(thread::spawn(move || {
                ask_until(address, &request, &stop, |sent, status| {
                    if status == 200 {
                        served.fetch_add(1, Ordering::Relaxed);
                        latest.fetch_max(nanos(sent.saturating_duration_since(began)), Ordering::Relaxed);
                    }
                });
            }));
        }
    }
    // It works at every node before it is revoked.
    let limit = Instant::now() + Duration::from_secs(10);
    while served.iter().any(|served| served.load(Ordering::Relaxed) < 3) {
        if Instant::now() > limit {
            return Err("a new key is not served".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    let streams: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..STREAMS).map(|_| node.data))
        .map(|address| open_stream(address, &key).map(|stream| thread::spawn(move || end_of(stream))))
        .collect::<Result<_, _>>()?;
    let silenced = nodes.last().filter(|_| silent);
    if let Some(node) = silenced {
        node.suspend(true)?;
    }
    let asked = Instant::now();
    let answer = admin.revoke(&id)?;
    let acknowledged = Instant::now();
    if let Some(node) = silenced {
        node.suspend(false)?;
    }
    found.acknowledged.push(nanos(acknowledged.duration_since(asked)));
    let ran_out = answer.pointer("/acknowledged/ran_out").and_then(|v| v.as_array()).map_or(0, Vec::len);
    found.ran_out += ran_out as u64;
    // What would be served wrongly shows within this time: the silent node has caught up by then.
    thread::sleep(Duration::from_millis(if silent { 400 } else { 100 }));
    stop.store(true, Ordering::Relaxed);
    for thread in asking {
        thread.join().map_err(|_| "an asking thread broke")?;
    }
    let mark = nanos(acknowledged.saturating_duration_since(began));
    found.served_after += u64::from(latest.load(Ordering::Relaxed) > mark);
    for stream in streams {
        let ended = stream.join().map_err(|_| "a stream's thread broke")??;
        found.streams.push(nanos(ended.saturating_duration_since(acknowledged)));
    }
    Ok(())
}

impl Rounds {
    pub fn values(mut self) -> Vec<Value> {
        self.acknowledged.sort_unstable();
        self.streams.sort_unstable();
        let ms = |sorted: &[u64], quantile: f64| {
            bartizan_bench::load::quantile_us(sorted, quantile).map(|us| us / 1_000.0)
        };
        let number = |n: u64| Some(n as f64);
        vec![
            Value::new("acknowledged_p50".into(), ms(&self.acknowledged, 0.5), "ms"),
            Value::new("acknowledged_p99".into(), ms(&self.acknowledged, 0.99), "ms"),
            Value::new("served_after".into(), number(self.served_after), ""),
            Value::new("stream_end_p50".into(), ms(&self.streams, 0.5), "ms"),
            Value::new("stream_end_p99".into(), ms(&self.streams, 0.99), "ms"),
            Value::new("leases_run_out".into(), number(self.ran_out), ""),
            Value::new("revocations".into(), number(self.acknowledged.len() as u64), ""),
            Value::new("others_served_per_second".into(), Some(self.answers as f64 / self.seconds), "1/s"),
        ]
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn chat(key: &str, endless: bool) -> Vec<u8> {
    let prompt = if endless { "fault: endless" } else { "say: hi" };
    let body = serde_json::json!({"model": "bench", "stream": endless, "messages": [{"role": "user", "content": prompt}]});
    let body = body.to_string();
    let connection = if endless { "connection: close\r\n" } else { "" };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.bench\r\n{connection}authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Asks one time after the other; a connection that breaks is made anew.
fn ask_until(address: SocketAddr, request: &[u8], stop: &AtomicBool, told: impl Fn(Instant, u16)) {
    let mut connection: Option<TcpStream> = None;
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match ask(&mut connection, address, request) {
            Ok(status) => told(sent, status),
            Err(_) => {
                connection = None;
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn ask(connection: &mut Option<TcpStream>, address: SocketAddr, request: &[u8]) -> Result<u16, Error> {
    if connection.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        *connection = Some(stream);
    }
    let stream = connection.as_mut().ok_or("no connection")?;
    stream.write_all(request)?;
    let (mut all, mut buffer) = (Vec::new(), [0; 8_192]);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err("the connection ended".into());
        }
        all.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if let Some(status) = whole(&all) {
            return Ok(status);
        }
    }
}

/// The status of an answer that is there to its end.
fn whole(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let complete = match header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    };
    complete.then_some(status)
}

/// A stream that would never end, once its first bytes are there.
fn open_stream(address: SocketAddr, key: &str) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(STREAM_PATIENCE))?;
    stream.write_all(&chat(key, true))?;
    let mut buffer = [0; 4_096];
    let length = stream.read(&mut buffer)?;
    let head = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    if head.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err(format!("no stream: {head}").into()) }
}

fn end_of(mut stream: TcpStream) -> Result<Instant, Error> {
    let mut buffer = [0; 8_192];
    let limit = Instant::now() + STREAM_PATIENCE;
    while Instant::now() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Instant::now()),
            Ok(_) => {}
            // Broken off is ended, too.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(Instant::now()),
            Err(error) => return Err(error.into()),
        }
    }
    Err("a stream did not end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_whole_when_its_body_is() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh"), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), Some(200));
        assert_eq!(whole(b"HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"), None);
        assert_eq!(
            whole(b"HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            Some(401)
        );
    }
}
