//! Admission: what may enter the log, or a coded refusal that says why not. Nothing else makes an [`Admitted`].

use liaison_log::leaf::{RewrapStatement, Statement, payload_type};
use liaison_policy::Question;
use liaison_proto::{
    Bytes,
    clock::{DAY_MS, UnixMillis},
    directory::Directory,
    envelope::{SignedEnvelope, UnverifiedEnvelope},
    header::{Core, Header},
    ids::OfficeId,
    limits,
    refusal::{Refusal, RefusalCode},
    sha256,
    sign::{KeyRing, PayloadType},
    wire::{self, Kind, Mark, StatementKind},
};

/// What a connection asks for.
#[derive(Debug)]
pub struct Submission {
    /// Who the certificate says it is.
    pub office: OfficeId,
    /// Parsed, not verified.
    pub envelope: UnverifiedEnvelope,
    /// What could not be settled about the connection.
    pub marks: Vec<Mark>,
}

/// A refused submission.
#[derive(Debug)]
pub struct Rejection {
    /// Why.
    pub refusal: Refusal,
    /// The header, when the office's signature over it was verified before something else was found wrong.
    pub verified: Option<Box<Header>>,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, verified: None }
    }
}

/// An envelope that was judged and may enter the log for all its recipients.
#[derive(Debug)]
pub struct Admitted {
    envelope: SignedEnvelope,
    /// Verified under these.
    keys: KeyRing,
    judgement: Judgement,
    /// What could not be settled about the connection.
    marks: Vec<Mark>,
}

/// By which directory something was judged, and what could not be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Size of the directory log.
    pub directory_size: u64,
    /// Marks for the leaf.
    pub marks: Vec<Mark>,
}

impl Admitted {
    /// The verified envelope.
    #[must_use]
    pub const fn envelope(&self) -> &SignedEnvelope {
        &self.envelope
    }

    /// The judgement by the newest directory: the one made at admission, or a new one when the directory has grown
    /// since. Entries of the log are judged by directories that never shrink.
    ///
    /// # Errors
    /// The refusal that a newer directory gives.
    pub fn judged_by(&self, directory: &Directory, now: UnixMillis) -> Result<Judgement, Refusal> {
        // Time passed in the queue, and the log's time may be ahead of the clock: verifiers go by the leaf's.
        check_age(&self.envelope, now)?;
        let keys = originator(self.envelope.header().core().from, directory, now)?;
        // A key may have gone meanwhile, by a record or by time.
        if keys != self.keys {
            self.envelope.check_signature(&keys)?;
        }
        if directory.size() == self.judgement.directory_size {
            return Ok(self.judgement.clone());
        }
        let mut judgement = judge(&self.envelope, directory, now)?;
        judgement.marks.extend(&self.marks);
        Ok(judgement)
    }
}

fn refuse<T>(code: RefusalCode, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, detail))
}

fn originator(from: OfficeId, directory: &Directory, at: UnixMillis) -> Result<KeyRing, Refusal> {
    directory
        .signing_keys(from, directory.size(), at)
        .ok_or_else(|| Refusal::new(RefusalCode::UnknownOriginator, format!("{from} has no valid office record")))
}

/// Judges a submission: identity, form, signature, commitments, charter, directory, age.
///
/// # Errors
/// The first rule it breaks.
pub fn admit(submission: Submission, directory: &Directory, now: UnixMillis) -> Result<Admitted, Rejection> {
    let Submission { office, envelope, marks } = submission;
    let from = envelope.header().core().from;
    if from != office {
        let detail = format!("the header says {from}, the certificate says {office}");
        return refuse(RefusalCode::NotYourOffice, detail).map_err(Rejection::from);
    }
    let (keys, header) = (originator(from, directory, now)?, envelope.header().clone());
    let envelope = match envelope.verify(&keys) {
        Ok(envelope) => envelope,
        // The signature is looked at first: whatever else is wrong, the office signed this header.
        Err(refusal) if refusal.code != RefusalCode::BadSignature => {
            return Err(Rejection { refusal, verified: Some(Box::new(header)) });
        }
        Err(refusal) => return Err(refusal.into()),
    };
    match judge(&envelope, directory, now) {
        Ok(mut judgement) => {
            judgement.marks.extend(&marks);
            Ok(Admitted { envelope, keys, judgement, marks })
        }
        Err(refusal) => Err(Rejection { refusal, verified: Some(Box::new(envelope.header().clone())) }),
    }
}

