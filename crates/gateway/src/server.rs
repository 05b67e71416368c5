//! One accept loop for every listener: TCP without delay, TLS where configured, HTTP/1.1 and HTTP/2, bounds, and an
//! end that lets running requests finish.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bartizan_keys::{ServerTls, Shown};
use bartizan_rt::Tasks;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Within which time a head must be complete, and a TLS handshake done.
    pub head_timeout: Duration,
    /// How long a peer may take nothing of what is to be sent to it.
    pub write_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 * 1024,
            connections_max: 10_000,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// A listener that is bound.
#[derive(Debug)]
pub struct Served {
    /// Where it listens; the port is the real one where 0 was asked for.
    pub address: SocketAddr,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ServeError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Binds `address` and answers requests with `answer` until shutdown is asked for.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve<A, F, B>(
    name: &'static str,
    address: SocketAddr,
    tls: Option<ServerTls>,
    limits: ServerLimits,
    tasks: &Tasks,
    answer: A,
) -> Result<Served, ServeError>
where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |source| ServeError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let loop_tasks = tasks.clone();
    tasks.spawn(name, async move { accept(listener, tls, limits, loop_tasks, answer).await });
    Ok(Served { address })
}

async fn accept<A, F, B>(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limits: ServerLimits,
    tasks: Tasks,
    answer: A,
) where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.shutdown().requested() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already: wait a moment instead of spinning.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (tls, answer, shutdown) = (tls.clone(), answer.clone(), tasks.clone());
        tasks.spawn("connection", async move {
            if let Err(error) = connection(stream, peer, tls, limits, &shutdown, answer).await {
                tracing::debug!(%peer, error, "connection ended");
            }
            drop(place);
        });
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn connection<A, F, B>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTls>,
    limits: ServerLimits,
    tasks: &Tasks,
    answer: A,
) -> Result<(), AnyError>
where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<AnyError>,
{
    // Without this, small pieces of a stream wait for the peer's delayed acknowledgement: 40 ms each.
    stream.set_nodelay(true)?;
    // A peer that takes nothing must not hold memory, a connection and a call for ever.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let stream = Box::pin(stream);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(8_192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(250)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    match tls {
        Some(tls) => {
            let accepting = TlsAcceptor::from(tls.config()).accept(stream);
            let stream = tokio::time::timeout(limits.head_timeout, accepting).await??;
            let shown = stream.get_ref().1.peer_certificates().map(|chain| tls.shown(chain));
            let service = answering(answer, peer, shown.unwrap_or_default());
            drive(builder.serve_connection(TokioIo::new(stream), service), tasks).await
        }
        None => {
            let service = answering(answer, peer, Shown::default());
            drive(builder.serve_connection(TokioIo::new(stream), service), tasks).await
        }
    }
}

/// Each request of a connection, with the certificates that its client has proven in the handshake.
fn answering<A, F, B>(
    answer: A,
    peer: SocketAddr,
    shown: Shown,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<B>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
>
where
    A: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    service_fn(move |mut request: Request<Incoming>| {
        if let Some(certificate) = &shown.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        if let Some(workload) = &shown.workload {
            request.extensions_mut().insert(workload.clone());
        }
        let answered = answer(request, peer);
        async move { Ok::<_, Infallible>(answered.await) }
    })
}

/// Runs a connection to its end; when shutdown is asked for, lets the running requests finish first.
async fn drive<I, S, B>(
    connection: auto::Connection<'_, I, S, TokioExecutor>,
    tasks: &Tasks,
) -> Result<(), AnyError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<AnyError>,
{
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = tasks.shutdown().requested() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
