//! How a child is kept apart: namespaces made by bubblewrap, bounds by `prlimit`, another identity by `setpriv`.
//!
//! These are programs of the system that are made for it and kept well; this module says what they are told. What works on this
//! machine is found by trying, once, and what does not hold then is not used: there is no way to run a child without.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Bounds, CommandSpec};

/// The identity that a child sees itself under in a namespace of its own.
const INSIDE: &str = "65534";
/// Where the system's own programs are looked for; never in the path of whoever started us.
const PROGRAMS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];
/// Folders beside `/usr` that programs expect; links into it on most systems.
const BESIDE_USR: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What programs need of `/etc`.
const OF_ETC: [&str; 4] = ["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/mime.types"];
/// What they need to find others on the network.
const OF_ETC_FOR_NETWORK: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
];

/// Closes every descriptor but the first three, then becomes what it is told.
const CLOSING: &str =
    r#"for d in /proc/self/fd/*; do n=${d##*/}; if ((n > 2)); then eval "exec $n>&-"; fi; done; exec "$@""#;

/// A way to keep children apart that was seen to work on this machine.
#[derive(Clone, Debug)]
pub struct Isolation {
    bwrap: PathBuf,
    prlimit: PathBuf,
    setpriv: Option<PathBuf>,
    way: Way,
}

/// Where the identity changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A user namespace of its own; first, where we are root, under another user outside of it.
    Namespace {
        /// The user and group outside.
        outside: Option<u32>,
        /// Whether more user namespaces can be made in it.
        closed: bool,
    },
    /// Where we are root and there are no user namespaces: another user within the other namespaces.
    Identity(u32),
}

/// Why children cannot be kept apart here, so that none is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A program of the system is missing.
    #[error("`{0}` is missing: install the package `{1}`")]
    Missing(&'static str, &'static str),
    /// Nothing that was tried works.
    #[error("children cannot be isolated on this machine: {0}")]
    Tried(String),
    /// A descriptor of ours would stay open in every child.
    #[error(
        "descriptor {0} was inherited by this process and would stay open in children: start it without, or install `bash`"
    )]
    Descriptor(u32),
}

impl Isolation {
    /// Finds what works, by trying it with a harmless program. `outside` is the user and group that children run as where we are
    /// root; it must not be 0.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing may be started then.
    pub fn find(outside: u32) -> Result<Self, Unavailable> {
        let find = |name: &'static str, package| program(name).ok_or(Unavailable::Missing(name, package));
        let bwrap = find("bwrap", "bubblewrap")?;
        let prlimit = find("prlimit", "util-linux")?;
        let root = rustix::process::geteuid().is_root();
        let setpriv = if root { Some(find("setpriv", "util-linux")?) } else { None };
        if outside == 0 {
            return Err(Unavailable::Tried("children must not run as root".to_owned()));
        }
        let outside = root.then_some(outside);
        let namespace = |closed| Way::Namespace { outside, closed };
        let ways = [Some(namespace(true)), Some(namespace(false)), outside.map(Way::Identity)];
        let mut told = Vec::new();
        for way in ways.into_iter().flatten() {
            let one = Self { bwrap: bwrap.clone(), prlimit: prlimit.clone(), setpriv: setpriv.clone(), way };
            match one.attempt() {
                Ok(()) => return Ok(one),
                Err(why) => told.push(why),
            }
        }
        told.dedup();
        Err(Unavailable::Tried(told.join("; ")))
    }

