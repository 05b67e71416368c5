//! Where children are born: on a thread that lives as long as the house does.
//!
//! A child is to die with its parent (`--die-with-parent`), and to the kernel the parent is the thread that made it. Threads of the
//! runtime come and go.

use std::io;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[derive(Debug)]
struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts processes.
#[derive(Debug)]
pub(crate) struct Spawner(mpsc::Sender<Order>);

impl Spawner {
    /// A thread that starts processes until the spawner is dropped. To be called on a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Handle::current();
        let (orders, ordered) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("children".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            while let Ok(Order { mut command, reply }) = ordered.recv() {
                // Whoever does not wait any longer drops the child, which kills it.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self(orders))
    }

    pub(crate) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread of the children has ended");
        let (reply, born) = oneshot::channel();
        self.0.send(Order { command, reply }).map_err(|_| gone())?;
        born.await.map_err(|_| gone())?
    }
}
