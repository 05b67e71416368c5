//! Starting what is measured, pinned to one core, and reading what it uses from the process accounting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Error;

/// The core of the gateway, and the one that the load and the model share.
pub const GATEWAY_CORE: &str = "0";
pub const LOAD_CORE: &str = "1";

/// A running program; it and its children end when this is dropped.
pub struct Program {
    child: Child,
}

/// An address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Moves this process to the load's core.
pub fn pin_self() -> Result<(), Error> {
    let status = Command::new("taskset")
        .args(["-cp", LOAD_CORE, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err("taskset could not pin this process".into()) }
}

impl Program {
    /// Starts `command` on `core`, its output in `log`.
    pub fn start(
        core: &str,
        command: &[String],
        variables: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, Error> {
        let log = File::create(log)?;
        let child = Command::new("taskset")
            .args(["-c", core])
            .args(command)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child })
    }

    /// Whether it is still there.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Seconds of processor time that it and its children have used, user and system.
    pub fn cpu_s(&self) -> f64 {
        self.tree().iter().filter_map(|pid| ticks(*pid)).sum::<u64>() as f64 / ticks_per_second()
    }

    /// Mebibytes of memory that it and its children hold.
    pub fn memory_mib(&self) -> f64 {
        self.tree().iter().filter_map(|pid| resident_kib(*pid)).sum::<u64>() as f64 / 1024.0
    }

    fn tree(&self) -> Vec<u32> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok())
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = tree.get(at) {
            tree.extend(children.remove(pid).unwrap_or_default());
            at += 1;
        }
        tree
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let tree: Vec<String> = self.tree().iter().map(u32::to_string).collect();
        let _ = Command::new("kill").args(&tree).stderr(Stdio::null()).status();
        for _ in 0..50 {
            if !self.runs() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = Command::new("kill").arg("-9").args(&tree).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// The fields of `/proc/PID/stat` behind the program's name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(field(11)? + field(12)?)
}

fn ticks_per_second() -> f64 {
    let output = Command::new("getconf").arg("CLK_TCK").output().ok();
    output.and_then(|o| String::from_utf8(o.stdout).ok()?.trim().parse().ok()).unwrap_or(100.0)
}

fn resident_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
