//! One running child: its line, its tasks, its end.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bartizan_base::json::Limits;
use bartizan_base::{Clock, Digest};
use bartizan_model::ReasonCode;
use bartizan_rt::{Shutdown, Tasks};
use bartizan_secret::Secret;
use bytes::Bytes;
use futures_util::StreamExt as _;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::command::CommandSpec;
use crate::ending::Ending;
use crate::isolation::Isolation;
use crate::lines::Lines;
use crate::link::{Link, Manner};
use crate::message::{Message, limits};
use crate::messages::{Broken, Messages};
use crate::said::Scribe;
use crate::spawner::Spawner;

/// How long a child that is to end may take to do so by itself, and then to be gone.
const FAREWELL: Duration = Duration::from_secs(1);
const DEATH: Duration = Duration::from_secs(5);
/// How we open a line where no caller does.
pub(crate) const GREETING: &str = concat!(
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"#,
    r#""clientInfo":{"name":"bartizan","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}}"#
);
pub(crate) const GREETED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// What a child is started with.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a CommandSpec,
    pub(crate) values: Vec<(String, Secret<String>, bool)>,
    pub(crate) isolation: &'a Isolation,
    pub(crate) spawner: &'a Spawner,
    pub(crate) tasks: &'a Tasks,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) manner: Manner,
    pub(crate) start_patience: Duration,
}

/// A child that was greeted.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) link: Arc<Link>,
    /// What it answered to the greeting.
    pub(crate) hello: Message,
    /// SHA-256 of what the greeting said.
    pub(crate) greeted_with: Digest,
    pub(crate) began_us: u64,
    used_us: AtomicU64,
    /// Whether we wanted its end.
    wished: AtomicBool,
    end: Shutdown,
    /// Ended once the process is gone.
    gone: Shutdown,
}

impl Server {
    /// Starts a child and greets it: with a caller's own `initialize`, or with ours. `place` is let go once the process is gone.
    pub(crate) async fn start<P: Send + 'static>(
        birth: Birth<'_>,
        greeting: Option<&Bytes>,
        place: P,
    ) -> Result<Arc<Self>, ReasonCode> {
        let Birth { name, spec, values, isolation, spawner, tasks, clock, manner, start_patience } = birth;
        let wrapped = isolation.wrap(spec).map_err(|why| {
            tracing::error!(%why, "no child is started");
            ReasonCode::IsolationUnavailable
        })?;
        let (program, arguments) = wrapped.split_first().ok_or(ReasonCode::Internal)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        let home = spec.folder.as_deref().unwrap_or_else(|| std::path::Path::new("/tmp"));
        command.env("HOME", home).env("TMPDIR", "/tmp");
        for (variable, value, _) in &values {
            command.env(variable, value.expose());
        }
        let mut child = spawner.spawn(command).await.map_err(|error| {
            tracing::warn!(command = name, %error, "a tool server does not start");
            ReasonCode::UpstreamUnreachable
        })?;
        let (Some(input), Some(output), Some(said)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ReasonCode::Internal);
        };
        let (end, gone) = (tasks.shutdown().child(), Shutdown::default());
        let (link, outbox) = Link::new(manner, end.clone());
        let ends = Ending::of(&end);
        let secrets =
            values.into_iter().filter(|(_, _, secret)| *secret).map(|(_, value, _)| value).collect();
        let scribe = Scribe::new(secrets, clock.clone());
        tasks.spawn("child-says", scribe.follow(said, name.to_owned()));
        tasks.spawn("child-writes", write(input, outbox, link.clone(), end.clone()));
        tasks.spawn("child-reads", read(Lines::bounded(output, manner.bytes_max), link.clone()));
        let (tended, told) = ((link.clone(), end.clone()), (gone.clone(), name.to_owned()));
        tasks.spawn("child", async move {
            let (gone, name) = told;
            tend(child, tended, name).await;
            drop(place);
            gone.request();
        });
        let own = Bytes::from_static(GREETING.as_bytes());
        let read = Message::read(greeting.unwrap_or(&own).clone(), limits(manner.bytes_max));
        let greeting = read.map_err(|_| ReasonCode::BodyMalformed)?;
        let greeted_with = Digest::of(greeting.params());
        let hello = tokio::time::timeout(start_patience, greet(&link, &greeting)).await;
        let hello = hello.map_err(|_| Broken::Silent).and_then(|hello| hello).map_err(|broken| {
            tracing::warn!(command = name, %broken, "a tool server does not answer the greeting");
            match broken {
                Broken::Ended => ReasonCode::UpstreamUnreachable,
                other => other.reason(),
            }
        })?;
        ends.disarm();
        let now = clock.monotonic_us();
        Ok(Arc::new(Self {
            link,
            hello,
            greeted_with,
            began_us: now,
            used_us: now.into(),
            wished: AtomicBool::default(),
            end,
            gone,
        }))
    }

    /// Whether it can be asked.
    pub(crate) fn lives(&self) -> bool {
        !self.end.is_requested() && self.link.broken().is_none()
    }

    pub(crate) fn use_at(&self, now_us: u64) {
        self.used_us.fetch_max(now_us, Ordering::Relaxed);
    }

    /// When it was used last.
    pub(crate) fn used_us(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Ends it because it is not needed any longer.
    pub(crate) fn dismiss(&self) {
        if self.lives() {
            self.wished.store(true, Ordering::Relaxed);
        }
        self.end.request();
    }

    /// Whether its end was its own doing.
    pub(crate) fn failed(&self) -> bool {
        !self.lives() && !self.wished.load(Ordering::Relaxed)
    }

    /// Resolves once its process is gone.
    pub(crate) async fn gone(&self) {
        self.gone.requested().await;
    }
}

