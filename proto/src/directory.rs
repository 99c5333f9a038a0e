//! The state that the directory log's entries add up to. Broker, node and auditor replay the same entries with this
//! code and so hold the same directory at the same size.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message as _;

use crate::{
    charter::Charter,
    clock::{DAY_MS, UnixMillis},
    ids::{Country, OfficeId},
    limits,
    office::{Office, PublishedKey, RecordError},
    policy_text::{self, PolicyForm, PolicyText},
    seal::Suite,
    sha256,
    sign::{KeyRing, PayloadType},
    wire::{self, directory_record::Record},
};

#[derive(Clone, Debug, Default)]
struct OfficeHistory {
    /// Index, time, record.
    records: Vec<(u64, UnixMillis, Office)>,
    keys: Vec<(u64, PublishedKey)>,
    /// Index, and the revoked key's hash or none for the whole office.
    revocations: Vec<(u64, Option<[u8; 32]>)>,
}

/// Offices and keys as of a size of the directory log.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The newest charter known: the log's must be its chain, or follow from it.
    known: Arc<Charter>,
    /// Index in the log, charter: those entered, the oldest first.
    charters: Vec<(u64, Arc<Charter>)>,
    size: u64,
    time: UnixMillis,
    /// Time of every entry: a key's overlap is never shorter by a later clock, nor longer by an earlier one.
    times: Vec<UnixMillis>,
    offices: BTreeMap<OfficeId, OfficeHistory>,
    /// Index, hash of this and all before it, agreement or table.
    policies: Vec<(u64, [u8; 32], PolicyText)>,
    /// Index of an agreement or table -> index of the one that it replaces.
    replaced: BTreeMap<u64, u64>,
    /// SHA-256 of every revocation: an old one cannot be entered again after the office was enrolled anew.
    revocations: BTreeSet<[u8; 32]>,
}

impl Directory {
    /// The empty directory of a chain of charters.
    #[must_use]
    pub fn new(charter: impl Into<Arc<Charter>>) -> Self {
        Self {
            known: charter.into(),
            charters: Vec::new(),
            size: 0,
            time: UnixMillis(i64::MIN),
            times: Vec::new(),
            offices: BTreeMap::new(),
            policies: Vec::new(),
            replaced: BTreeMap::new(),
            revocations: BTreeSet::new(),
        }
    }

    /// The newest charter entered; of an empty log the newest known.
    #[must_use]
    pub fn charter(&self) -> &Charter {
        self.charters.last().map_or(&self.known, |(_, charter)| charter)
    }

    /// Charters entered, which is the number of the newest.
    #[must_use]
    pub fn charters(&self) -> u64 {
        self.charters.len() as u64
    }

    /// The charter in force at a size of the log.
    #[must_use]
    pub fn charter_at(&self, size: u64) -> &Charter {
        let entered = self.charters.iter().rev().find(|(index, _)| *index < size);
        entered.map_or_else(|| self.charter(), |(_, charter)| charter)
    }

    /// Number of entries replayed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Applies the next entry of the log.
    ///
    /// # Errors
    /// [`RecordError`] when the entry does not verify; the state is unchanged then.
    pub fn apply_leaf(&mut self, leaf: &[u8]) -> Result<(), RecordError> {
        if leaf.len() > limits::LEAF_BYTES {
            return Err(RecordError::Malformed);
        }
        let leaf = wire::DirectoryLeaf::decode(leaf).map_err(|_| RecordError::Malformed)?;
        if leaf.version != 1 {
            return Err(RecordError::Malformed);
        }
        if leaf.time_ms < self.time.0 {
            return Err(RecordError::TimeWentBack);
        }
        self.apply(&leaf.record.ok_or(RecordError::Malformed)?, UnixMillis(leaf.time_ms))?;
        self.time = UnixMillis(leaf.time_ms);
        Ok(())
    }

    /// Time of the newest entry.
    #[must_use]
    pub const fn time(&self) -> UnixMillis {
        self.time
    }

