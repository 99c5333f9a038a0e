//! Certificate revocation lists (RFC 5280), one per CA of the charter: `vn.crl`, ..., `auditors.crl`, PEM or DER, in a
//! directory that a transfer job fills. While a charter lets a CA hold that it replaced, the list of that one lies beside it
//! as `vn-former.crl`; which CA a list is of is what its signature says.
//!
//! A list that is late, missing or not its CA's never stops traffic (promise 10):
//! the newest good one goes on being used, and what is accepted meanwhile is marked.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use liaison_link::tls::{TlsError, provider, roots};
use liaison_proto::{
    charter::Charter,
    clock::{DAY_MS, HOUR_MS, UnixMillis},
    failure::chain,
};
use rustls::{
    Error,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use crate::party::Party;

/// A list with more than that is not read, bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Name of the auditors' list.
pub(crate) const AUDITORS: &str = "auditors";

/// A list that its CA signed.
#[derive(Clone, Debug)]
pub struct List {
    der: CertificateRevocationListDer<'static>,
    issued: UnixMillis,
    next_update: UnixMillis,
    revoked: Vec<Vec<u8>>,
}

/// What is known about one CA's list.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The file that it is looked for in.
    file: String,
    list: Option<List>,
    /// Why the file there now is not used.
    problem: Option<String>,
}

/// The lists of every CA: by the name of its list, and its certificate.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    lists: BTreeMap<(String, String), Known>,
    grace_ms: i64,
}

/// The CAs whose certificates may be presented under a name of lists, PEM, the newest first, with the end of each.
pub(crate) fn cas<'a>(charter: &'a Charter, name: &str) -> Vec<(Option<UnixMillis>, &'a str)> {
    let mut cas: Vec<(Option<UnixMillis>, &str)> = Vec::new();
    for (charter, until) in charter.generations() {
        let mut countries = charter.countries().iter();
        let pem = match name {
            AUDITORS => Some(charter.file().auditors.ca.as_str()),
            _ => countries.find(|c| c.code.as_str().eq_ignore_ascii_case(name)).map(|c| c.ca_pem.as_str()),
        };
        // One that is named again holds as long as where it is named last.
        if let Some(pem) = pem.filter(|pem| cas.iter().all(|(_, known)| known != pem)) {
            cas.push((until, pem));
        }
    }
    cas
}

/// Name of the list that a party's certificate is looked up in.
fn issuer(party: &Party) -> String {
    match party {
        Party::Office(office) => office.country().as_str().to_ascii_lowercase(),
        Party::Auditor(_) => AUDITORS.to_owned(),
    }
}

fn read(path: &Path, ca_pem: &str, now: UnixMillis) -> Result<Option<List>, String> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("cannot be read: {e}")),
    };
    if size > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    let der = match CertificateRevocationListDer::from_pem_slice(&bytes) {
        Ok(der) => der,
        Err(_) => CertificateRevocationListDer::from(bytes),
    };
    let (rest, list) = parse_x509_crl(&der).map_err(|_| "is no certificate revocation list")?;
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|_| "has a CA that is no PEM")?;
    let (_, ca) = parse_x509_certificate(&ca).map_err(|_| "has a CA that cannot be read")?;
    if !rest.is_empty() || list.issuer() != ca.subject() || list.verify_signature(ca.public_key()).is_err() {
        return Err("is not signed by the CA in the charter".into());
    }
    let next_update = list.next_update().ok_or("does not say when the next one comes")?;
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1000));
    // It would make every later one "older".
    if millis(list.last_update().timestamp()) > now.plus(DAY_MS) {
        return Err("says that it was issued in the future".into());
    }
    // What TLS does not take must not keep the broker from serving everybody else.
    let enforced = CertificateRevocationListDer::from(der.as_ref().to_vec());
    client_verifier(ca_pem, Some(enforced.clone()), &Arc::new(provider(false)))
        .map_err(|error| format!("cannot be enforced: {}", chain(&error)))?;
    Ok(Some(List {
        issued: millis(list.last_update().timestamp()),
        next_update: millis(next_update.timestamp()),
        revoked: list.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()).collect(),
        der: enforced,
    }))
}

