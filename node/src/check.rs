//! `node check`: keys, directory, store, bodies, key table and attachments of a stopped node. Nothing is changed.

use std::sync::Arc;

use liaison_link::{
    charter_files::Charters,
    process::lock_directory,
    time::FlooredTime,
    tls::{self, Identity},
};
use liaison_log::{
    disk::{Disk, os_disks, overlay::OverlayDisk},
    mirror::Mirror,
};
use liaison_proto::{
    charter::Charter,
    clock::{SystemClock, UnixMillis},
    failure::chain,
    file_sha256,
    header::Header,
    ids::MessageId,
    sha256, wire,
};
use serde_json::{Value, json};

use crate::{
    attachments::{AttachmentFiles, Name},
    config::Config,
    init::{NodeError, disk, io_failed, keystore},
    key_table::KeyTable,
    keystore::Keystore,
    state::Submission,
    store::Store,
};

/// What can be read of the keys without a passphrase.
fn check_keystore(keystore: &Keystore, charter: &Charter) -> Vec<String> {
    let (certificate, key) = keystore.tls();
    let time = FlooredTime::new(Arc::new(SystemClock), charter, UnixMillis(0));
    let identity = Identity::read(&certificate, &key);
    let usable = identity.and_then(|identity| tls::client_config(&charter.file().broker.ca, identity, false, time));
    let found = [
        keystore.receipt_key().err().map(|error| chain(&error)),
        keystore.public_keys().err().map(|error| chain(&error)),
        keystore.credentials().err().map(|error| chain(&error)),
        usable.err().map(|error| chain(&error)),
    ];
    found.into_iter().flatten().map(|problem| format!("keystore: {problem}")).collect()
}

/// Checks a stopped node: what was read, what is worth knowing, what is wrong.
///
/// # Errors
/// When it runs, or its configuration cannot be used; what is wrong with its data is in the report.
pub fn run(config: &Config) -> Result<Value, NodeError> {
    if !config.data.is_dir() {
        return Err(NodeError::Missing(config.data.clone()));
    }
    let _lock = lock_directory(&config.data).map_err(io_failed("locking the data directory"))?;
    let (mut read, mut notes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let charters = Charters::open(&config.charter, Some(&config.charter_sha256), config.data.join("charters"))?;
    problems.extend(check_keystore(&keystore(config), &charters.get()));
    if let Err(error) =
        Mirror::open(disk(config, &os_disks(), "directory"), charters.get().directory_log().clone(), u64::MAX)
    {
        notes.push(format!("the copy of the directory log is damaged, and will be fetched again: {error}"));
    }
    let overlay: Arc<dyn Disk> = Arc::new(OverlayDisk::new(disk(config, &os_disks(), "store")));
    let store = match Store::open(&overlay, config.segment_bytes(), 0, config.office) {
        Ok(store) => store,
        Err(error) => {
            problems.push(format!("store: {}", chain(&error)));
            return Ok(json!({"read": read, "notes": notes, "problems": problems}));
        }
    };
    let keys = KeyTable::open(overlay.as_ref());
    if let Err(error) = &keys {
        problems.push(format!("key table: {error}"));
    }
    let state = store.state();
    let files = AttachmentFiles::at(config.data.join("attachments"));
    let mut bodies = 0;
    let mut check = |id: MessageId, header: &Header, envelope: std::io::Result<wire::Envelope>, has_key: bool| {
        match envelope {
            Ok(envelope) if sha256(&[&envelope.body])[..] == header.commitments().body_sha256[..] => bodies += 1,
            Ok(_) => problems.push(format!("the body of message {id} is not the one its header names")),
            Err(error) => problems.push(format!("the body of message {id} cannot be read: {error}")),
        }
        if has_key && keys.as_ref().is_ok_and(|keys| !keys.has(id)) {
            problems.push(format!("message {id} was opened, and its key is not in the key table"));
        }
        for attachment in &header.commitments().attachments {
            let Ok(name) = Name::try_from(attachment.sha256.as_ref()) else { continue };
            match file_sha256(&files.path(&name)) {
                Ok(found) if found == name => {}
                Ok(_) => problems.push(format!("an attachment of message {id} is damaged")),
                Err(_) if state.to_download.contains_key(&name) => {
                    notes.push(format!("an attachment of message {id} is still to come"));
                }
                Err(_) => problems.push(format!("an attachment of message {id} is missing")),
            }
        }
    };
    for (id, outgoing) in &state.outgoing {
        if let Some(body) = outgoing.body.filter(|_| outgoing.submission != Submission::Cancelled) {
            check(*id, &outgoing.header, store.envelope(&outgoing.header, outgoing.signature.as_ref(), body), true);
        }
    }
    for (id, incoming) in &state.incoming {
        let envelope = store.envelope(&incoming.header, incoming.signature.as_ref(), incoming.body);
        let retrieved = incoming.statements.contains_key(&i32::from(wire::StatementKind::Retrieved));
        check(*id, &incoming.header, envelope, retrieved);
    }
    read.push(format!("store: {} sent, {} received, {bodies} bodies", state.outgoing.len(), state.incoming.len()));
    for (channel, numbers) in state.missing_numbers() {
        notes.push(format!("from {} {:?} the numbers {numbers:?} are missing", channel.from, channel.lane));
    }
    Ok(json!({"read": read, "notes": notes, "problems": problems}))
}