    /// Applies the next record, entered at a time.
    ///
    /// # Errors
    /// [`RecordError`] when the record does not verify; the state is unchanged then.
    pub fn apply(&mut self, record: &wire::DirectoryRecord, at: UnixMillis) -> Result<(), RecordError> {
        let record = record.record.as_ref().ok_or(RecordError::Malformed)?;
        if self.size == 0 && !matches!(record, Record::Charter(_)) {
            return Err(RecordError::NoCharter);
        }
        match record {
            Record::Charter(record) => self.apply_charter(record, at)?,
            Record::Office(record) => self.apply_office(record, at)?,
            Record::Key(record) => self.apply_key(record, at)?,
            Record::Revoked(record) => self.apply_revocation(record, at)?,
            Record::Policy(record) => self.apply_policy(record, at)?,
        }
        self.size += 1;
        self.times.push(at);
        Ok(())
    }

    fn apply_charter(&mut self, record: &wire::CharterRecord, at: UnixMillis) -> Result<(), RecordError> {
        let number = self.charters() + 1;
        let (bytes, signatures) = (record.charter.clone(), record.signatures.clone());
        if self.known.numbered(number).is_some_and(|known| known.bytes() != bytes.as_ref()) {
            return Err(RecordError::OtherCharter);
        }
        // Whoever replays the log sees for themselves that it was signed.
        let charter = match self.charters.last() {
            None => Charter::first(bytes, signatures),
            Some((_, before)) => before.succeed(bytes, signatures),
        };
        let charter = Arc::new(charter.map_err(RecordError::Charter)?);
        if at < charter.issued() && number > 1 {
            return Err(RecordError::TooEarly);
        }
        self.charters.push((self.size, charter));
        Ok(())
    }

    fn authority(&self, office: OfficeId, at: UnixMillis) -> Result<KeyRing, RecordError> {
        self.charter().authority_keys(office.country(), at).ok_or(RecordError::Country)
    }

    fn apply_office(&mut self, record: &wire::OfficeRecord, at: UnixMillis) -> Result<(), RecordError> {
        let authority = self.authority(Office::claimed_id(record)?, at)?;
        let office = Office::verify(record, &authority)?;
        let last = self.offices.get(&office.id).and_then(|history| history.records.last());
        let continues = match last {
            None => office.serial == 1,
            Some((_, _, last)) => office.serial == last.serial + 1 && office.previous_sha256 == Some(last.sha256),
        };
        if !continues {
            return Err(RecordError::Chain);
        }
        self.offices.entry(office.id).or_default().records.push((self.size, at, office));
        Ok(())
    }

    fn apply_key(&mut self, record: &wire::KeyRecord, at: UnixMillis) -> Result<(), RecordError> {
        let claimed = PublishedKey::claimed_office(record)?;
        // By the newest record alone: what a replaced key enters here would outlive its overlap.
        let signing_key = self.office(claimed, self.size).ok_or(RecordError::NotEnrolled)?.signing_key;
        let key = PublishedKey::verify(record, &signing_key.into())?;
        // One that begins later would supersede the office's own at that time.
        if key.not_before > at.plus(limits::KEY_AHEAD_DAYS * DAY_MS) {
            return Err(RecordError::Malformed);
        }
        let history = self.offices.entry(key.office).or_default();
        if history.keys.iter().any(|(_, known)| known.sha256 == key.sha256) {
            return Err(RecordError::Repeated);
        }
        history.keys.push((self.size, key));
        Ok(())
    }

