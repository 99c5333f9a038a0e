//! How a charter follows the one before.
//!
//! Invariants:
//! - A quorum of the authorities of the charter before has signed, and so has every authority key that is new.
//! - No key changes its purpose, and none that was replaced comes back: whoever stole it must stay out.
//! - The parties' names stay what they are; a log keeps its origin, or says at which size the one before was closed.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Charter, CharterError, FormerLog, LogEntry, LogIdentity,
    rules::{self, rule},
};
use crate::{Bytes, clock::UnixMillis, limits, wire};

impl Charter {
    /// The charter that follows this one.
    ///
    /// # Errors
    /// [`CharterError`] when it does not, or is not signed as it must be.
    pub fn succeed(
        self: &Arc<Self>,
        bytes: Bytes,
        signatures: Vec<wire::CountrySignature>,
    ) -> Result<Self, CharterError> {
        let mut next = Self::parse(bytes)?;
        check_continuity(self, &next)?;
        check_keys(self, &next)?;
        let until = next.overlap_end();
        next.directory_log.former = former(&self.directory_log, &next.directory_log, log(&next, "directory"), until);
        next.exchange_log.former = former(&self.exchange_log, &next.exchange_log, log(&next, "exchange"), until);
        let needed = self.file().quorum.authorities(self.countries().len());
        let signed = self.countries().iter().filter(|country| next.is_signed(&signatures, country).is_ok()).count();
        if signed < needed {
            return Err(CharterError::Quorum { signed, needed });
        }
        // Who has a new key shows that it has it, and agrees.
        for country in next.countries() {
            if self.country(country.code).is_none_or(|before| before.authority != country.authority) {
                next.is_signed(&signatures, country)?;
            }
        }
        next.signatures = signatures;
        next.before = Some(Arc::clone(self));
        Ok(next)
    }
}

fn log<'a>(charter: &'a Charter, name: &str) -> Option<&'a LogEntry> {
    charter.file().log.iter().find(|log| log.name == name)
}

fn check_continuity(before: &Charter, next: &Charter) -> Result<(), CharterError> {
    let succession = next.file().succession.as_ref();
    let follows = next.number() == before.number() + 1
        && succession.is_some_and(|s| s.previous_sha256.eq_ignore_ascii_case(&before.fingerprint()));
    if !follows {
        return Err(rule(format!("no. {} does not follow no. {} that is held here", next.number(), before.number())));
    }
    if succession.is_some_and(|s| s.overlap_days > limits::CHARTER_OVERLAP_DAYS) {
        return Err(rule(format!("an overlap is at most {} days", limits::CHARTER_OVERLAP_DAYS)));
    }
    if next.issued() < before.issued() {
        return Err(rule("it was issued before the charter that it follows"));
    }
    let names = |charter: &Charter| (charter.file().domain.clone(), charter.file().broker.tls_name.clone());
    if names(next) != names(before) {
        return Err(rule("the domain or the broker's name is another one"));
    }
    for name in ["directory", "exchange"] {
        let (Some(old), Some(new)) = (log(before, name), log(next, name)) else { continue };
        match &new.closed {
            None if old.origin == new.origin => {}
            None => return Err(rule(format!("the origin of log {name} is another one, and no log was closed"))),
            Some(_) if name == "directory" => {
                return Err(rule("the directory log has no successor: every node holds it"));
            }
            Some(_) if before.chain().any(|charter| log(charter, name).is_some_and(|log| log.origin == new.origin)) => {
                return Err(rule("the successor of a closed log has an origin of its own"));
            }
            Some(closed) => {
                let is_root = |root: &str| STANDARD.decode(root).is_ok_and(|root| root.len() == 32);
                if closed.lost_size <= closed.size || !is_root(&closed.root) || !is_root(&closed.lost_root) {
                    return Err(rule("a closed log has two roots, and its lost size is the larger one"));
                }
            }
        }
    }
    Ok(())
}

fn check_keys(before: &Charter, next: &Charter) -> Result<(), CharterError> {
    let present = rules::keys(before)?;
    for (purpose, key) in rules::keys(next)? {
        if present.iter().any(|known| *known == (purpose.clone(), key)) {
            continue;
        }
        for charter in before.chain() {
            if rules::keys(charter)?.iter().any(|(_, known)| *known == key) {
                return Err(rule(format!("the key of {purpose} was used before; new keys are new")));
            }
        }
    }
    Ok(())
}

/// What signed for a log before its present key did.
fn former(before: &LogIdentity, next: &LogIdentity, entry: Option<&LogEntry>, until: UnixMillis) -> Vec<FormerLog> {
    let mut former = before.former.clone();
    if (&before.origin, &before.key) != (&next.origin, &next.key) {
        former.push(FormerLog { origin: before.origin.clone(), key: before.key, closed: None, until });
    }
    if let Some(closed) = entry.and_then(|entry| entry.closed.as_ref()) {
        for log in former.iter_mut().filter(|log| log.origin == before.origin) {
            log.closed = Some(closed.size);
        }
    }
    former
}
