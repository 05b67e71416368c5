//! The place on this machine where the browser comes back to (RFC 8252, 7.3): a port of 127.0.0.1 that nobody knows before.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// The path that the browser comes back to, as the built-in client has it registered.
const PATH: &str = "/answer";
/// The longest request line that is read.
const LINE_MAX: u64 = 16 << 10;
/// For how long one caller may take to send it.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// How often somebody new is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Callers at the same time. Browsers open connections that they then do not use.
const CALLERS_MAX: usize = 32;

/// A listener for one browser.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    /// Its address.
    pub address: String,
}

/// Whether a query is the one that is waited for.
type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Loopback {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = format!("http://127.0.0.1:{}{PATH}", listener.local_addr()?.port());
        listener.set_nonblocking(true)?;
        Ok(Self { listener, address })
    }

    /// The first query that the browser comes back with and that is `wanted`; none after `patience`. Whatever else calls is sent
    /// away and ends nothing: any page can send a browser here.
    ///
    /// # Errors
    /// When the listener fails.
    pub fn answer(
        &self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> io::Result<Option<String>> {
        let wanted: Wanted = Arc::new(wanted);
        let (sender, found) = mpsc::channel();
        let mut waited = Duration::ZERO;
        while waited < patience {
            while let Some(stream) = self.caller()? {
                // Each of them holds the closure.
                if Arc::strong_count(&wanted) <= CALLERS_MAX {
                    let (wanted, sender) = (wanted.clone(), sender.clone());
                    std::thread::spawn(move || hear(stream, &wanted, &sender));
                }
            }
            match found.recv_timeout(POLL) {
                Ok(query) => return Ok(Some(query)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => waited += POLL,
            }
        }
        Ok(None)
    }

    fn caller(&self) -> io::Result<Option<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Gone before it was taken.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Answers one caller. Whoever has gone does not need it.
fn hear(mut stream: TcpStream, wanted: &Wanted, found: &Sender<String>) {
    if stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(LINE_PATIENCE))).is_err() {
        return;
    }
    let mut line = String::new();
    let read = BufReader::new((&stream).take(LINE_MAX)).read_line(&mut line);
    let path = read.ok().and_then(|_| line.strip_prefix("GET ")?.split(' ').next());
    let query = path.and_then(|path| path.strip_prefix(PATH)?.strip_prefix('?'));
    let (status, said) = match query {
        Some(query) if wanted(query) => {
            ("200 OK", "You can close this page and go back to where you came from.")
        }
        Some(_) => ("400 Bad Request", "This is no answer to anything that was asked here."),
        None => ("404 Not Found", "Nothing is here."),
    };
    let head = "content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\n\
                x-content-type-options: nosniff\r\nconnection: close";
    let length = said.len();
    write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{said}")
        .unwrap_or_default();
    if let (Some(query), true) = (query, status.starts_with("200")) {
        // Nobody waits any more where an answer has come already.
        found.send(query.to_owned()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: &str, target: &str) -> String {
        let host = address.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    }

    #[test]
    fn what_was_not_asked_for_ends_nothing_and_silent_callers_are_in_nobodys_way() {
        let loopback = Loopback::new().unwrap();
        let address = loopback.address.clone();
        let browser = std::thread::spawn(move || {
            let host = address.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
            let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(&host).unwrap()).collect();
            assert_eq!(ask(&address, "/favicon.ico"), "HTTP/1.1 404 Not Found");
            assert_eq!(ask(&address, "/answer"), "HTTP/1.1 404 Not Found");
            assert_eq!(ask(&address, "/answerx?state=right"), "HTTP/1.1 404 Not Found");
            assert_eq!(ask(&address, "/answer?state=wrong&code=evil"), "HTTP/1.1 400 Bad Request");
            assert_eq!(ask(&address, "/answer?state=right&code=good"), "HTTP/1.1 200 OK");
            drop(silent);
        });
        let query = loopback.answer(Duration::from_secs(60), |query| query.contains("state=right")).unwrap();
        assert_eq!(query.as_deref(), Some("state=right&code=good"));
        browser.join().unwrap();
    }

    #[test]
    fn somebody_who_never_answers_is_not_waited_for_for_ever() {
        let loopback = Loopback::new().unwrap();
        assert_eq!(loopback.answer(POLL * 2, |_| true).unwrap(), None);
    }
}
