//! A reverse proxy that only forwards: what this stack costs before anything is checked. With a file it also makes a
//! record durable before each request goes on, and writes one after it: what recording costs at least.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use bartizan_bench::Error;
use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Bytes of the record before a request and of the one after it.
const INTENT_BYTES: usize = 1_100;
const OUTCOME_BYTES: usize = 500;
/// Bytes that are laid out on disk beforehand and then written round and round.
const FILE_BYTES: u64 = 256 << 20;
/// Records written at once at the most.
const BATCH_MAX: usize = 1_024;

type Body = BoxBody<Bytes, hyper::Error>;

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
    journal: Option<Sender<Entry>>,
}

/// A record of this length, and whoever waits for it.
struct Entry {
    bytes: usize,
    durable: Option<oneshot::Sender<bool>>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare ADDRESS UPSTREAM [FILE]";
    let address: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let upstream: Authority = arguments.next().ok_or(usage)?.parse()?;
    let journal = arguments.next().map(|file| journal(Path::new(&file))).transpose()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1_024)
        .build(connector);
    let proxy = Proxy { client, upstream, journal };
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = proxy.clone();
                async move { Ok::<_, Infallible>(proxy.forward(request).await) }
            });
            // A client that goes away is none of our concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Proxy {
    async fn forward(&self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(journal) = &self.journal {
            let (durable, written) = oneshot::channel();
            let sent = journal.send(Entry { bytes: INTENT_BYTES, durable: Some(durable) }).is_ok();
            if !sent || written.await != Ok(true) {
                return failed(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.upstream.clone());
        let Ok(uri) = Uri::from_parts(parts) else { return failed(StatusCode::BAD_REQUEST) };
        *request.uri_mut() = uri;
        request.headers_mut().remove("host");
        request.headers_mut().remove("authorization");
        let answer = match self.client.request(request).await {
            Ok(answer) => answer.map(BodyExt::boxed),
            Err(_) => failed(StatusCode::BAD_GATEWAY),
        };
        if let Some(journal) = &self.journal {
            // Nobody waits for the second record, as in the product.
            let _ = journal.send(Entry { bytes: OUTCOME_BYTES, durable: None });
        }
        answer
    }
}

fn failed(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Group commit: one thread takes whatever waits, writes it once, syncs once, and only then says so.
fn journal(path: &Path) -> Result<Sender<Entry>, Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let zeroes = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, at)?;
    }
    file.sync_all()?;
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("journal".into()).spawn(move || write(&file, &receiver))?;
    Ok(sender)
}

fn write(file: &File, entries: &Receiver<Entry>) {
    let bytes = vec![b'x'; BATCH_MAX.saturating_mul(INTENT_BYTES)];
    let mut at = 0_u64;
    while let Ok(first) = entries.recv() {
        let mut batch = vec![first];
        batch.extend(entries.try_iter().take(BATCH_MAX - 1));
        let length = batch.iter().map(|entry| entry.bytes).sum();
        if at + length as u64 > FILE_BYTES {
            at = 0;
        }
        let ok = bytes.get(..length).is_some_and(|bytes| file.write_all_at(bytes, at).is_ok())
            && file.sync_data().is_ok();
        at += length as u64;
        for durable in batch.into_iter().filter_map(|entry| entry.durable) {
            let _ = durable.send(ok);
        }
    }
}
