//! Descriptors, and what programs do with them.

use super::errno::Errno;
use super::guest::{Guest, Stop};
use super::host::Host;
use super::scratch::{ROOT, Stat};

/// Descriptors at once.
const FDS_MAX: usize = 128;

const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
/// Every right that there is.
const ALL: u64 = (1 << 30) - 1;

/// What a descriptor stands for.
#[derive(Clone, Debug)]
pub(crate) enum Fd {
    Stdin,
    Stdout,
    Stderr,
    File { node: usize, at: u64, read: bool, write: bool, append: bool },
    Folder { node: usize, given: bool },
}

/// The table of descriptors.
#[derive(Debug)]
pub(crate) struct Fds(Vec<Option<Fd>>);

impl Fds {
    /// The first three, and the scratch.
    pub(crate) fn new() -> Self {
        let scratch = Fd::Folder { node: ROOT, given: true };
        Self([Fd::Stdin, Fd::Stdout, Fd::Stderr, scratch].into_iter().map(Some).collect())
    }

    fn get(&self, fd: u32) -> Result<&Fd, Errno> {
        self.0.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn get_mut(&mut self, fd: u32) -> Result<&mut Fd, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    fn add(&mut self, new: Fd) -> Result<u32, Errno> {
        let free = self.0.iter().position(Option::is_none);
        let at = match free {
            Some(at) => at,
            None if self.0.len() >= FDS_MAX => return Err(Errno::MFILE),
            None => {
                self.0.push(None);
                self.0.len() - 1
            }
        };
        *self.0.get_mut(at).ok_or(Errno::MFILE)? = Some(new);
        u32::try_from(at).map_err(|_| Errno::MFILE)
    }

    fn take(&mut self, fd: u32) -> Result<Fd, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BADF)
    }
}

/// How something is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// `creat`, `directory`, `excl`, `trunc`, from the lowest bit on.
    pub(crate) how: u32,
    pub(crate) rights: u64,
    /// `append` and others.
    pub(crate) flags: u32,
}

/// 64 bytes about something: numbers of itself, its type, its size; times there are none.
fn filestat(stat: Stat) -> [u8; 64] {
    let mut out = [0; 64];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(8, &(stat.node as u64 + 1).to_le_bytes());
    put(16, &[kind(stat)]);
    put(24, &1_u64.to_le_bytes());
    put(32, &stat.size.to_le_bytes());
    out
}

const fn kind(stat: Stat) -> u8 {
    if stat.folder { 3 } else { 4 }
}

