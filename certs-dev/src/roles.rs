//! Who gets which keys: countries, broker, offices, officers, auditors; and the charter that names them.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::{
        AuditorsEntry, BrokerEntry, Charter, CharterFile, CharterLimits, CorridorEntry, CountryEntry, LogEntry,
        QuorumEntry, SignatureFile, WitnessEntry,
    },
    clock::{DAY_MS, UnixMillis},
    entropy::Entropy,
    ids::{Country, OfficeId},
    key_file::PrivateKey,
    limits,
    officer::SignedCredential,
    seal::{DecryptionKey, Suite},
    sign::{PayloadType, SigningKey},
    wire::{self, directory_record::Record},
};
use time::OffsetDateTime;

use crate::{
    COMMENT, CertsError,
    authority::{Authority, Use, Validity},
    bad,
    files::{create_dir, private_file, write_file, write_tls},
    members::{Members, OfficeMember, OfficerMember},
    revocation::{self, List},
};

const CERTIFICATE_DAYS: i64 = 365;
const ENCRYPTION_KEY_DAYS: i64 = 30;

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// SHA-256 of charter.toml, hexadecimal: delivered by hand.
    pub fingerprint: String,
    /// The offices.
    pub offices: Vec<OfficeId>,
}

struct Maker<'a> {
    out: &'a Path,
    entropy: &'a dyn Entropy,
    now: UnixMillis,
    utc: OffsetDateTime,
    records: usize,
}

/// Makes a development charter in `out`, which must not exist.
///
/// # Errors
/// [`CertsError`].
pub fn make(out: &Path, members: &Members, now: UnixMillis, entropy: &dyn Entropy) -> Result<Made, CertsError> {
    if out.exists() {
        return Err(CertsError::Exists(out.to_path_buf()));
    }
    let utc = OffsetDateTime::from_unix_timestamp(now.0 / 1000).map_err(|e| CertsError::Members(e.to_string()))?;
    Maker { out, entropy, now, utc, records: 0 }.make(members)
}

fn public(key: &SigningKey) -> String {
    STANDARD.encode(key.verifying_key().as_bytes())
}