    /// What it does, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.way {
            Way::Namespace { outside: Some(uid), .. } => format!("namespaces of their own, as user {uid}"),
            Way::Namespace { outside: None, .. } => "namespaces of their own".to_owned(),
            Way::Identity(uid) => format!("as user {uid}, in namespaces of their own but for users"),
        }
    }

    /// Runs what shows how it is kept, and looks whether it is.
    fn attempt(&self) -> Result<(), String> {
        let spec = CommandSpec {
            program: "/bin/cat".into(),
            arguments: ["/proc/self/status", "/proc/net/dev"].map(str::to_owned).into(),
            environment: std::collections::BTreeMap::new(),
            folder: None,
            readable: Vec::new(),
            network: false,
            bounds: Bounds::default(),
        };
        let wrapped = self.wrap(&spec).map_err(|why| why.to_string())?;
        let (program, arguments) = wrapped.split_first().ok_or("nothing to run")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        let output = command.output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(why.lines().next().unwrap_or("it ended without a word").chars().take(200).collect());
        }
        kept_apart(&said)
    }

    /// The program and arguments that run a command kept apart.
    pub(crate) fn wrap(&self, spec: &CommandSpec) -> Result<Vec<OsString>, Unavailable> {
        let mut out = Arguments::default();
        if let Some(stray) = stray()? {
            let bash = program("bash").ok_or(Unavailable::Descriptor(stray))?;
            out.one(bash).all(["-c", CLOSING, "bash"]);
        }
        if let (Way::Namespace { outside: Some(uid), .. }, Some(setpriv)) = (self.way, &self.setpriv) {
            out.one(setpriv)
                .all([&format!("--reuid={uid}"), &format!("--regid={uid}")])
                .all(["--clear-groups", "--"]);
        }
        out.one(&self.bwrap);
        out.all(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
        out.all(["--hostname", "tool", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        if !spec.network {
            out.one("--unshare-net");
        }
        match self.way {
            Way::Namespace { closed, .. } => {
                out.all(["--unshare-user", "--uid", INSIDE, "--gid", INSIDE]);
                if closed {
                    out.one("--disable-userns");
                }
            }
            // Only to change the identity inside; given up with it.
            Way::Identity(_) => {
                for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
                    out.all(["--cap-add", capability]);
                }
            }
        }
        view(&mut out, spec);
        out.one("--");
        if let (Way::Identity(uid), Some(setpriv)) = (self.way, &self.setpriv) {
            out.one(setpriv).all([&format!("--reuid={uid}"), &format!("--regid={uid}")]);
            out.all(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]);
        }
        bounded(&mut out, &self.prlimit, spec.bounds);
        out.one(&spec.program).all(&spec.arguments);
        Ok(out.0)
    }
}

/// What the child sees of the file system.
fn view(out: &mut Arguments, spec: &CommandSpec) {
    out.all(["--ro-bind", "/usr", "/usr"]);
    for path in BESIDE_USR {
        match std::fs::read_link(path) {
            Ok(target) => out.one("--symlink").one(target).one(path),
            Err(_) => out.all(["--ro-bind-try", path, path]),
        };
    }
    let network = OF_ETC_FOR_NETWORK.iter().filter(|_| spec.network);
    for path in OF_ETC.iter().chain(network) {
        out.all(["--ro-bind-try", path, path]);
    }
    out.all(["--proc", "/proc", "--dev", "/dev"]);
    let bytes = spec.bounds.memory_megabytes.saturating_mul(1 << 20).to_string();
    for scratch in ["/tmp", "/dev/shm"] {
        out.all(["--perms", "1777", "--size", &bytes, "--tmpfs", scratch]);
    }
    // Otherwise a scratch folder without bounds.
    out.all(["--remount-ro", "/dev"]);
    for path in &spec.readable {
        out.one("--ro-bind").one(path).one(path);
    }
    match &spec.folder {
        Some(folder) => {
            out.one("--bind").one(folder).one(folder).one("--remount-ro").one("/").one("--chdir").one(folder)
        }
        None => out.all(["--remount-ro", "/", "--chdir", "/tmp"]),
    };
}

fn bounded(out: &mut Arguments, prlimit: &Path, bounds: Bounds) {
    let megabytes = |n: u64| n.saturating_mul(1 << 20);
    out.one(prlimit).one("--core=0");
    out.one(format!("--data={}", megabytes(bounds.memory_megabytes)));
    if let Some(space) = bounds.address_space_megabytes {
        out.one(format!("--as={}", megabytes(space)));
    }
    out.one(format!("--nproc={}", bounds.processes));
    out.one(format!("--nofile={}", bounds.open_files));
    out.one(format!("--cpu={}", bounds.cpu_seconds));
    out.one(format!("--fsize={}", megabytes(bounds.file_megabytes))).one("--");
}

