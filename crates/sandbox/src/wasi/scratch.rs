//! The scratch of a run: a tree of files and folders in memory, without links of any kind, bounded in bytes and entries.

use std::collections::BTreeMap;

use super::errno::Errno;
use crate::run::{DEPTH_MAX, NAME_MAX, PATH_MAX};

/// The folder that everything lies in.
pub(crate) const ROOT: usize = 0;

/// A file or folder.
#[derive(Debug)]
struct Node {
    content: Content,
    /// How many descriptors have it open.
    opens: u32,
    /// Whether it lies in a folder.
    linked: bool,
    /// Whether the program has made or changed it.
    changed: bool,
}

#[derive(Debug)]
enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<String, usize>),
}

/// What something in the scratch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) node: usize,
    pub(crate) folder: bool,
    pub(crate) size: u64,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Scratch {
    nodes: Vec<Option<Node>>,
    live: u64,
    entries_max: u64,
    bytes: u64,
    bytes_max: u64,
}

/// Where a path leads.
struct Place {
    parent: usize,
    /// None for the folder itself from which was looked.
    name: Option<String>,
    node: Option<usize>,
    /// It must be a folder.
    slash: bool,
}

impl Scratch {
    pub(crate) fn new(bytes_max: u64, entries_max: u64) -> Self {
        let root = Node { content: Content::Folder(BTreeMap::new()), opens: 1, linked: true, changed: false };
        Self { nodes: vec![Some(root)], live: 0, entries_max, bytes: 0, bytes_max }
    }

