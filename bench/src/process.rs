//! Starting what is measured, pinned to one core, and reading what it uses from the process accounting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
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
    /// Starts `command` on `core`, or wherever there is room without one; its output in `log`.
    pub fn start(
        core: Option<&str>,
        command: &[String],
        variables: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, Error> {
        let log = File::create(log)?;
        let pin = core.into_iter().flat_map(|core| ["taskset", "-c", core]).map(str::to_owned);
        let words: Vec<String> = pin.chain(command.iter().cloned()).collect();
        let (program, arguments) = words.split_first().ok_or("there is no program to start")?;
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// It and its children.
    pub fn processes(&self) -> Processes {
        Processes(self.child.id())
    }

    /// Seconds of processor time that it and its children have used, user and system.
    pub fn cpu_s(&self) -> f64 {
        self.processes().cpu_s()
    }

    /// Mebibytes of memory that it and its children hold.
    pub fn memory_mib(&self) -> f64 {
        self.processes().memory_mib()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let tree: Vec<String> = self.processes().tree().iter().map(u32::to_string).collect();
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

/// A process and its children, as the process accounting tells of them.
#[derive(Clone, Copy)]
pub struct Processes(u32);

impl Processes {
    /// This process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Seconds of processor time that they have used, user and system.
    pub fn cpu_s(self) -> f64 {
        self.tree().iter().filter_map(|pid| ticks(*pid)).sum::<u64>() as f64 / ticks_per_second()
    }

    /// Mebibytes of memory that they hold.
    pub fn memory_mib(self) -> f64 {
        self.tree().iter().filter_map(|pid| field(*pid, "status", "VmRSS:")).sum::<u64>() as f64 / 1024.0
    }

    /// Mebibytes that the process held at the most, its children not counted.
    pub fn memory_peak_mib(self) -> f64 {
        field(self.0, "status", "VmHWM:").unwrap_or(0) as f64 / 1024.0
    }

    fn tree(self) -> Vec<u32> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok())
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut tree = vec![self.0];
        let mut at = 0;
        while let Some(pid) = tree.get(at) {
            tree.extend(children.remove(pid).unwrap_or_default());
            at += 1;
        }
        tree
    }
}

/// The device that a folder lies on. Its numbers are those of the whole machine, so they are one program's on a quiet machine
/// only; those of the process accounting (`write_bytes`) count whole folios of the page cache, up to a thousand times what
/// is written.
#[derive(Clone, Debug)]
pub struct Medium(PathBuf);

/// What a device has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub bytes: u64,
    /// Requests to flush its cache.
    pub flushes: u64,
}

impl Medium {
    /// None where the file system has no block device of its own.
    pub fn of(folder: &Path) -> Option<Self> {
        let device = rustix::fs::stat(folder).ok()?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let medium = Self(format!("/sys/dev/block/{major}:{minor}/stat").into());
        medium.written().is_some().then_some(medium)
    }

    /// Reads the numbers (the kernel's `Documentation/block/stat.rst`).
    pub fn written(&self) -> Option<Written> {
        let text = fs::read_to_string(&self.0).ok()?;
        let field = |at: usize| text.split_whitespace().nth(at)?.parse::<u64>().ok();
        Some(Written { bytes: field(6)?.checked_mul(512)?, flushes: field(15)? })
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

/// The number behind `name` in a file of `/proc/PID`.
fn field(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_from_the_accounting() {
        let own = Processes::own();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(own.cpu_s() >= 0.02 && own.cpu_s() < 600.0);
        assert!(own.memory_peak_mib() >= 1.0);
        assert!(own.memory_mib() >= 1.0);
    }

    #[test]
    fn children_count_with_their_parent() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let tree = Processes::own().tree();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains(&std::process::id()) && tree.contains(&child.id()));
    }
}
