//! Trust policies after C2SP tlog-policy: which logs, which witnesses, and how many of them suffice.

use std::collections::BTreeSet;

use crate::checkpoint::{Checkpoint, CheckpointError, Cosigned, parse_decimal};
use crate::cosignature::{Cosignature, CosignerKey};
use crate::note::{NoteError, UnverifiedNote, VerifierKey};

/// The longest policy that is read, in bytes.
pub const POLICY_MAX: usize = 1 << 20;

/// How many logs, witnesses and groups a policy may have, each.
const EACH_MAX: usize = 64;

/// The quorum that demands nothing.
const NONE: &str = "none";

/// Which checkpoints are accepted: signed by one of its logs, cosigned by its quorum of witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A log of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, whose name is its origin.
    pub key: VerifierKey,
    /// Where it is, in an application's own terms.
    pub url: Option<String>,
}

/// A witness of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it; its key may have another name.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// Where it is: its submission prefix.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    needed: usize,
    /// Each witness and group is a member of one group at most, so that groups are trees.
    members: Vec<Member>,
}

/// A witness or a group, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// What a quorum lacks, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// Why a checkpoint is refused under a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The checkpoint itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The policy does not list its log.
    #[error("the policy does not list this log's key")]
    UnknownLog,
    /// Too few have cosigned it.
    #[error(transparent)]
    Quorum(#[from] Missing),
}

impl From<NoteError> for Refused {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// Why a policy could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct PolicyError {
    /// The line, counted from 1; the last one where something is missing.
    pub line: usize,
    /// What is wrong there.
    pub fault: PolicyFault,
}