fn judge(envelope: &SignedEnvelope, directory: &Directory, now: UnixMillis) -> Result<Judgement, Refusal> {
    let core = envelope.header().core();
    if matches!(core.kind, Kind::Withdraw | Kind::Recall) && core.in_reply_to.is_none() {
        return refuse(RefusalCode::MalformedHeader, "in_reply_to names the message that is taken back");
    }
    if core.retain_until.is_some_and(|until| until <= now) {
        return refuse(RefusalCode::TooOld, "it has expired by its own retain-until");
    }
    match directory.charter().corridor(core.from, &core.to) {
        Some(corridor) if corridor == core.corridor => {}
        Some(corridor) => {
            return refuse(RefusalCode::MalformedHeader, format!("the corridor of these offices is {corridor}"));
        }
        None => return refuse(RefusalCode::MalformedHeader, "the charter has no corridor between these offices"),
    }
    let mut marks = Vec::new();
    for (&to, commitment) in core.to.iter().zip(&envelope.header().commitments().recipients) {
        if directory.office(to, directory.size()).is_none() {
            return refuse(RefusalCode::UnknownRecipient, format!("{to} has no valid office record"));
        }
        let key = directory.encryption_key(to, &commitment.key_sha256, directory.size());
        match key.filter(|key| key.key.suite() == core.suite) {
            None => return refuse(RefusalCode::UnknownKey, format!("{to} has no such key in the directory")),
            Some(key) if now > key.not_after && !marks.contains(&Mark::StaleKey) => marks.push(Mark::StaleKey),
            Some(_) => {}
        }
    }
    check_agreements(core, directory)?;
    let age = check_age(envelope, now)?;
    if age.abs() > limits::CLOCK_SKEW_MS {
        marks.push(Mark::ClockSkew);
    }
    Ok(Judgement { directory_size: directory.size(), marks })
}

/// For every recipient by itself.
fn check_agreements(core: &Core, directory: &Directory) -> Result<(), Refusal> {
    let Some(agreements) = liaison_policy::in_force(directory, directory.size()) else { return Ok(()) };
    for question in Question::of(core) {
        let decision = agreements.decide(&question);
        if !decision.is_allowed() {
            return refuse(RefusalCode::NotAgreed, format!("to {}: {decision}", question.to));
        }
    }
    Ok(())
}

/// The age of a message at `now`, milliseconds.
fn check_age(envelope: &SignedEnvelope, now: UnixMillis) -> Result<i64, Refusal> {
    let age = now.since(envelope.header().core().created_at);
    if age > limits::DEDUP_DAYS * DAY_MS {
        return refuse(RefusalCode::TooOld, format!("it was created more than {} days ago", limits::DEDUP_DAYS));
    }
    Ok(age)
}

/// A recipient's statement that was judged and may enter the log.
#[derive(Debug)]
pub struct AdmittedStatement {
    /// What it states.
    pub(crate) kind: StatementKind,
    /// Parsed.
    pub(crate) statement: Statement,
    /// As it came.
    pub(crate) attested: wire::Attested,
    /// Verified under these.
    keys: KeyRing,
    /// What could not be settled about the connection.
    pub(crate) marks: Vec<Mark>,
}

/// A new wrap that was judged and may enter the log.
#[derive(Debug)]
pub struct AdmittedRewrap {
    /// Parsed.
    pub(crate) statement: RewrapStatement,
    /// As it came.
    pub(crate) rewrapped: wire::Rewrapped,
    /// The new wrap.
    pub(crate) wrap: Bytes,
    /// What could not be settled about the connection.
    pub(crate) marks: Vec<Mark>,
}

impl AdmittedRewrap {
    /// Verifies signature and key by a directory.
    ///
    /// # Errors
    /// `UNKNOWN_ORIGINATOR`, `BAD_SIGNATURE`, `UNKNOWN_RECIPIENT` or `UNKNOWN_KEY`.
    pub fn check(&self, directory: &Directory, now: UnixMillis) -> Result<(), Refusal> {
        let RewrapStatement { office, recipient, key_sha256, .. } = &self.statement;
        originator(*office, directory, now)?
            .verify(PayloadType::Rewrapped, &self.rewrapped.statement, self.rewrapped.signature.as_ref())
            .map_err(|e| Refusal::new(RefusalCode::BadSignature, format!("statement: {e}")))?;
        if directory.office(*recipient, directory.size()).is_none() {
            return refuse(RefusalCode::UnknownRecipient, format!("{recipient} has no valid office record"));
        }
        match directory.encryption_key(*recipient, key_sha256, directory.size()) {
            Some(_) => Ok(()),
            None => refuse(RefusalCode::UnknownKey, format!("{recipient} has no such key in the directory")),
        }
    }
}

