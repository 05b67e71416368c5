//! A small HTTP server that does as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A request, whole.
pub(crate) type Received = Request<Bytes>;

/// What it does to a request.
pub(crate) enum Act {
    /// Answers.
    Answer(Response<Bytes>),
    /// Answers without end.
    Endless,
    /// Never answers.
    Hang,
    /// Ends the connection.
    Break,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) received: Arc<Mutex<Vec<Received>>>,
}

pub(crate) fn status(status: u16) -> Act {
    Act::Answer(Response::builder().status(status).body(Bytes::new()).unwrap())
}

impl Server {
    /// Serves on a free port until the runtime ends.
    pub(crate) async fn start(act: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (act, keep) = (Arc::new(act), received.clone());
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (act, keep) = (act.clone(), keep.clone());
                let service =
                    hyper::service::service_fn(move |request| serve(request, act.clone(), keep.clone()));
                spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "these tasks end with the test")]
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

async fn serve(
    request: Request<Incoming>,
    act: Arc<impl Fn(&Received) -> Act>,
    keep: Arc<Mutex<Vec<Received>>>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, body.collect().await.map_err(std::io::Error::other)?.to_bytes());
    keep.lock().unwrap().push(request.clone());
    match act(&request) {
        Act::Answer(answer) => Ok(answer.map(|bytes| Full::new(bytes).boxed())),
        Act::Endless => {
            let piece = || Ok(Frame::data(Bytes::from_static(&[b'x'; 1_024])));
            Ok(Response::new(StreamBody::new(stream::repeat_with(piece)).boxed()))
        }
        Act::Hang => std::future::pending().await,
        Act::Break => Err(std::io::Error::other("as told")),
    }
}