/// Opens the line: a server that knows no greeting (it keeps no state) has answered, too.
async fn greet(link: &Arc<Link>, greeting: &Message) -> Result<Message, Broken> {
    let (numbers, messages) = link.begin(Digest::of(b""), greeting)?;
    link.send(greeting.numbered(&numbers.unwrap_or_default())).await?;
    let hello = conversed(messages, link.limits()).await?;
    if !hello.is_error() {
        link.send(Bytes::from_static(GREETED.as_bytes())).await?;
    }
    Ok(hello)
}

/// The last message of a conversation.
pub(crate) async fn conversed(mut messages: Messages, limits: Limits) -> Result<Message, Broken> {
    let mut last = None;
    while let Some(next) = messages.next().await {
        last = Some(next?);
    }
    Message::read(last.ok_or(Broken::Ended)?, limits).map_err(|_| Broken::Rubbish)
}

async fn write(mut input: ChildStdin, mut outbox: mpsc::Receiver<Bytes>, link: Arc<Link>, end: Shutdown) {
    let work = async {
        while let Some(line) = outbox.recv().await {
            input.write_all(&line).await?;
            input.write_all(b"\n").await?;
            input.flush().await?;
        }
        std::io::Result::Ok(())
    };
    // At the end the input is closed, which asks a well-behaved server to end.
    tokio::select! {
        written = work => if written.is_err() { link.end(Broken::Ended) },
        () = end.requested() => {}
    }
}

async fn read(mut lines: Lines<impl AsyncRead + Unpin>, link: Arc<Link>) {
    let broken = loop {
        match lines.next().await {
            Ok(Some(line)) => match link.hear(line.text) {
                Ok(()) => {}
                Err(broken) => break broken,
            },
            Ok(None) => break Broken::Ended,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => break Broken::Rubbish,
            Err(_) => break Broken::Ended,
        }
    };
    link.end(broken);
}

/// Waits for the end of a child, or brings it about; the process and everything it started are gone afterwards.
async fn tend(mut child: Child, (link, end): (Arc<Link>, Shutdown), name: String) {
    let status = tokio::select! {
        status = child.wait() => Some(status),
        () = end.requested() => None,
    };
    let status = match status {
        Some(status) => status,
        None => stop(&mut child).await,
    };
    match status {
        Ok(status) => tracing::info!(command = name, %status, "a tool server has ended"),
        Err(error) => tracing::warn!(command = name, %error, "a tool server that has ended cannot be reaped"),
    }
    link.end(Broken::Ended);
}

async fn stop(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    if let Ok(status) = tokio::time::timeout(FAREWELL, child.wait()).await {
        return status;
    }
    let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(leader) = leader {
        // The innermost first: what it was the parent of goes with it, and the ones outside can still reap it.
        kill_inside(leader);
        if let Ok(status) = tokio::time::timeout(DEATH, child.wait()).await {
            return status;
        }
        // Not reaped yet, so its number is still its own.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    child.wait().await
}

/// Kills the children of `leader`: the first processes of the namespaces, with which all others in there die.
fn kill_inside(leader: Pid) {
    for pid in inside(leader) {
        // A number can be given to another process as soon as its parent has reaped; so what is meant is held first and looked
        // for again.
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if inside(leader).contains(&pid) {
            let _ = pidfd_send_signal(held, Signal::KILL);
        }
    }
}

fn inside(leader: Pid) -> Vec<Pid> {
    let leader = leader.as_raw_nonzero();
    let told = std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