/// Judges a new wrap: identity, form, signature, key. Whether it was asked for is decided inside the commit.
///
/// # Errors
/// The first rule it breaks.
pub fn admit_rewrap(
    office: OfficeId,
    request: wire::RewrapRequest,
    directory: &Directory,
    now: UnixMillis,
    marks: Vec<Mark>,
) -> Result<AdmittedRewrap, Refusal> {
    let malformed = |detail: String| Refusal::new(RefusalCode::MalformedEnvelope, detail);
    let rewrapped = request.rewrapped.ok_or_else(|| malformed("there is no statement".into()))?;
    let statement = RewrapStatement::parse(&rewrapped.statement).map_err(|e| malformed(e.to_string()))?;
    if statement.office != office {
        let detail = format!("the statement says {}, the certificate says {office}", statement.office);
        return refuse(RefusalCode::NotYourOffice, detail);
    }
    if request.wrap.len() > limits::WRAP_BYTES {
        return refuse(RefusalCode::TooLarge, "the wrap is larger than its limit");
    }
    if sha256(&[&request.wrap]) != statement.wrap_sha256 {
        return refuse(RefusalCode::CommitmentMismatch, "the wrap is not what the statement commits to");
    }
    let admitted = AdmittedRewrap { statement, rewrapped, wrap: request.wrap, marks };
    admitted.check(directory, now)?;
    Ok(admitted)
}

impl AdmittedStatement {
    /// Judges it again by a directory that may have grown since.
    ///
    /// # Errors
    /// `UNKNOWN_ORIGINATOR` or `BAD_SIGNATURE`.
    pub fn check_again(&self, directory: &Directory, now: UnixMillis) -> Result<(), Refusal> {
        let keys = statement_keys(self.kind, self.statement.office, directory, now)?;
        // A key may have gone meanwhile, by a record or by time.
        if keys == self.keys { Ok(()) } else { check_statement(self.kind, &self.attested, &keys) }
    }
}

/// The keys that an office's statements of a kind are good under.
fn statement_keys(
    kind: StatementKind,
    office: OfficeId,
    directory: &Directory,
    now: UnixMillis,
) -> Result<KeyRing, Refusal> {
    let keys = match kind {
        StatementKind::Delivered => directory.receipt_keys(office, directory.size(), now),
        _ => directory.signing_keys(office, directory.size(), now),
    };
    keys.ok_or_else(|| Refusal::new(RefusalCode::UnknownOriginator, format!("{office} has no valid office record")))
}

fn check_statement(kind: StatementKind, attested: &wire::Attested, keys: &KeyRing) -> Result<(), Refusal> {
    let bad = |detail: String| Refusal::new(RefusalCode::BadSignature, detail);
    let payload = payload_type(kind).ok_or_else(|| bad("the statement has no kind".into()))?;
    keys.verify(payload, &attested.statement, attested.signature.as_ref()).map_err(|e| bad(format!("statement: {e}")))
}

/// Judges a statement: identity, form, signature. Whether it fits the log is decided inside the commit.
///
/// # Errors
/// The first rule it breaks.
pub fn admit_statement(
    office: OfficeId,
    request: wire::AttestRequest,
    directory: &Directory,
    now: UnixMillis,
    marks: Vec<Mark>,
) -> Result<AdmittedStatement, Refusal> {
    let kind = request.kind();
    let malformed = |detail: String| Refusal::new(RefusalCode::MalformedEnvelope, detail);
    let attested = request.attested.ok_or_else(|| malformed("there is no statement".into()))?;
    let statement = Statement::parse(&attested.statement).map_err(|e| malformed(e.to_string()))?;
    if statement.office != office {
        let detail = format!("the statement says {}, the certificate says {office}", statement.office);
        return refuse(RefusalCode::NotYourOffice, detail);
    }
    let keys = statement_keys(kind, office, directory, now)?;
    check_statement(kind, &attested, &keys)?;
    Ok(AdmittedStatement { kind, statement, attested, keys, marks })
}