impl Maker<'_> {
    fn signing_key(&self, path: &Path) -> Result<SigningKey, CertsError> {
        let key = SigningKey::generate(self.entropy);
        PrivateKey::Signing(key.clone()).write(path, COMMENT)?;
        Ok(key)
    }

    fn validity(&self) -> Validity {
        Validity::days(self.utc, CERTIFICATE_DAYS)
    }

    fn make(mut self, members: &Members) -> Result<Made, CertsError> {
        let domain = &members.domain;
        create_dir(self.out)?;
        write_file(&self.out.join("DEVELOPMENT-ONLY"), format!("{COMMENT}\n").as_bytes())?;
        let mut authorities = BTreeMap::new();
        let mut signers = BTreeMap::new();
        let (mut countries, mut witnesses) = (Vec::new(), Vec::new());
        for member in &members.country {
            let code = member.code;
            let directory = self.out.join("countries").join(code.as_str());
            create_dir(&directory)?;
            let subtree = format!("{code}.{domain}").to_ascii_lowercase();
            let ca = Authority::new(&format!("{code} CA, development only"), &subtree, self.validity())?;
            write_file(&directory.join("ca.pem"), ca.certificate().as_bytes())?;
            private_file(&directory.join("ca.key"), ca.key().as_bytes())?;
            let authority = self.signing_key(&directory.join("authority.key"))?;
            let witness = self.signing_key(&directory.join("witness.key"))?;
            countries.push(CountryEntry {
                code,
                authority: public(&authority),
                ca: ca.certificate().to_owned(),
                contact_point: member.contact_point,
            });
            witnesses.push(WitnessEntry { country: code, name: format!("witness.{subtree}"), key: public(&witness) });
            authorities.insert(code, ca);
            signers.insert(code, authority);
        }
        let (broker, logs) = self.make_broker(domain)?;
        let auditors = self.make_auditors(members)?;
        let file = CharterFile {
            format: 1,
            number: 1,
            domain: domain.clone(),
            operator: members.operator,
            issued: self.now.to_string(),
            succession: None,
            require_post_quantum: false,
            limits: CharterLimits::built_in(),
            broker,
            auditors,
            quorum: QuorumEntry { witnesses: 3, faulty: 1, authorities: None },
            corridor: members.corridors.iter().map(|name| CorridorEntry { name: name.clone() }).collect(),
            country: countries,
            log: logs,
            witness: witnesses,
        };
        let charter = self.write_charter(&file, &signers)?;
        for office in &members.office {
            self.make_office(office, domain, &authorities, &signers)?;
        }
        if let [victim, other, ..] = bad_pair(members).as_slice() {
            let revoked = bad::write(&self.out.join("bad"), domain, &authorities, *victim, *other, self.utc)?;
            self.write_lists(members, victim.country(), &revoked)?;
        }
        let offices = members.office.iter().map(|office| office.id).collect();
        Ok(Made { fingerprint: charter.fingerprint(), offices })
    }

    fn make_broker(&self, domain: &str) -> Result<(BrokerEntry, Vec<LogEntry>), CertsError> {
        let directory = self.out.join("broker");
        create_dir(&directory)?;
        let tls_name = format!("broker.{domain}");
        let ca = Authority::new("broker CA, development only", &tls_name, self.validity())?;
        write_file(&directory.join("ca.pem"), ca.certificate().as_bytes())?;
        private_file(&directory.join("ca.key"), ca.key().as_bytes())?;
        write_tls(&directory, &ca.issue(std::slice::from_ref(&tls_name), Use::Server, self.validity())?)?;
        let evidence = self.signing_key(&directory.join("evidence.key"))?;
        let mut logs = Vec::new();
        for name in ["directory", "exchange"] {
            let key = self.signing_key(&directory.join(format!("log-{name}.key")))?;
            logs.push(LogEntry {
                name: name.to_owned(),
                origin: format!("{name}.{domain}"),
                key: public(&key),
                closed: None,
            });
        }
        let entry = BrokerEntry { tls_name, ca: ca.certificate().to_owned(), evidence_key: public(&evidence) };
        Ok((entry, logs))
    }

    /// A revocation list of every CA; one country's names one certificate.
    fn write_lists(&self, members: &Members, country: Country, revoked: &[u8]) -> Result<(), CertsError> {
        let directory = self.out.join("crl");
        create_dir(&directory)?;
        for member in &members.country {
            let own = if member.code == country { vec![revoked.to_vec()] } else { Vec::new() };
            let list = List::new(own, self.utc).sign(&self.out.join("countries").join(member.code.as_str()))?;
            revocation::put(&directory, &revocation::file_name(member.code), &list)?;
        }
        let list = List::new(Vec::new(), self.utc).sign(&self.out.join("auditors"))?;
        revocation::put(&directory, "auditors.crl", &list)
    }

    fn make_auditors(&self, members: &Members) -> Result<AuditorsEntry, CertsError> {
        let directory = self.out.join("auditors");
        create_dir(&directory)?;
        let subtree = format!("audit.{}", members.domain);
        let ca = Authority::new("auditors' CA, development only", &subtree, self.validity())?;
        write_file(&directory.join("ca.pem"), ca.certificate().as_bytes())?;
        private_file(&directory.join("ca.key"), ca.key().as_bytes())?;
        for name in &members.auditors {
            let issued = ca.issue(&[format!("{name}.{subtree}")], Use::Client, self.validity())?;
            write_tls(&directory.join(name), &issued)?;
        }
        Ok(AuditorsEntry { ca: ca.certificate().to_owned(), names: members.auditors.clone() })
    }

    fn write_charter(
        &mut self,
        file: &CharterFile,
        signers: &BTreeMap<Country, SigningKey>,
    ) -> Result<Charter, CertsError> {
        let body = toml::to_string(file).map_err(|e| CertsError::Members(e.to_string()))?;
        let text = format!("# Charter of Liaison. {COMMENT}.\n\n{body}");
        let charter = Charter::parse(Bytes::from(text))?;
        let mut signatures = SignatureFile::default();
        for (country, key) in signers {
            signatures.sign(*country, charter.bytes(), key);
        }
        let charter = Charter::first(Bytes::copy_from_slice(charter.bytes()), signatures.to_wire())?;
        write_file(&self.out.join("charter.toml"), charter.bytes())?;
        let text = toml::to_string(&signatures).map_err(|e| CertsError::Members(e.to_string()))?;
        write_file(&self.out.join("charter.sig"), text.as_bytes())?;
        let bytes = Bytes::copy_from_slice(charter.bytes());
        self.write_record(Record::Charter(wire::CharterRecord { charter: bytes, signatures: signatures.to_wire() }))?;
        Ok(charter)
    }

    /// Records are numbered in the order in which the directory log must take them.
    fn write_record(&mut self, record: Record) -> Result<(), CertsError> {
        let directory = self.out.join("records");
        create_dir(&directory)?;
        self.records += 1;
        let path = directory.join(format!("{:04}.record", self.records));
        write_file(&path, &wire::DirectoryRecord { record: Some(record) }.encode_to_vec())
    }

    fn make_office(
        &mut self,
        member: &OfficeMember,
        domain: &str,
        authorities: &BTreeMap<Country, Authority>,
        signers: &BTreeMap<Country, SigningKey>,
    ) -> Result<(), CertsError> {
        let country = member.id.country();
        let (Some(ca), Some(authority)) = (authorities.get(&country), signers.get(&country)) else {
            return Err(CertsError::Members(format!("no country for {}", member.id)));
        };
        let directory = self.out.join("offices").join(member.id.to_string());
        create_dir(&directory)?;
        write_tls(&directory, &ca.issue(&[member.id.dns_name(domain)], Use::Client, self.validity())?)?;
        let signing = self.signing_key(&directory.join("signing.key"))?;
        let receipt = self.signing_key(&directory.join("receipt.key"))?;
        let office: Bytes = wire::Office {
            version: 1,
            office: member.id.to_string(),
            names: member.names.clone(),
            gate: member.gate.clone(),
            signing_key: Bytes::copy_from_slice(signing.verifying_key().as_bytes()),
            receipt_key: Bytes::copy_from_slice(receipt.verifying_key().as_bytes()),
            serial: 1,
            previous_sha256: Bytes::new(),
        }
        .encode_to_vec()
        .into();
        let authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &office));
        self.write_record(Record::Office(wire::OfficeRecord { office, authority_signature }))?;
        for suite in Suite::ALL {
            self.make_encryption_key(member.id, suite, &signing, &directory)?;
        }
        for officer in &member.officers {
            self.make_officer(member.id, officer, &signing, &directory.join("officers"))?;
        }
        Ok(())
    }

    fn make_encryption_key(
        &mut self,
        office: OfficeId,
        suite: Suite,
        signing: &SigningKey,
        directory: &Path,
    ) -> Result<(), CertsError> {
        let (secret, public) = DecryptionKey::generate(suite, self.entropy);
        let name = match suite {
            Suite::X25519 => "encryption-x25519.key",
            Suite::XWing => "encryption-xwing.key",
        };
        PrivateKey::Decryption(secret).write(&directory.join(name), COMMENT)?;
        let key: Bytes = wire::EncryptionKey {
            version: 1,
            office: office.to_string(),
            suite: suite.to_wire(),
            public_key: public.bytes().clone(),
            not_before_ms: self.now.plus(-DAY_MS).0,
            not_after_ms: self.now.plus(ENCRYPTION_KEY_DAYS * DAY_MS).0,
        }
        .encode_to_vec()
        .into();
        let office_signature = Some(signing.sign(PayloadType::KeyRecord, &key));
        self.write_record(Record::Key(wire::KeyRecord { key, office_signature }))
    }

    fn make_officer(
        &self,
        office: OfficeId,
        member: &OfficerMember,
        office_key: &SigningKey,
        directory: &Path,
    ) -> Result<(), CertsError> {
        create_dir(directory)?;
        let key = self.signing_key(&directory.join(format!("{}.key", member.id)))?;
        let role = wire::Role::from_str_name(&format!("ROLE_{}", member.role))
            .ok_or_else(|| CertsError::Members(format!("role {} of {}", member.role, member.id)))?;
        let not_before = self.now.plus(-DAY_MS);
        let credential = wire::OfficerCredential {
            version: 1,
            office: office.to_string(),
            officer_id: member.id.clone(),
            display_name: member.name.clone(),
            role: role.into(),
            public_key: Bytes::copy_from_slice(key.verifying_key().as_bytes()),
            not_before_ms: not_before.0,
            not_after_ms: not_before.plus(limits::CREDENTIAL_DAYS * DAY_MS).0,
            serial: 1,
        };
        let signed = SignedCredential::issue(&credential, office_key);
        write_file(&directory.join(format!("{}.credential", member.id)), &signed.to_stored())
    }
}

/// Two border liaison offices of different countries, for the bad certificates.
fn bad_pair(members: &Members) -> Vec<OfficeId> {
    let mut pair: Vec<OfficeId> = Vec::new();
    for office in members.office.iter().map(|office| office.id) {
        let is_border = office.tier() == liaison_proto::ids::Tier::Blo;
        if is_border && pair.iter().all(|known| known.country() != office.country()) {
            pair.push(office);
        }
    }
    pair
}
