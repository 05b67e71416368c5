//! A tool server over HTTP+SSE, as they were in 2024; some of them led by the wrong hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Where the first event leads.
#[derive(Clone)]
pub(crate) enum Lead {
    /// To the server itself.
    Own,
    /// There is none.
    None,
    /// A message comes before it.
    MessageFirst,
    To(String),
    /// To the server itself, and with the first message somewhere else.
    Moves(String),
}

type Streams = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<String>>>>;

pub(crate) struct OldServer {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl OldServer {
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    pub(crate) async fn start(lead: Lead) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (seen, streams) = (Arc::<Mutex<Vec<String>>>::default(), Streams::default());
        let told = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, lead.clone(), told.clone(), streams.clone()));
            }
        });
        Self { address, seen }
    }

    /// The requests so far: head and body as one text each.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request after the other on a connection.
async fn serve(mut stream: TcpStream, lead: Lead, seen: Arc<Mutex<Vec<String>>>, streams: Streams) {
    let mut held = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut held).await else { return };
        seen.lock().unwrap().push(format!("{head}\r\n\r\n{body}"));
        if head.starts_with("GET /sse ") {
            return events(stream, lead, streams).await;
        }
        let session =
            head.split_once("session=").map_or("", |(_, rest)| rest.split(' ').next().unwrap()).to_owned();
        let message: Value = serde_json::from_str(&body).unwrap();
        if message.get("id").is_some() {
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"said": message}});
            let event = match &lead {
                Lead::Moves(to) => format!("event: endpoint\ndata: {to}\n\n"),
                _ => format!(": a comment\n\nevent: message\ndata: {answer}\n\n"),
            };
            let _ = streams.lock().unwrap()[&session].send(event);
        }
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 8\r\n\r\nAccepted").await.unwrap();
    }
}

async fn request(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(held).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            if body.len() >= length {
                held.drain(..head.len() + 4 + length);
                return Some((head.to_owned(), body.get(..length).unwrap().to_owned()));
            }
        }
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        held.extend_from_slice(part.get(..read).unwrap());
    }
}

async fn events(mut stream: TcpStream, lead: Lead, streams: Streams) {
    let session = streams.lock().unwrap().len().to_string();
    let (sender, mut sent) = mpsc::unbounded_channel();
    streams.lock().unwrap().insert(session.clone(), sender);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n")
        .await
        .unwrap();
    let first = match lead {
        Lead::Own | Lead::Moves(_) => format!("event: endpoint\ndata: /messages?session={session}\n\n"),
        Lead::To(to) => format!("event: endpoint\ndata: {to}\n\n"),
        Lead::MessageFirst => "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n".to_owned(),
        Lead::None => ": nothing yet\n\n".to_owned(),
    };
    stream.write_all(first.as_bytes()).await.unwrap();
    while let Some(event) = sent.recv().await {
        if stream.write_all(event.as_bytes()).await.is_err() {
            return;
        }
    }
}
