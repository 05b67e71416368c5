//! The child process: reads one task, limits itself, asks the solver, tells what it finds.
//!
//! The symbolic compiler recurses as deep as there are rules and can overflow any stack; the solver can take any time and
//! memory. Both happen here, where only the question is lost.

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bartizan_base::Clock;
use rustix::process::{Resource, Rlimit, Signal, getpgrp, getpid, getrlimit, kill_process_group, setrlimit};

use crate::question::Question;
use crate::search::Search;
use crate::session::{Session, knows_the_known};
use crate::wire::{Message, Task, schema};

/// The longest task in bytes.
const TASK_MAX: u64 = 256 << 20;

/// Runs the worker: a task on `input`, findings on `output`. When `input` ends early, whoever asked is gone, and this process
/// ends with the solver.
///
/// Meant to be called by a hidden command of the binary that also holds the [`Prover`](crate::Prover), with the process's own
/// standard input and output.
pub fn main(
    input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
    clock: Arc<dyn Clock>,
) -> ExitCode {
    let mut input = std::io::BufReader::new(input);
    let mut line = Vec::new();
    let read = (&mut input).take(TASK_MAX).read_until(b'\n', &mut line);
    let Some(task) = read.ok().and_then(|_| serde_json::from_slice::<Task>(&line).ok()) else {
        return ExitCode::from(64);
    };
    drop(line);
    limit(task.memory_bytes);
    // Nothing more is written to the input: it ends when the asker does.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        if getpgrp() == getpid() {
            let _ = kill_process_group(getpgrp(), Signal::KILL);
        }
        std::process::abort();
    });
    let stack = task.stack_bytes;
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(answer(task, &mut output, &*clock))
    };
    let worked = std::thread::Builder::new().stack_size(stack).spawn(work).map(std::thread::JoinHandle::join);
    match worked {
        Ok(Ok(Some(()))) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// No core files, and no more memory than allowed, for this process and the solver each.
fn limit(memory_bytes: u64) {
    for (resource, value) in [(Resource::Core, 0), (Resource::As, memory_bytes)] {
        let maximum = getrlimit(resource).maximum.map_or(value, |max| max.min(value));
        let _ = setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    }
}

async fn answer(task: Task, output: &mut impl Write, clock: &dyn Clock) -> Option<()> {
    let Task { fragments, asked, solver, query_ms, slice_rules_max, .. } = task;
    let (schema, question) = (schema(fragments)?, asked.question()?);
    let mut session = Session::new(&solver, query_ms, clock);
    match ready(&mut session).await {
        Ok(version) => tell(output, &Message::Ready { version })?,
        Err(detail) => return tell(output, &Message::Unusable { detail }),
    }
    search(&question, &schema, session, slice_rules_max, output).await?;
    tell(output, &Message::Done)
}

async fn ready(session: &mut Session<'_>) -> Result<String, String> {
    let version = session.version()?;
    knows_the_known(session).await?;
    Ok(version)
}

async fn search(
    question: &Question,
    schema: &cedar_policy::Schema,
    session: Session<'_>,
    slice_rules_max: usize,
    output: &mut impl Write,
) -> Option<()> {
    let mut search = Search::new(schema, session, slice_rules_max).ok()?;
    for about in question.subjects() {
        let (found, environments, queries) = search.find(question, &about).await;
        tell(output, &Message::Found { about, found, environments, queries })?;
    }
    Some(())
}

fn tell(output: &mut impl Write, message: &Message) -> Option<()> {
    serde_json::to_writer(&mut *output, message).ok()?;
    output.write_all(b"\n").and_then(|()| output.flush()).ok()
}

/// The path of the running program, to be started again as the worker.
///
/// # Errors
/// When the system does not tell.
pub fn this_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}