    fn apply_revocation(&mut self, record: &wire::RevocationRecord, at: UnixMillis) -> Result<(), RecordError> {
        let revocation = wire::Revocation::decode(record.revocation.clone()).map_err(|_| RecordError::Malformed)?;
        if revocation.version != 1 {
            return Err(RecordError::Malformed);
        }
        let office = revocation.office.parse().map_err(|_| RecordError::Malformed)?;
        self.authority(office, at)?
            .verify(PayloadType::Revocation, &record.revocation, record.authority_signature.as_ref())
            .map_err(RecordError::Signature)?;
        let key = match revocation.key_sha256.as_ref() {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| RecordError::Malformed)?),
        };
        let history = self.offices.get_mut(&office).ok_or(RecordError::NotEnrolled)?;
        if !self.revocations.insert(sha256(&[&record.revocation])) {
            return Err(RecordError::Repeated);
        }
        history.revocations.push((self.size, key));
        Ok(())
    }

    /// An agreement or table enters with the signatures of all the countries that it names, and of all members that the one before
    /// named: nobody is bound, or let go, by others.
    fn apply_policy(&mut self, record: &wire::PolicyRecord, at: UnixMillis) -> Result<(), RecordError> {
        let policy = PolicyText::parse(&record.policy).map_err(|_| RecordError::Malformed)?;
        if record.name != policy.name || record.signatures.len() > 2 * policy_text::MAX_COUNTRIES {
            return Err(RecordError::Malformed);
        }
        let found = self.policies.iter().rev().find(|(.., known)| policy.follows(known));
        let (replaces, before) = (found.map(|(index, ..)| *index), found.map(|(.., known)| known));
        if policy.serial != before.map_or(0, |before| before.serial) + 1 {
            return Err(RecordError::Chain);
        }
        // One that has left the charter has no key, and is bound by nothing here.
        let member = |country: &&Country| self.charter().country(**country).is_some();
        let bound = before.into_iter().flat_map(|before| &before.countries).filter(member);
        for country in policy.countries.iter().chain(bound) {
            let authority = self.charter().authority_keys(*country, at).ok_or(RecordError::Country)?;
            let signed = record.signatures.iter().find(|signed| signed.country == country.as_str());
            let signature = signed.and_then(|signed| signed.signature.as_ref());
            authority.verify(PayloadType::Policy, &record.policy, signature).map_err(RecordError::Signature)?;
        }
        let last = self.policies.last().map_or([0; 32], |(_, hash, _)| *hash);
        self.replaced.extend(replaces.map(|replaced| (self.size, replaced)));
        self.policies.push((self.size, sha256(&[&last, &policy.sha256()]), policy));
        Ok(())
    }

    /// The agreements in force at a size of the log: those that none replaces.
    pub fn agreements(&self, size: u64) -> impl Iterator<Item = &PolicyText> {
        let replaced: BTreeSet<u64> = self.replaced.range(..size).map(|(_, replaced)| *replaced).collect();
        let entered = self.policies.iter().filter(move |(index, ..)| *index < size && !replaced.contains(index));
        entered.map(|(.., known)| known).filter(|known| known.form == PolicyForm::Agreement)
    }

    /// Every table that was entered up to a size of the log, in the order of entry. What was replaced is among them: tables
    /// say from which day on they count.
    pub fn tables(&self, size: u64) -> impl Iterator<Item = &PolicyText> {
        let entered = self.policies.iter().filter(move |(index, ..)| *index < size);
        entered.map(|(.., known)| known).filter(|known| known.form == PolicyForm::Table)
    }

    /// Names all agreements and tables that were entered up to a size of the log; none when there is none.
    #[must_use]
    pub fn policies_sha256(&self, size: u64) -> Option<[u8; 32]> {
        self.policies.iter().rev().find(|(index, ..)| *index < size).map(|(_, hash, _)| *hash)
    }

    /// The office's record at a size of the log; none when unknown, revoked or of no member country by then.
    #[must_use]
    pub fn office(&self, office: OfficeId, size: u64) -> Option<&Office> {
        self.charter_at(size).country(office.country())?;
        let history = self.offices.get(&office)?;
        let (enrolled, _, record) = history.records.iter().rev().find(|(index, ..)| *index < size)?;
        // A revocation of the whole office holds until a later record enrols it again.
        let revoked = history.revocations.iter().any(|(index, key)| (*enrolled..size).contains(index) && key.is_none());
        (!revoked).then_some(record)
    }

    /// The record in force at a size of the log, and those before it whose keys are still good at `at`: for some days
    /// after each was replaced, back to a revocation of the office. Nothing is judged at a time before the directory
    /// that it is judged by.
    fn records_in_force(&self, office: OfficeId, size: u64, at: UnixMillis) -> Option<Vec<&Office>> {
        let mut good = vec![self.office(office, size)?];
        let history = self.offices.get(&office)?;
        let newest = size.checked_sub(1).and_then(|last| self.times.get(usize::try_from(last).ok()?));
        let at = newest.map_or(at, |newest| at.max(*newest));
        let known: Vec<_> = history.records.iter().filter(|(index, ..)| *index < size).collect();
        for pair in known.windows(2).rev() {
            let ((before, _, record), (_, replaced_at, _)) = (pair[0], pair[1]);
            let revoked =
                history.revocations.iter().any(|(index, key)| (*before..size).contains(index) && key.is_none());
            if revoked || at > replaced_at.plus(limits::KEY_OVERLAP_DAYS * DAY_MS) {
                break;
            }
            good.push(record);
        }
        Some(good)
    }

    /// The keys under which an office's header, credential, RETRIEVED, CANNOT_OPEN or REWRAPPED verifies
    /// that is judged by this size of the log at this time; none when the office is unknown or revoked.
    #[must_use]
    pub fn signing_keys(&self, office: OfficeId, size: u64, at: UnixMillis) -> Option<KeyRing> {
        let good = self.records_in_force(office, size, at)?;
        Some(KeyRing::new(good.into_iter().map(|record| record.signing_key)))
    }

    /// The same for DELIVERED.
    #[must_use]
    pub fn receipt_keys(&self, office: OfficeId, size: u64, at: UnixMillis) -> Option<KeyRing> {
        let good = self.records_in_force(office, size, at)?;
        Some(KeyRing::new(good.into_iter().map(|record| record.receipt_key)))
    }

    /// The published key of this name, unless revoked, at a size of the log.
    #[must_use]
    pub fn encryption_key(&self, office: OfficeId, name: &[u8], size: u64) -> Option<&PublishedKey> {
        self.office(office, size)?;
        let history = self.offices.get(&office)?;
        // A key published before the whole office was revoked may be a thief's; enrolment anew does not bring it back.
        let whole = history.revocations.iter().filter(|(index, key)| *index < size && key.is_none());
        let trusted_from = whole.map(|(index, _)| *index).max().unwrap_or(0);
        let (_, key) =
            history.keys.iter().find(|(index, key)| (trusted_from..size).contains(index) && key.sha256[..] == *name)?;
        let revoked =
            history.revocations.iter().any(|(index, hash)| *index < size && hash.as_ref() == Some(&key.sha256));
        (!revoked).then_some(key)
    }

    /// Every record of an office, the oldest first.
    pub fn records(&self, office: OfficeId) -> impl Iterator<Item = &Office> {
        self.offices.get(&office).into_iter().flat_map(|history| history.records.iter().map(|(.., record)| record))
    }

    /// Every key that an office has published, revoked ones included.
    pub fn published_keys(&self, office: OfficeId) -> impl Iterator<Item = &PublishedKey> {
        self.offices.get(&office).into_iter().flat_map(|history| history.keys.iter().map(|(_, key)| key))
    }

    /// The newest unrevoked key of a suite whose validity had begun at `at`.
    #[must_use]
    pub fn newest_key(&self, office: OfficeId, suite: Suite, at: UnixMillis, size: u64) -> Option<&PublishedKey> {
        let keys = &self.offices.get(&office)?.keys;
        keys.iter()
            .filter(|(index, key)| *index < size && key.key.suite() == suite && key.not_before <= at)
            .filter_map(|(_, key)| self.encryption_key(office, &key.sha256, size))
            .max_by_key(|key| key.not_before)
    }

    /// Every office with a record, in order of id, at the current size.
    pub fn offices(&self) -> impl Iterator<Item = &Office> {
        self.offices.keys().filter_map(|id| self.office(*id, self.size))
    }
}