    /// Lays a file, with the folders that it lies in, as something that the program was given.
    pub(crate) fn lay(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let mut folder = ROOT;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let found = self.folder(folder)?.get(name).copied();
            folder = match found {
                Some(_) if last => return Err(Errno::EXIST),
                Some(node) => node,
                None if last => self.make(folder, name, Content::File(Vec::new()))?,
                None => self.make(folder, name, Content::Folder(BTreeMap::new()))?,
            };
        }
        self.write(folder, 0, content)?;
        self.node_mut(folder)?.changed = false;
        Ok(())
    }

    /// The files that the program has made or changed.
    pub(crate) fn changed(mut self) -> BTreeMap<String, Vec<u8>> {
        let mut out = BTreeMap::new();
        let mut todo = vec![(ROOT, String::new())];
        while let Some((node, path)) = todo.pop() {
            let Some(node) = self.nodes.get_mut(node).and_then(Option::take) else { continue };
            match node.content {
                Content::File(content) if node.changed => {
                    out.insert(path, content);
                }
                Content::File(_) => {}
                Content::Folder(entries) => todo.extend(entries.into_iter().map(|(name, node)| {
                    let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                    (node, below)
                })),
            }
        }
        out
    }

    fn node(&self, node: usize) -> Result<&Node, Errno> {
        self.nodes.get(node).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn node_mut(&mut self, node: usize) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(node).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    fn folder(&self, node: usize) -> Result<&BTreeMap<String, usize>, Errno> {
        match &self.node(node)?.content {
            Content::Folder(entries) => Ok(entries),
            Content::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn folder_mut(&mut self, node: usize) -> Result<&mut BTreeMap<String, usize>, Errno> {
        match &mut self.node_mut(node)?.content {
            Content::Folder(entries) => Ok(entries),
            Content::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn file(&self, node: usize) -> Result<&Vec<u8>, Errno> {
        match &self.node(node)?.content {
            Content::File(content) => Ok(content),
            Content::Folder(_) => Err(Errno::ISDIR),
        }
    }

    fn make(&mut self, parent: usize, name: &str, content: Content) -> Result<usize, Errno> {
        if self.live >= self.entries_max {
            return Err(Errno::NOSPC);
        }
        // In a folder that nobody can reach any more nothing is made.
        if !self.node(parent)?.linked {
            return Err(Errno::NOENT);
        }
        let node = Some(Node { content, opens: 0, linked: true, changed: true });
        let at = match self.nodes.iter().position(Option::is_none) {
            Some(free) => {
                *self.nodes.get_mut(free).ok_or(Errno::NOSPC)? = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.live += 1;
        self.folder_mut(parent)?.insert(name.to_owned(), at);
        Ok(at)
    }

    /// Forgets what nobody can reach any more.
    fn settle(&mut self, at: usize) {
        let Some(slot) = self.nodes.get_mut(at) else { return };
        if slot.as_ref().is_some_and(|node| !node.linked && node.opens == 0) {
            if let Some(Node { content: Content::File(content), .. }) = slot.take() {
                self.bytes -= content.len() as u64;
            }
            self.live -= 1;
        }
    }

    /// Where `path` leads from the folder `from`, and never above it.
    fn place(&self, from: usize, path: &str) -> Result<Place, Errno> {
        if path.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.starts_with('/') {
            return Err(Errno::NOTCAPABLE);
        }
        let mut above = vec![(from, None)];
        let mut names = path.split('/').filter(|name| !matches!(*name, "" | ".")).peekable();
        while let Some(name) = names.next() {
            let (folder, _) = above.last().cloned().ok_or(Errno::NOTCAPABLE)?;
            let entries = self.folder(folder)?;
            if name == ".." {
                above.pop();
                if above.is_empty() {
                    return Err(Errno::NOTCAPABLE);
                }
                continue;
            }
            if name.len() > NAME_MAX || above.len() > DEPTH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            if name.contains(|c: char| c.is_control() || c == '\\') {
                return Err(Errno::INVAL);
            }
            match entries.get(name) {
                Some(node) => above.push((*node, Some((folder, name.to_owned())))),
                None if names.peek().is_none() => {
                    let slash = path.ends_with('/');
                    return Ok(Place { parent: folder, name: Some(name.to_owned()), node: None, slash });
                }
                None => return Err(Errno::NOENT),
            }
        }
        let (node, entry) = above.pop().ok_or(Errno::NOTCAPABLE)?;
        let slash = path.ends_with('/') || path.ends_with("/.");
        if slash {
            self.folder(node)?;
        }
        Ok(match entry {
            Some((parent, name)) => Place { parent, name: Some(name), node: Some(node), slash },
            None => Place { parent: node, name: None, node: Some(node), slash },
        })
    }

    // --- what programs do ------------------------------------------------------------------------------------------

    pub(crate) fn find(&self, from: usize, path: &str) -> Result<Stat, Errno> {
        let node = self.place(from, path)?.node.ok_or(Errno::NOENT)?;
        self.stat(node)
    }

    pub(crate) fn stat(&self, node: usize) -> Result<Stat, Errno> {
        Ok(match &self.node(node)?.content {
            Content::File(content) => Stat { node, folder: false, size: content.len() as u64 },
            Content::Folder(entries) => Stat { node, folder: true, size: entries.len() as u64 },
        })
    }

    /// The file at `path`, made where there is none if `create` says so, and only then if `exclusive`.
    pub(crate) fn open(
        &mut self,
        from: usize,
        path: &str,
        create: bool,
        exclusive: bool,
    ) -> Result<Stat, Errno> {
        let place = self.place(from, path)?;
        match (place.node, place.name) {
            (Some(_), _) if create && exclusive => Err(Errno::EXIST),
            (Some(node), _) => self.stat(node),
            (None, Some(_)) if place.slash => Err(Errno::ISDIR),
            (None, Some(name)) if create => {
                let node = self.make(place.parent, &name, Content::File(Vec::new()))?;
                self.stat(node)
            }
            (None, _) => Err(Errno::NOENT),
        }
    }

    pub(crate) fn hold(&mut self, node: usize) -> Result<(), Errno> {
        self.node_mut(node)?.opens += 1;
        Ok(())
    }

    pub(crate) fn release(&mut self, at: usize) {
        if let Ok(node) = self.node_mut(at) {
            node.opens = node.opens.saturating_sub(1);
        }
        self.settle(at);
    }

    pub(crate) fn make_folder(&mut self, from: usize, path: &str) -> Result<(), Errno> {
        let place = self.place(from, path)?;
        match (place.node, place.name) {
            (None, Some(name)) => self.make(place.parent, &name, Content::Folder(BTreeMap::new())).map(drop),
            _ => Err(Errno::EXIST),
        }
    }

    pub(crate) fn remove(&mut self, from: usize, path: &str, folder: bool) -> Result<(), Errno> {
        let place = self.place(from, path)?;
        let node = place.node.ok_or(Errno::NOENT)?;
        let name = place.name.ok_or(Errno::INVAL)?;
        match (&self.node(node)?.content, folder) {
            (Content::Folder(_), false) => return Err(Errno::ISDIR),
            (Content::File(_), true) => return Err(Errno::NOTDIR),
            (Content::Folder(entries), true) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.unlink(place.parent, &name, node)
    }

    fn unlink(&mut self, parent: usize, name: &str, node: usize) -> Result<(), Errno> {
        self.folder_mut(parent)?.remove(name);
        self.node_mut(node)?.linked = false;
        self.settle(node);
        Ok(())
    }

    pub(crate) fn rename(&mut self, old: (usize, &str), new: (usize, &str)) -> Result<(), Errno> {
        let (from, to) = (self.place(old.0, old.1)?, self.place(new.0, new.1)?);
        let node = from.node.ok_or(Errno::NOENT)?;
        let (from_name, to_name) = (from.name.ok_or(Errno::INVAL)?, to.name.ok_or(Errno::INVAL)?);
        if to.node == Some(node) {
            return Ok(());
        }
        let moved = self.stat(node)?;
        if (to.slash && !moved.folder) || !self.node(to.parent)?.linked {
            return Err(Errno::NOENT);
        }
        if moved.folder && self.below(node)?.contains(&to.parent) {
            return Err(Errno::INVAL);
        }
        if moved.folder && self.depth(to.parent) + self.height(node)? > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if let Some(there) = to.node {
            match (moved.folder, self.stat(there)?) {
                (false, Stat { folder: true, .. }) => return Err(Errno::ISDIR),
                (true, Stat { folder: false, .. }) => return Err(Errno::NOTDIR),
                (true, Stat { size, .. }) if size > 0 => return Err(Errno::NOTEMPTY),
                _ => {}
            }
            self.unlink(to.parent, &to_name, there)?;
        }
        self.folder_mut(from.parent)?.remove(&from_name);
        self.folder_mut(to.parent)?.insert(to_name, node);
        for below in self.below(node)? {
            self.node_mut(below)?.changed = true;
        }
        Ok(())
    }

    /// It, and everything in it.
    fn below(&self, node: usize) -> Result<Vec<usize>, Errno> {
        let mut all = vec![node];
        let mut at = 0;
        while let Some(next) = all.get(at).copied() {
            if let Content::Folder(entries) = &self.node(next)?.content {
                all.extend(entries.values());
            }
            at += 1;
        }
        Ok(all)
    }

    /// How many folders it lies in. There is no way up in the tree, so it is looked for from the top.
    fn depth(&self, node: usize) -> usize {
        let mut level = vec![ROOT];
        let mut depth = 0;
        while !level.is_empty() && !level.contains(&node) {
            let below = level.iter().filter_map(|at| self.folder(*at).ok());
            level = below.flat_map(|entries| entries.values().copied()).collect();
            depth += 1;
        }
        depth
    }

    /// How many levels it has, itself among them.
    fn height(&self, node: usize) -> Result<usize, Errno> {
        let (mut level, mut height) = (vec![node], 0);
        while !level.is_empty() {
            let below = level.iter().filter_map(|at| self.folder(*at).ok());
            level = below.flat_map(|entries| entries.values().copied()).collect();
            height += 1;
        }
        Ok(height)
    }

    /// The content of a file from `at` on.
    pub(crate) fn read(&self, node: usize, at: u64) -> Result<&[u8], Errno> {
        let content = self.file(node)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        Ok(content.get(at..).unwrap_or_default())
    }

    pub(crate) fn write(&mut self, node: usize, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let end = at.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        if end > self.file(node)?.len() as u64 && !bytes.is_empty() {
            self.resize(node, end)?;
        }
        let at = usize::try_from(at).map_err(|_| Errno::FBIG)?;
        let node = self.node_mut(node)?;
        node.changed = true;
        if let Content::File(content) = &mut node.content
            && let Some(place) = content.get_mut(at..at.saturating_add(bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    pub(crate) fn resize(&mut self, node: usize, size: u64) -> Result<(), Errno> {
        let now = self.file(node)?.len() as u64;
        let all =
            (self.bytes - now).checked_add(size).filter(|all| *all <= self.bytes_max).ok_or(Errno::NOSPC)?;
        let size = usize::try_from(size).map_err(|_| Errno::FBIG)?;
        self.bytes = all;
        let node = self.node_mut(node)?;
        node.changed = true;
        if let Content::File(content) = &mut node.content {
            content.resize(size, 0);
        }
        Ok(())
    }

    /// What lies in a folder from the entry `from` on: itself and what it lies in come first, as programs expect.
    pub(crate) fn list(&self, node: usize, from: u64) -> Result<impl Iterator<Item = (&str, Stat)>, Errno> {
        let entries = self.folder(node)?;
        let own = [".", ".."].map(|name| (name, Stat { node, folder: true, size: 0 }));
        let below = entries.iter().filter_map(|(name, node)| Some((name.as_str(), self.stat(*node).ok()?)));
        Ok(own.into_iter().chain(below).skip(usize::try_from(from).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scratch() -> Scratch {
        let mut scratch = Scratch::new(100, 8);
        scratch.lay("in/data.txt", b"given").unwrap();
        scratch
    }

    #[test]
    fn no_path_leads_above_the_folder_from_which_it_is_looked() {
        let mut scratch = scratch();
        let folder = scratch.find(ROOT, "in").unwrap().node;
        for (path, errno) in [
            ("..", Errno::NOTCAPABLE),
            ("/in/data.txt", Errno::NOTCAPABLE),
            ("../in/data.txt", Errno::NOTCAPABLE),
            ("data.txt/..", Errno::NOTDIR),
            ("x/../../in", Errno::NOENT),
            ("./..//../etc/passwd", Errno::NOTCAPABLE),
            ("..\\in", Errno::INVAL),
            ("a\0b", Errno::INVAL),
            ("", Errno::NOENT),
        ] {
            assert_eq!(scratch.find(folder, path).unwrap_err(), errno, "{path:?}");
            assert!(scratch.open(folder, path, true, false).is_err(), "{path:?}");
        }
        assert_eq!(scratch.find(ROOT, "in/../in/./data.txt").unwrap().size, 5);
        assert!(scratch.changed().is_empty(), "nothing was made by trying");
    }

    #[test]
    fn bytes_and_entries_are_bounded_and_come_back_when_files_go() {
        let mut scratch = scratch();
        let file = scratch.open(ROOT, "a", true, false).unwrap().node;
        assert_eq!(scratch.write(file, 0, &[1; 96]), Err(Errno::NOSPC));
        assert_eq!(scratch.write(file, u64::MAX, &[1]), Err(Errno::FBIG));
        assert_eq!(scratch.write(file, 1 << 40, &[1]), Err(Errno::NOSPC), "a hole takes room too");
        assert_eq!(scratch.resize(file, u64::MAX), Err(Errno::NOSPC));
        scratch.write(file, 0, &[1; 95]).unwrap();
        scratch.hold(file).unwrap();
        scratch.remove(ROOT, "a", false).unwrap();
        let other = scratch.open(ROOT, "b", true, false).unwrap().node;
        assert_eq!(scratch.write(other, 0, &[1]), Err(Errno::NOSPC), "it is open, so it is there");
        scratch.release(file);
        scratch.write(other, 0, &[1; 95]).unwrap();
        let made = (0..20).filter(|n| scratch.make_folder(ROOT, &format!("f{n}")).is_ok()).count();
        assert_eq!(made, 5, "eight entries, of which three were there");
        scratch.remove(ROOT, "f0", true).unwrap();
        scratch.make_folder(ROOT, "again").unwrap();
        assert_eq!(scratch.make_folder(ROOT, "more"), Err(Errno::NOSPC));
    }

    #[test]
    fn what_was_made_or_changed_or_moved_is_exported_and_nothing_else() {
        let mut scratch = scratch();
        scratch.lay("in/kept.txt", b"same").unwrap();
        scratch.make_folder(ROOT, "out").unwrap();
        let new = scratch.open(ROOT, "out/new.txt", true, true).unwrap().node;
        scratch.write(new, 2, b"x").unwrap();
        assert_eq!(scratch.open(ROOT, "out/new.txt", true, true), Err(Errno::EXIST));
        scratch.rename((ROOT, "in/data.txt"), (ROOT, "out/moved.txt")).unwrap();
        assert_eq!(scratch.rename((ROOT, "out"), (ROOT, "out/in")), Err(Errno::INVAL), "into itself");
        assert_eq!(scratch.remove(ROOT, "out", true), Err(Errno::NOTEMPTY));
        assert_eq!(scratch.remove(ROOT, ".", true), Err(Errno::INVAL), "the scratch itself stays");
        let changed = scratch.changed();
        let all: Vec<_> = changed.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        assert_eq!(all, [("out/moved.txt", &b"given"[..]), ("out/new.txt", b"\0\0x")]);
    }

    proptest! {
        /// Whatever is done, the counts are those of what is there, and no bound is passed.
        #[test]
        fn counts_stay_true_whatever_is_done(steps in prop::collection::vec((0_u8..7, 0_u8..5, 0_u8..5, 0_u64..60), 0..200)) {
            let mut scratch = Scratch::new(100, 6);
            let mut held = Vec::new();
            let path = |n: u8| ["a", "b", "a/c", "b/c", "a/c/d"][n as usize];
            for (what, one, other, size) in steps {
                let (one, other) = (path(one), path(other));
                match what {
                    0 => drop(scratch.make_folder(ROOT, one)),
                    1 => if let Ok(stat) = scratch.open(ROOT, one, true, false) {
                        let _: Result<(), _> = scratch.write(stat.node, size, b"xy");
                        scratch.hold(stat.node).unwrap();
                        held.push(stat.node);
                    },
                    2 => drop(scratch.remove(ROOT, one, false)),
                    3 => drop(scratch.remove(ROOT, one, true)),
                    4 => drop(scratch.rename((ROOT, one), (ROOT, other))),
                    5 => if let Some(node) = held.pop() { scratch.release(node) },
                    _ => if let Ok(stat) = scratch.find(ROOT, one) { scratch.resize(stat.node, size).unwrap_or_default() },
                }
                let live = scratch.nodes.iter().flatten();
                let bytes: usize = live.clone().map(|node| match &node.content { Content::File(c) => c.len(), Content::Folder(_) => 0 }).sum();
                prop_assert_eq!(scratch.bytes, bytes as u64);
                prop_assert_eq!(scratch.live, live.count() as u64 - 1);
                prop_assert!(scratch.bytes <= 100 && scratch.live <= 6);
            }
        }
    }
}