/// What can be wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// The file is longer than [`POLICY_MAX`].
    #[error("the policy is longer than 1 MiB")]
    TooLong,
    /// The last line does not end in a line feed: the file may have been cut.
    #[error("the line does not end in a line feed; the file may have been cut")]
    Unterminated,
    /// A control character other than tab and line feed, or text that is not UTF-8 outside of a comment.
    #[error("a control character, or not UTF-8")]
    Octet,
    /// No line begins so.
    #[error("expected `log`, `witness`, `group` or `quorum`")]
    Unknown,
    /// Too few or too many words.
    #[error("expected `{0}`")]
    Words(&'static str),
    /// Not a verifier key, or of a type that does not fit.
    #[error("not a verifier key of the right type")]
    Key,
    /// The same public key on an earlier line.
    #[error("the key stands on an earlier line already")]
    SameKey,
    /// The name is that of an earlier witness or group, or `none`.
    #[error("the name `{0}` is taken")]
    Taken(String),
    /// No earlier line defines the name.
    #[error("no earlier line defines `{0}`")]
    Undefined(String),
    /// A name is a member already, of this group or of another.
    #[error("`{0}` is a member already; each name can be one once")]
    Member(String),
    /// A group wants none of its members, or more than it has.
    #[error("a group needs `all`, `any` or a number from 1 to that of its members")]
    Threshold,
    /// More logs, witnesses or groups than are read.
    #[error("more than 64 of a kind")]
    TooMany,
    /// A second quorum.
    #[error("there is a quorum already")]
    SecondQuorum,
    /// No quorum.
    #[error("there is no `quorum` line; one that demands nothing is `quorum none`")]
    NoQuorum,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(file: &[u8]) -> Result<Self, PolicyError> {
        let at = |line: usize| move |fault| PolicyError { line, fault };
        if file.len() > POLICY_MAX {
            return Err(at(1)(PolicyFault::TooLong));
        }
        let count = file.iter().filter(|byte| **byte == b'\n').count();
        // A cut line could name a weaker quorum than the whole one.
        let whole = file.strip_suffix(b"\n").or_else(|| file.is_empty().then_some(file));
        let whole = whole.ok_or_else(|| at(count + 1)(PolicyFault::Unterminated))?;
        let mut reader = Reader::default();
        for (line, bytes) in (1..).zip(whole.split(|byte| *byte == b'\n')) {
            reader.line(bytes).map_err(at(line))?;
        }
        let Reader { logs, witnesses, groups, quorum, .. } = reader;
        let quorum = quorum.ok_or_else(|| at(count.max(1))(PolicyFault::NoQuorum))?;
        Ok(Self { logs, witnesses, groups, quorum })
    }

    /// Its logs; none if the application knows them.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// Its witnesses, whether or not the quorum needs them.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether the verified `cosignatures` of one checkpoint suffice.
    ///
    /// # Errors
    /// [`Missing`], which says who would have to cosign.
    pub fn satisfied(&self, cosignatures: &[Cosignature]) -> Result<(), Missing> {
        self.quorum.map_or(Ok(()), |quorum| self.witnessed(quorum, cosignatures)).map_err(Missing)
    }

    /// Opens a checkpoint that one of the policy's logs has signed and the quorum has cosigned.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(&self, note: &[u8]) -> Result<Cosigned, Refused> {
        let claim = UnverifiedNote::parse(note)?;
        let origin = claim.claim().split('\n').next();
        let mut refused = Refused::UnknownLog;
        // A log that has changed its key is listed with both.
        for log in self.logs.iter().filter(|log| Some(log.key.name()) == origin) {
            match self.open_signed_by(note, &log.key) {
                Ok(cosigned) => return Ok(cosigned),
                // Signed, but cosigned by too few: says more than that the other key has not signed.
                Err(_) if matches!(refused, Refused::Quorum(_)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Opens a checkpoint that `key` has signed and the quorum has cosigned. If the policy lists logs, `key` is one of
    /// theirs.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open_signed_by(&self, note: &[u8], key: &VerifierKey) -> Result<Cosigned, Refused> {
        if !self.logs.is_empty() && !self.logs.iter().any(|log| log.key == *key) {
            return Err(Refused::UnknownLog);
        }
        let witnesses: Vec<_> = self.witnesses.iter().map(|witness| witness.key.clone()).collect();
        let cosigned = Checkpoint::open_cosigned(note, key, &witnesses)?;
        self.satisfied(&cosigned.cosignatures)?;
        Ok(cosigned)
    }

    /// Says what is missing, in words. Bounded: a group is a member once, so none is visited twice.
    fn witnessed(&self, member: Member, cosignatures: &[Cosignature]) -> Result<(), String> {
        match member {
            Member::Witness(place) => {
                let witness = self.witnesses.get(place);
                let cosigned = |key: &CosignerKey| cosignatures.iter().any(|c| c.key() == key);
                match witness {
                    Some(witness) if cosigned(&witness.key) => Ok(()),
                    _ => Err(format!("`{}` has not cosigned", witness.map_or("", |w| &w.name))),
                }
            }
            Member::Group(place) => {
                let Some(group) = self.groups.get(place) else { return Err("no such group".to_owned()) };
                let judged = group.members.iter().map(|member| self.witnessed(*member, cosignatures));
                let missing: Vec<String> = judged.filter_map(Result::err).collect();
                let (all, has) = (group.members.len(), group.members.len() - missing.len());
                if has >= group.needed {
                    return Ok(());
                }
                let missing = missing.join(", ");
                Err(format!("`{}` needs {} of {all} and has {has} ({missing})", group.name, group.needed))
            }
        }
    }
}

/// A policy while it is being read.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    members: BTreeSet<Member>,
    quorum: Option<Option<Member>>,
}

impl Reader {
    fn line(&mut self, bytes: &[u8]) -> Result<(), PolicyFault> {
        if bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(PolicyFault::Octet);
        }
        if bytes.trim_ascii_start().starts_with(b"#") {
            return Ok(());
        }
        let text = str::from_utf8(bytes).map_err(|_| PolicyFault::Octet)?;
        // Spaces and tabs only: other white space belongs to names.
        let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match *words {
            [] => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["log", ..] => Err(PolicyFault::Words("log <vkey> [<url>]")),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["witness", ..] => Err(PolicyFault::Words("witness <name> <vkey> [<url>]")),
            ["group", name, needed, ref members @ ..] if !members.is_empty() => {
                self.group(name, needed, members)
            }
            ["group", ..] => Err(PolicyFault::Words("group <name> all|any|<k> <name>...")),
            ["quorum", name] => self.set_quorum(name),
            ["quorum", ..] => Err(PolicyFault::Words("quorum <name>|none")),
            [..] => Err(PolicyFault::Unknown),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        let key: VerifierKey = key.parse().map_err(|_| PolicyFault::Key)?;
        if self.logs.iter().any(|log| log.key.same_public(&key)) {
            return Err(PolicyFault::SameKey);
        }
        push(&mut self.logs, PolicyLog { key, url: url.map(str::to_owned) })
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        self.free(name)?;
        let key: CosignerKey = key.parse().map_err(|_| PolicyFault::Key)?;
        if self.witnesses.iter().any(|witness| witness.key.same_public(&key)) {
            return Err(PolicyFault::SameKey);
        }
        let (name, url) = (name.to_owned(), url.map(str::to_owned));
        push(&mut self.witnesses, PolicyWitness { name, key, url })
    }

    fn group(&mut self, name: &str, needed: &str, names: &[&str]) -> Result<(), PolicyFault> {
        self.free(name)?;
        let mut members = Vec::new();
        for name in names {
            let member = self.defined(name)?;
            if !self.members.insert(member) {
                return Err(PolicyFault::Member((*name).to_owned()));
            }
            members.push(member);
        }
        let needed = match needed {
            "all" => members.len(),
            "any" => 1,
            k => parse_decimal(k).and_then(|k| usize::try_from(k).ok()).ok_or(PolicyFault::Threshold)?,
        };
        if !(1..=members.len()).contains(&needed) {
            return Err(PolicyFault::Threshold);
        }
        push(&mut self.groups, Group { name: name.to_owned(), needed, members })
    }

    fn set_quorum(&mut self, name: &str) -> Result<(), PolicyFault> {
        if self.quorum.is_some() {
            return Err(PolicyFault::SecondQuorum);
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.defined(name)?) });
        Ok(())
    }

    fn free(&self, name: &str) -> Result<(), PolicyFault> {
        if name == NONE || self.defined(name).is_ok() {
            return Err(PolicyFault::Taken(name.to_owned()));
        }
        Ok(())
    }

    fn defined(&self, name: &str) -> Result<Member, PolicyFault> {
        let witness = || self.witnesses.iter().position(|w| w.name == name).map(Member::Witness);
        let group = || self.groups.iter().position(|g| g.name == name).map(Member::Group);
        witness().or_else(group).ok_or_else(|| PolicyFault::Undefined(name.to_owned()))
    }
}

fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), PolicyFault> {
    if list.len() >= EACH_MAX {
        return Err(PolicyFault::TooMany);
    }
    list.push(item);
    Ok(())
}
