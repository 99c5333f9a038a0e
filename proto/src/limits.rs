//! Every maximum, with its reason. Parties must agree on the first group: the charter repeats it.

/// Encoded header, bytes. 64 recipients take 4.5 KiB of commitments; an entry of the log holds 65,535.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Sealed body, bytes. A case notice is a few KiB; photos are attachments.
pub const BODY_BYTES: usize = 1024 * 1024;
/// One attachment, bytes of ciphertext.
pub const ATTACHMENT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Attachments of one message: more want an archive.
pub const ATTACHMENTS: usize = 32;
/// Recipients of one message. The region has fewer than 64 offices on any corridor.
pub const RECIPIENTS: usize = 64;
/// One entry of a log, bytes: the length prefix of C2SP entry bundles is 16 bits.
pub const LEAF_BYTES: usize = 65_535;
/// Days that a message may wait for a recipient before it expires: an office that is closed for longer is served by
/// another one, and decryption keys are kept 60 days more.
pub const DELIVERY_DAYS: i64 = 30;
/// Chunk of an attachment before encryption, bytes: a lost link repeats little, and memory holds few.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Data of one part of an upload or download, bytes.
pub const PART_BYTES: usize = 256 * 1024;

/// Encoded StatBlock, bytes: 255 cells fit.
pub const STAT_BLOCK_BYTES: usize = 8 * 1024;
/// One wrap, bytes: X-Wing takes 1,120 + 48.
pub const WRAP_BYTES: usize = 1_280;
/// One encoded envelope, bytes: header, body, wraps, StatBlock, signature and framing.
pub const ENVELOPE_BYTES: usize = HEADER_BYTES + BODY_BYTES + RECIPIENTS * WRAP_BYTES + STAT_BLOCK_BYTES + 1024;
/// Times that a message is sealed anew to one recipient: more is no key that rotated.
pub const REWRAPS: u32 = 8;
/// Deliveries that a stream may have on their way.
pub const CREDIT: u32 = 1024;
/// Messages asked for again at once.
pub const REDELIVERIES: usize = 1024;
/// One gRPC message, bytes: an envelope and its receipt.
pub const GRPC_BYTES: usize = ENVELOPE_BYTES + LEAF_BYTES + PROOF_BYTES + 1024;
/// One tlog-proof, bytes: 64 hashes and a checkpoint with its cosignatures.
pub const PROOF_BYTES: usize = 16 * 1024;
/// One entry bundle, bytes: 256 entries of the largest size with their length prefixes. Auditors only.
pub const BUNDLE_BYTES: usize = 256 * (LEAF_BYTES + 2);
/// Encoded office, key, credential or statement, bytes.
pub const RECORD_BYTES: usize = 8 * 1024;
/// charter.toml, bytes: a leaf of the directory log holds it with five signatures.
pub const CHARTER_BYTES: usize = 60 * 1024;
/// Signatures of one country under a charter: of its key before, and of its new one.
pub const CHARTER_SIGNATURES: usize = 2;
/// Longest time that a charter lets the one before hold beside it, days: a key that is replaced must end.
pub const CHARTER_OVERLAP_DAYS: u32 = 90;
/// Charters that a party takes from another at once.
pub const CHARTERS: usize = 16;
/// Legal bases of one message: the closed list has 14.
pub const LEGAL_BASES: usize = 14;
/// Characters of an officer's displayed name.
pub const DISPLAY_NAME_CHARS: usize = 120;
/// Days an officer's credential may run.
pub const CREDENTIAL_DAYS: i64 = 90;
/// Days for which the keys of an office's record stay good after a new record replaced it: what was signed before, and is
/// still on its way, arrives. A revocation of the office ends it at once.
pub const KEY_OVERLAP_DAYS: i64 = 7;
/// Days by which an encryption key may be published before its validity begins.
pub const KEY_AHEAD_DAYS: i64 = 1;
/// Milliseconds by which an originator's clock may differ before the entry is marked.
pub const CLOCK_SKEW_MS: i64 = 5 * 60 * 1000;
/// Days a message id is remembered after creation or admission; what is created earlier is refused.
pub const DEDUP_DAYS: i64 = 60;
/// Smallest sealed plaintext, bytes: short answers do not show their length.
pub const PADDING_FLOOR: usize = 1024;
/// Gaps of a log under repair that are named at once.
pub const REPAIR_GAPS: usize = 1024;