impl Revocations {
    /// Reads the lists of a directory; where a file is missing or wrong, the list known before stays.
    #[must_use]
    pub fn read(directory: &Path, charter: &Charter, grace_hours: u32, before: &Self, now: UnixMillis) -> Self {
        let names = charter.countries().iter().map(|c| c.code.as_str().to_ascii_lowercase());
        let mut lists = BTreeMap::new();
        for name in names.chain([AUDITORS.to_owned()]) {
            let cas = cas(charter, &name).into_iter().filter(|(until, _)| until.is_none_or(|until| now < until));
            for (until, ca) in cas {
                let key = (name.clone(), ca.to_owned());
                let kept = before.lists.get(&key).and_then(|known| known.list.clone());
                let mut file = format!("{name}.crl");
                let mut found = read(&directory.join(&file), ca, now);
                if until.is_some() && !matches!(found, Ok(Some(_))) {
                    file = format!("{name}-former.crl");
                    found = read(&directory.join(&file), ca, now);
                }
                let (list, problem) = match found {
                    // One that is older than what is known would bring back what was revoked since.
                    Ok(Some(list)) if kept.as_ref().is_none_or(|kept| kept.issued <= list.issued) => (Some(list), None),
                    Ok(Some(_)) => (kept, Some("is older than one read before".into())),
                    Ok(None) if until.is_some() => (kept, Some("is missing: that of the CA before the charter".into())),
                    Ok(None) => (kept, Some("is missing".into())),
                    Err(problem) => (kept, Some(problem)),
                };
                lists.insert(key, Known { file, list, problem });
            }
        }
        Self { lists, grace_ms: i64::from(grace_hours) * HOUR_MS }
    }

    /// The list for a CA, to be enforced.
    pub(crate) fn list(&self, name: &str, ca_pem: &str) -> Option<CertificateRevocationListDer<'static>> {
        self.lists.get(&(name.to_owned(), ca_pem.to_owned()))?.list.as_ref().map(|list| list.der.clone())
    }

    /// What is known of a party's CA, and of those that it had.
    fn known(&self, party: &Party) -> impl Iterator<Item = &Known> {
        let name = issuer(party);
        self.lists.iter().filter(move |((list, _), _)| *list == name).map(|(_, known)| known)
    }

    /// Whether a party's certificate is on its CA's list.
    #[must_use]
    pub fn is_revoked(&self, party: &Party, serial: &[u8]) -> bool {
        let mut lists = self.known(party).filter_map(|known| known.list.as_ref());
        lists.any(|list| list.revoked.iter().any(|revoked| revoked == serial))
    }

    /// Whether what a party sends is marked: its CA's list is missing, or older than its next update and the grace.
    #[must_use]
    pub fn is_stale(&self, party: &Party, now: UnixMillis) -> bool {
        let stale = |list: &List| now > list.next_update.plus(self.grace_ms);
        self.known(party).any(|known| known.list.as_ref().is_none_or(stale))
    }

    /// What a human should look after, a line each.
    #[must_use]
    pub fn problems(&self, now: UnixMillis) -> Vec<String> {
        let line = |known: &Known| {
            let name = &known.file;
            let late = known.list.as_ref().filter(|list| now > list.next_update);
            match (late, &known.problem) {
                (Some(list), _) => Some(format!(
                    "the revocation list {name} should have been renewed at {}; {}",
                    list.next_update,
                    if now > list.next_update.plus(self.grace_ms) {
                        "messages from there are marked"
                    } else {
                        "within the grace nothing is marked"
                    }
                )),
                (None, Some(problem)) => Some(format!("the revocation list {name} {problem}")),
                (None, None) => None,
            }
        };
        self.lists.values().filter_map(line).collect()
    }
}

/// The verifier of one CA's certificates, with its list.
///
/// # Errors
/// When the CA is not usable, or the list cannot be enforced.
pub(crate) fn client_verifier(
    ca_pem: &str,
    list: Option<CertificateRevocationListDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(ca_pem, "a CA in the charter")?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(list) = list {
        builder = builder.with_crls([list]).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    builder.build().map_err(|e| TlsError::Rustls(Error::General(e.to_string())))
}