/// Whether what `/proc/self/status` and `/proc/net/dev` show is kept apart.
fn kept_apart(said: &str) -> Result<(), String> {
    let value = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let root = value("Uid:").is_none_or(|ids| ids.split_whitespace().any(|id| id == "0"));
    let nothing = |name| value(name).is_some_and(|caps| !caps.is_empty() && caps.bytes().all(|b| b == b'0'));
    let devices = said.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim());
    // Lines of the second file that name a device are told by the counters behind it.
    let counted =
        said.lines().filter(|l| l.split_once(':').is_some_and(|(_, r)| r.split_whitespace().count() == 16));
    let others = counted.filter(|l| l.split_once(':').map(|(n, _)| n.trim()) != Some("lo")).count();
    if root {
        return Err("the child runs as root".to_owned());
    }
    if !["CapEff:", "CapPrm:", "CapAmb:"].into_iter().all(nothing) {
        return Err("the child keeps capabilities".to_owned());
    }
    if value("NoNewPrivs:") != Some("1") {
        return Err("the child could gain privileges".to_owned());
    }
    if others > 0 || !devices.into_iter().any(|name| name == "lo") {
        return Err("the child has a network".to_owned());
    }
    Ok(())
}

/// A descriptor beyond the first three that would stay open in children. Ours are closed when another program begins; what was
/// inherited may not be.
fn stray() -> Result<Option<u32>, Unavailable> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let Ok(open) = std::fs::read_dir("/proc/self/fdinfo") else {
        return Err(Unavailable::Tried("/proc is not mounted".to_owned()));
    };
    for entry in open.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // One that is gone meanwhile does not matter.
        let Ok(told) = std::fs::read_to_string(entry.path()) else { continue };
        let flags = told.lines().find_map(|l| l.strip_prefix("flags:"));
        let flags = flags.and_then(|f| u32::from_str_radix(f.trim(), 8).ok()).unwrap_or_default();
        if number > 2 && flags & CLOSE_ON_EXEC == 0 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn program(name: &str) -> Option<PathBuf> {
    PROGRAMS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn one(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(argument.as_ref().to_owned());
        self
    }

    fn all<T: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = T>) -> &mut Self {
        self.0.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "Name:\tcat\nUid:\t65534\t65534\t65534\t65534\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n\
        Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";

    #[test]
    fn what_is_not_kept_apart_is_not_used() {
        assert_eq!(kept_apart(SOUND), Ok(()));
        let eth = SOUND.replace("    lo:", "  eth0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n    lo:");
        for bad in [
            SOUND.replace("\t65534\t65534\t65534", "\t65534\t0\t65534"),
            SOUND.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000000080"),
            SOUND.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            eth,
            String::new(),
        ] {
            assert!(kept_apart(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_descriptor_that_would_stay_open_in_children_is_closed() {
        let held = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty()).unwrap();
        assert!(stray().unwrap().is_some());
        let listed = Command::new("/bin/bash")
            .args(["-c", CLOSING, "bash", "/bin/ls", "/proc/self/fd"])
            .output()
            .unwrap();
        // The fourth is the folder that is being listed.
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "0\n1\n2\n3\n");
    }

    #[test]
    fn both_ways_are_kept_apart_where_we_are_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let found = Isolation::find(65_534).unwrap();
        for way in [Way::Namespace { outside: Some(65_534), closed: true }, Way::Identity(65_534)] {
            assert_eq!(Isolation { way, ..found.clone() }.attempt(), Ok(()), "{way:?}");
        }
        // And what is not, is seen.
        assert_eq!(
            Isolation { way: Way::Identity(0), ..found.clone() }.attempt(),
            Err("the child runs as root".to_owned())
        );
        assert!(Isolation::find(0).is_err());
    }
}