impl Host {
    pub(crate) fn folder(&self, fd: u32) -> Result<usize, Errno> {
        match self.fds.get(fd)? {
            Fd::Folder { node, .. } => Ok(*node),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        match self.fds.take(fd)? {
            Fd::File { node, .. } | Fd::Folder { node, given: false } => self.scratch.release(node),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.fds.get(to)?;
        let moved = self.fds.get(from)?.clone();
        if from != to {
            self.close(to)?;
            self.fds.take(from)?;
            *self.fds.0.get_mut(to as usize).ok_or(Errno::BADF)? = Some(moved);
        }
        Ok(())
    }

    /// Opens what lies at `path`; gives its descriptor.
    pub(crate) fn open(&mut self, folder: u32, path: &str, opening: Opening) -> Result<u32, Errno> {
        let Opening { how, rights, flags } = opening;
        let [create, must_folder, exclusive, truncate] = [0, 1, 2, 3].map(|bit| how >> bit & 1 == 1);
        let from = self.folder(folder)?;
        if must_folder && create {
            return Err(Errno::INVAL);
        }
        let stat = self.scratch.open(from, path, create, exclusive)?;
        let fd = if stat.folder {
            if truncate {
                return Err(Errno::ISDIR);
            }
            Fd::Folder { node: stat.node, given: false }
        } else {
            if must_folder {
                return Err(Errno::NOTDIR);
            }
            let (read, write) = (rights & READ != 0, rights & WRITE != 0);
            Fd::File { node: stat.node, at: 0, read, write, append: flags & 1 == 1 }
        };
        let fd = self.fds.add(fd)?;
        self.scratch.hold(stat.node)?;
        if truncate {
            self.scratch.resize(stat.node, 0)?;
        }
        Ok(fd)
    }

    pub(crate) fn read(
        &mut self,
        guest: &mut Guest<'_>,
        (fd, pieces, count): (u32, u32, u32),
        place: Option<u64>,
    ) -> Result<u32, Stop> {
        let (pieces, _) = guest.pieces(pieces, count)?;
        let fd = self.fds.get_mut(fd)?;
        let mut from: &[u8] = match (&fd, place) {
            (Fd::Stdin, None) => self.origin.stdin.get(self.stdin_at..).unwrap_or_default(),
            (Fd::Stdin, Some(_)) => return Err(Errno::SPIPE.into()),
            (Fd::File { node, at, read: true, .. }, place) => {
                self.scratch.read(*node, place.unwrap_or(*at))?
            }
            (Fd::Folder { .. }, _) => return Err(Errno::ISDIR.into()),
            _ => return Err(Errno::BADF.into()),
        };
        let mut done = 0_u32;
        for (at, len) in pieces {
            let most = (len as usize).min(from.len());
            let (now, rest) = from.split_at_checked(most).unwrap_or((from, &[]));
            guest.put(at, now)?;
            (from, done) = (rest, done.saturating_add(u32::try_from(most).unwrap_or(u32::MAX)));
        }
        match fd {
            Fd::Stdin => self.stdin_at += done as usize,
            Fd::File { at, .. } if place.is_none() => *at += u64::from(done),
            _ => {}
        }
        self.moved(done.into());
        Ok(done)
    }

    pub(crate) fn write(
        &mut self,
        guest: &Guest<'_>,
        (fd, pieces, count): (u32, u32, u32),
        place: Option<u64>,
    ) -> Result<u32, Stop> {
        let (pieces, total) = guest.pieces(pieces, count)?;
        let done = u32::try_from(total).map_err(|_| Errno::INVAL)?;
        self.moved(total);
        let error = match (self.fds.get(fd)?, place) {
            (Fd::Stdout, None) => Some(false),
            (Fd::Stderr, None) => Some(true),
            (Fd::Stdout | Fd::Stderr, Some(_)) => return Err(Errno::SPIPE.into()),
            (Fd::File { write: true, .. }, _) => None,
            (Fd::Folder { .. }, _) => return Err(Errno::ISDIR.into()),
            _ => return Err(Errno::BADF.into()),
        };
        if let Some(error) = error {
            for (at, len) in pieces {
                self.output(error, guest.get(at, len)?)?;
            }
            return Ok(done);
        }
        let Fd::File { node, at, append, .. } = self.fds.get_mut(fd)? else { return Err(Errno::BADF.into()) };
        let mut to = match place {
            Some(place) => place,
            None if *append => self.scratch.stat(*node)?.size,
            None => *at,
        };
        if total > 0 {
            // First the room for all of it: a program is not told of half a write.
            let end = to.checked_add(total).ok_or(Errno::FBIG)?;
            if end > self.scratch.stat(*node)?.size {
                self.scratch.resize(*node, end)?;
            }
        }
        for (piece, len) in pieces {
            self.scratch.write(*node, to, guest.get(piece, len)?)?;
            to += u64::from(len);
        }
        if place.is_none() {
            *at = to;
        }
        Ok(done)
    }

    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        match self.fds.get_mut(fd)? {
            Fd::File { node, at, .. } => {
                let base = match whence {
                    0 => 0,
                    1 => *at,
                    2 => self.scratch.stat(*node)?.size,
                    _ => return Err(Errno::INVAL),
                };
                *at = base
                    .checked_add_signed(offset)
                    .filter(|at| i64::try_from(*at).is_ok())
                    .ok_or(Errno::INVAL)?;
                Ok(*at)
            }
            Fd::Folder { .. } => Err(Errno::ISDIR),
            _ => Err(Errno::SPIPE),
        }
    }

    /// 24 bytes about a descriptor: its type, flags and rights.
    pub(crate) fn fdstat(&self, fd: u32) -> Result<[u8; 24], Errno> {
        let (kind, flags, rights, below) = match self.fds.get(fd)? {
            Fd::Stdin => (0, 0, READ, 0),
            Fd::Stdout | Fd::Stderr => (0, 0, WRITE, 0),
            Fd::File { read, write, append, .. } => {
                let lost = if *read { 0 } else { READ } | if *write { 0 } else { WRITE };
                (4, u8::from(*append), ALL & !lost, 0)
            }
            // A folder itself is neither read nor written; what lies in it may be.
            Fd::Folder { .. } => (3, 0, ALL & !READ & !WRITE, ALL),
        };
        let mut out = [0; 24];
        let [tag, _, flag, _, _, _, _, _, rest @ ..] = &mut out;
        (*tag, *flag) = (kind, flags);
        let (own, heirs) = rest.split_at_mut(8);
        own.copy_from_slice(&rights.to_le_bytes());
        heirs.copy_from_slice(&below.to_le_bytes());
        Ok(out)
    }

    pub(crate) fn set_flags(&mut self, fd: u32, flags: u32) -> Result<(), Errno> {
        // Nobody waits on the others, so how they would is all the same.
        if let Fd::File { append, .. } = self.fds.get_mut(fd)? {
            *append = flags & 1 == 1;
        }
        Ok(())
    }

    pub(crate) fn stat_fd(&self, fd: u32) -> Result<[u8; 64], Errno> {
        match self.fds.get(fd)? {
            Fd::File { node, .. } | Fd::Folder { node, .. } => Ok(filestat(self.scratch.stat(*node)?)),
            _ => Ok([0; 64]),
        }
    }

    pub(crate) fn stat_path(&self, folder: u32, path: &str) -> Result<[u8; 64], Errno> {
        Ok(filestat(self.scratch.find(self.folder(folder)?, path)?))
    }

    pub(crate) fn resize(&mut self, fd: u32, size: u64) -> Result<(), Errno> {
        let Fd::File { node, write: true, .. } = self.fds.get(fd)? else { return Err(Errno::INVAL) };
        self.scratch.resize(*node, size)?;
        self.moved(size);
        Ok(())
    }

    /// Makes sure that there is room from `at` on.
    pub(crate) fn allocate(&mut self, fd: u32, at: u64, len: u64) -> Result<(), Errno> {
        let Fd::File { node, write: true, .. } = self.fds.get(fd)? else { return Err(Errno::BADF) };
        let end = at.checked_add(len).ok_or(Errno::FBIG)?;
        if end > self.scratch.stat(*node)?.size { self.resize(fd, end) } else { Ok(()) }
    }

    pub(crate) fn is_given(&self, fd: u32) -> Result<(), Errno> {
        match self.fds.get(fd)? {
            Fd::Folder { given: true, .. } => Ok(()),
            _ => Err(Errno::BADF),
        }
    }

    pub(crate) fn known(&self, fd: u32) -> Result<(), Errno> {
        self.fds.get(fd).map(drop)
    }

    pub(crate) fn no_socket(&self, fd: u32) -> Result<(), Errno> {
        self.fds.get(fd).and(Err(Errno::NOTSOCK))
    }

    /// Lists a folder from an entry on, as many bytes as there is room for.
    pub(crate) fn list(
        &mut self,
        guest: &mut Guest<'_>,
        (fd, buffer, room): (u32, u32, u32),
        from: u64,
    ) -> Result<u32, Stop> {
        let node = self.folder(fd)?;
        let mut out = Vec::new();
        let mut looked = 0;
        for (next, (name, stat)) in (from.saturating_add(1)..).zip(self.scratch.list(node, from)?) {
            looked += 1;
            out.extend_from_slice(&next.to_le_bytes());
            out.extend_from_slice(&(stat.node as u64 + 1).to_le_bytes());
            out.extend_from_slice(&u32::try_from(name.len()).unwrap_or_default().to_le_bytes());
            out.extend_from_slice(&[kind(stat), 0, 0, 0]);
            out.extend_from_slice(name.as_bytes());
            if out.len() >= room as usize {
                break;
            }
        }
        out.truncate(room as usize);
        guest.put(buffer, &out)?;
        // What was passed over was looked at too.
        self.moved(out.len() as u64 + 256 * (from.min(1 << 20) + looked));
        Ok(u32::try_from(out.len()).unwrap_or_default())
    }
}
