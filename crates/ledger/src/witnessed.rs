//! Witnessed receipts: that an entry is in a log, and that witnesses have cosigned a log of logs which was told so.
//!
//! Witnesses cosign one small log a house, the log of logs, whose entries say how far the others had come. So two proofs
//! make one answer, each a `.tlog-proof` (C2SP tlog-proof) of its own: the entry is in its log as that had come, and that it
//! had come so far is in the log of logs under a cosigned checkpoint.

use bartizan_base::Digest;
use bartizan_base::json::{self, Limits};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, Cosigned};
use crate::note::VerifierKey;
use crate::policy::Policy;
use crate::proof::ProofError;
use crate::receipt::{HEADER as PROOF_HEADER, Receipt, ReceiptError};
use crate::tile::ENTRY_MAX;
use crate::tree::leaf_hash;

const HEADER: &str = "bartizan/witnessed-proof@v1";

/// What the name of a house's log of logs has in the place of tenant and period.
const LOG_OF_LOGS: &str = "operator/all";

/// A receipt of one entry, with the receipt of what the log of logs was told about its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedReceipt {
    /// That the entry is in its log, as far as that had come when the log of logs was told.
    pub receipt: Receipt,
    /// The entry of the log of logs that says how far.
    pub told: Vec<u8>,
    /// That this entry is in the log of logs, under its cosigned checkpoint.
    pub witnessed: Receipt,
}

/// What a witnessed receipt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The log that holds the entry, as it was then.
    pub checkpoint: Checkpoint,
    /// The log of logs, and who has cosigned it.
    pub cosigned: Cosigned,
}

/// Why a witnessed receipt is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessedError {
    /// Its form.
    #[error("not a witnessed receipt")]
    Shape,
    /// The key is not that of a log of a house that has a log of logs.
    #[error("`{0}` does not end in a tenant and a period, so no log of logs belongs to it")]
    Name(String),
    /// The entry is not in its log.
    #[error("the entry's log: {0}")]
    Entry(ProofError),
    /// What was told is not in the log of logs, or that is not cosigned as the policy demands.
    #[error("the log of logs: {0}")]
    Told(ReceiptError),
    /// The entry of the log of logs is about something else.
    #[error("the entry of the log of logs tells of no checkpoint")]
    NotTold,
    /// It tells of another log.
    #[error("the log of logs was told of another log, `{0}`")]
    OtherLog(String),
    /// It tells of another size or root of the log than the receipt has.
    #[error("the log of logs was told another size or root than the receipt has")]
    OtherHead,
    /// The policy demands no cosignature, and there is none.
    #[error("the policy demands no witness and none has cosigned: nothing is witnessed")]
    Nobody,
}

impl WitnessedReceipt {
    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let (told, receipt, witnessed) =
            (STANDARD.encode(&self.told), self.receipt.text(), self.witnessed.text());
        format!("{HEADER}\ntold {told}\n\n{receipt}\n{witnessed}")
    }

    /// Whether `text` says of itself that it is a witnessed receipt.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.lines().next() == Some(HEADER)
    }

    /// Reads a file. It has one spelling: what is read is written the same.
    ///
    /// # Errors
    /// `Shape`.
    pub fn parse(text: &str) -> Result<Self, WitnessedError> {
        let read = || {
            let (head, rest) = text.split_once("\n\n")?;
            let (header, told) = head.split_once('\n')?;
            let told = STANDARD.decode(told.strip_prefix("told ")?).ok()?;
            if header != HEADER || told.len() > ENTRY_MAX {
                return None;
            }
            // No checkpoint has an empty line but the one before its signatures, so the second proof begins here.
            let (receipt, witnessed) = rest.split_once(&format!("\n\n{PROOF_HEADER}\n"))?;
            let receipt = Receipt::parse(&format!("{receipt}\n")).ok()?;
            let witnessed = Receipt::parse(&format!("{PROOF_HEADER}\n{witnessed}")).ok()?;
            Some(Self { receipt, told, witnessed }).filter(|read| read.text() == text)
        };
        read().ok_or(WitnessedError::Shape)
    }

    /// Verifies that the entry with this leaf hash was in the log of `key` when the witnesses of `policy` cosigned the
    /// log of logs of the same house, which the same key signs.
    ///
    /// # Errors
    /// [`WitnessedError`].
    pub fn verify(
        &self,
        leaf: Digest,
        key: &VerifierKey,
        policy: &Policy,
    ) -> Result<Witnessed, WitnessedError> {
        let checkpoint = self.receipt.verify(leaf, key).map_err(WitnessedError::Entry)?;
        let log_of_logs = key.log_of_logs().ok_or_else(|| WitnessedError::Name(key.name().to_owned()))?;
        let cosigned = self
            .witnessed
            .verify_under(leaf_hash(&self.told), &log_of_logs, policy)
            .map_err(WitnessedError::Told)?;
        let told = told(&self.told).ok_or(WitnessedError::NotTold)?;
        if told.origin != checkpoint.origin {
            return Err(WitnessedError::OtherLog(told.origin));
        }
        if told != checkpoint {
            return Err(WitnessedError::OtherHead);
        }
        if cosigned.cosignatures.is_empty() {
            return Err(WitnessedError::Nobody);
        }
        Ok(Witnessed { checkpoint, cosigned })
    }
}

impl VerifierKey {
    /// The key under the name of the log of logs of the house whose log this key signs; none if its name does not end in
    /// tenant and period.
    #[must_use]
    pub fn log_of_logs(&self) -> Option<Self> {
        let family = self.name().rsplitn(3, '/').nth(2).filter(|family| !family.is_empty())?;
        self.renamed(&format!("{family}/{LOG_OF_LOGS}"))
    }
}

/// What an entry of a log of logs tells: a record of kind `system` with the event `checkpoint`.
fn told(entry: &[u8]) -> Option<Checkpoint> {
    let record = json::parse(entry, Limits { bytes_max: ENTRY_MAX, ..Limits::default() }).ok()?;
    let text = |name: &str| record.get(name)?.as_str();
    if (text("kind"), text("event"), text("tenant")) != (Some("system"), Some("checkpoint"), Some("operator"))
    {
        return None;
    }
    Some(Checkpoint {
        origin: text("origin")?.to_owned(),
        size: record.get("size")?.as_u64()?,
        root: text("root")?.parse().ok()?,
    })
}
