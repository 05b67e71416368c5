//! The worker seen from outside: started, fed, listened to, and killed with everything it started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::answer::Why;
use crate::wire::{Message, Task};

/// The most a worker may say, in bytes.
const OUTPUT_MAX: u64 = 64 << 20;

/// What a worker said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) messages: Vec<Message>,
    /// Why what it did not speak of is not proven; none where it said that it is done.
    pub(crate) cut: Option<(Why, String)>,
}

/// Runs a worker on a task, for `wall` at most.
///
/// # Errors
/// When it does not start.
pub(crate) fn run(program: &Path, arguments: &[String], task: &Task, wall: Duration) -> Result<Ran, String> {
    let cannot = |e: std::io::Error| format!("{} does not start: {e}", program.display());
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let group = Pid::from_child(&child);
    let (finished, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || watch(&watched, wall, group));
    let (messages, sound) = converse(&mut child, task);
    drop(finished);
    let timed_out = watchdog.join().unwrap_or(true);
    // The leader is not reaped yet, so its number is still its own.
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait();
    let done = matches!(messages.last(), Some(Message::Done));
    let cut = if done {
        None
    } else if timed_out {
        Some((Why::Timeout, format!("it took longer than {} ms", wall.as_millis())))
    } else if !sound {
        Some((Why::Unknown, "the prover's process said something that makes no sense".to_owned()))
    } else {
        Some(died(status.ok()))
    };
    Ok(Ran { messages, cut })
}

/// Waits until the talk is over or time is up; then kills. Whether it had to.
fn watch(watched: &Receiver<()>, wall: Duration, group: Pid) -> bool {
    let timed_out = watched.recv_timeout(wall) == Err(RecvTimeoutError::Timeout);
    if timed_out {
        let _ = kill_process_group(group, Signal::KILL);
    }
    timed_out
}

/// Gives the task and reads until the worker is done, ends, or says what is no message; whether all made sense.
fn converse(child: &mut Child, task: &Task) -> (Vec<Message>, bool) {
    let mut messages = Vec::new();
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return (messages, false);
    };
    // One that ended before it read is told by its exit status.
    let given = serde_json::to_vec(task).is_ok_and(|mut line| {
        line.push(b'\n');
        input.write_all(&line).and_then(|()| input.flush()).is_ok()
    });
    if !given {
        return (messages, true);
    }
    for line in BufReader::new(output.take(OUTPUT_MAX)).lines() {
        let Some(message) = line.ok().and_then(|line| serde_json::from_str::<Message>(&line).ok()) else {
            return (messages, false);
        };
        let last = matches!(message, Message::Done);
        messages.push(message);
        if last {
            break;
        }
    }
    // The input stays open until here: a worker whose asker is gone ends itself.
    drop(input);
    (messages, true)
}

fn died(status: Option<ExitStatus>) -> (Why, String) {
    const ABRT: i32 = 6;
    const BUS: i32 = 7;
    const SEGV: i32 = 11;
    match status {
        Some(status) => match status.signal() {
            Some(ABRT | BUS | SEGV) => {
                (Why::TooLarge, "the prover's process ran out of stack or memory".to_owned())
            }
            Some(_) | None => (Why::Unknown, format!("the prover's process ended early ({status})")),
        },
        None => (Why::Unknown, "the prover's process ended early".to_owned()),
    }
}
