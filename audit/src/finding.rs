//! What an audit can find: a closed list.

use std::fmt;

use liaison_log::{exchange::Violation, verify::EntryError};
use liaison_proto::ids::LogIndex;
use serde::Serialize;

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal;)+) => {
        /// The kind of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FindingCode { $($(#[$doc])* $name,)+ }

        impl FindingCode {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code in reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

findings! {
    /// The copy's files are damaged or missing.
    CopyDamaged = "COPY_DAMAGED", "the local copy is damaged; mirror again into a new directory";
    /// A charter does not follow.
    CharterBad = "CHARTER_BAD", "the broker shows a charter that does not follow from the newest one held here";
    /// A checkpoint does not verify.
    CheckpointBad = "CHECKPOINT_BAD", "a checkpoint is malformed or not signed by the log's key";
    /// Entries and root differ.
    TreeDiffers = "TREE_DIFFERS", "the entries shown are not the ones signed: dropped, added, reordered or rewritten";
    /// The log is shorter than before.
    RolledBack = "ROLLED_BACK", "the log shows fewer entries than it signed before";
    /// A record of the directory log.
    RecordBad = "RECORD_BAD", "a directory entry is not signed by whom it needs, or does not continue its chain";
    /// An entry of the exchange log.
    EntryMalformed = "ENTRY_MALFORMED", "an entry does not parse, or is of a kind this version does not know";
    /// A signature in an entry.
    SignatureBad = "SIGNATURE_BAD", "an office's signature in an entry does not verify";
    /// An office in an entry.
    OfficeUnknown = "OFFICE_UNKNOWN", "an entry is of an office that had no valid record then";
    /// A key in an entry.
    KeyUnknown = "KEY_UNKNOWN", "a message was sealed to a key that was not the recipient's then";
    /// Admission in an entry.
    AdmissionBad = "ADMISSION_BAD", "a message was admitted against a rule: corridor, or age";
    /// Agreements at an entry.
    NotAgreed = "NOT_AGREED", "a message was admitted that the agreements in force then did not allow";
    /// Directory size in an entry.
    DirectoryUnknown = "DIRECTORY_UNKNOWN", "an entry was judged by a directory larger than the one shown";
    /// Time order.
    TimeWentBack = "TIME_WENT_BACK", "an entry's time is before the entry before it";
    /// Directory order.
    DirectoryWentBack = "DIRECTORY_WENT_BACK", "an entry was judged by a smaller directory than the entry before it";
    /// Message twice.
    AcceptedTwice = "ACCEPTED_TWICE", "a message was accepted twice";
    /// Channel numbers.
    NumberOutOfTurn = "NUMBER_OUT_OF_TURN", "a channel's numbers have a gap or repeat";
    /// Statement without message.
    NotAccepted = "NOT_ACCEPTED", "a statement is about a message that was not accepted for its office";
    /// Statement and message differ.
    StatementDiffers = "STATEMENT_DIFFERS", "a statement contradicts the entry it speaks of";
    /// Withdrawal by another.
    WithdrawsAnother = "WITHDRAWS_ANOTHER", "a message was taken back by another office than its originator";
    /// Mark of a late delivery.
    LateMark = "LATE_MARK", "a delivery after a non-delivery is not marked late, or another one is";
    /// Non-delivery.
    NonDeliveryUnjustified = "NON_DELIVERY_UNJUSTIFIED", "a message was given up that was delivered, or neither withdrawn nor expired";
    /// A successor.
    SuccessionBad = "SUCCESSION_BAD", "a log succeeds another where no charter says so, or not as it says";
    /// A message of a closed log.
    MessageLost = "MESSAGE_LOST", "a message was accepted in a log that was closed, and is not in its successor";
    /// Rewrap.
    RewrapUnasked = "REWRAP_UNASKED", "a message was sealed anew though nobody had said that it cannot be opened";
    /// Statement twice.
    StatedTwice = "STATED_TWICE", "an office's statement was entered twice";
    /// Opening before delivery.
    NotDelivered = "NOT_DELIVERED", "an opening was stated before a delivery";
    /// A receipt.
    ReceiptBad = "RECEIPT_BAD", "a receipt does not verify";
    /// A receipt and the copy.
    ReceiptNotInLog = "RECEIPT_NOT_IN_LOG", "a receipt verifies, and the copy of the log holds another entry in its place";
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FindingCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something found, with where and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub code: FindingCode,
    /// "directory" or "exchange".
    pub log: &'static str,
    /// The entry, when it is about one.
    pub entry: Option<u64>,
    /// The evidence in words.
    pub evidence: String,
}

impl Finding {
    /// A finding about a whole log.
    pub fn of_log(code: FindingCode, log: &'static str, evidence: impl Into<String>) -> Self {
        Self { code, log, entry: None, evidence: evidence.into() }
    }

    /// A finding about one entry.
    pub fn of_entry(code: FindingCode, log: &'static str, index: LogIndex, evidence: impl Into<String>) -> Self {
        Self { code, log, entry: Some(index.0), evidence: evidence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {} log", self.code, self.log)?;
        if let Some(entry) = self.entry {
            write!(f, ", entry {entry}")?;
        }
        write!(f, ": {}", self.evidence)
    }
}

impl From<&Violation> for FindingCode {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::TimeWentBack => Self::TimeWentBack,
            Violation::DirectoryWentBack => Self::DirectoryWentBack,
            Violation::AcceptedTwice(_) => Self::AcceptedTwice,
            Violation::NumberOutOfTurn { .. } => Self::NumberOutOfTurn,
            Violation::NotAccepted(_) => Self::NotAccepted,
            Violation::StatementDiffers(_) => Self::StatementDiffers,
            Violation::StatedTwice(_) => Self::StatedTwice,
            Violation::NotDelivered(_) => Self::NotDelivered,
            Violation::WithdrawsAnother(_) => Self::WithdrawsAnother,
            Violation::LateMark(_) => Self::LateMark,
            Violation::NonDeliveryUnjustified(_) => Self::NonDeliveryUnjustified,
            Violation::RewrapUnasked(_) => Self::RewrapUnasked,
            Violation::SuccessionMisplaced => Self::SuccessionBad,
            // The auditor's index is in memory and cannot fail.
            Violation::Index(_) => Self::CopyDamaged,
        }
    }
}

impl From<&EntryError> for FindingCode {
    fn from(error: &EntryError) -> Self {
        match error {
            EntryError::UnknownDirectory(_) => Self::DirectoryUnknown,
            EntryError::UnknownOffice(_) => Self::OfficeUnknown,
            EntryError::UnknownKey(_) => Self::KeyUnknown,
            EntryError::Admission(_) => Self::AdmissionBad,
            EntryError::Signature(..) => Self::SignatureBad,
            EntryError::Succession(_) => Self::SuccessionBad,
        }
    }
}
