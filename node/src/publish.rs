//! Records of this office that the directory does not have yet are published: new keys, and what the country's authority
//! signed for the office.

use std::{fs, path::Path, sync::Arc, time::Duration};

use liaison_log::remote::{RemoteLog, within};
use liaison_proto::{
    ProtoMessage as _,
    failure::chain,
    ids::Lane,
    refusal::is_final_refusal,
    sign::PayloadType,
    wire::{self, LogName, directory_client::DirectoryClient, directory_record::Record},
};

use crate::{
    directory::DirectoryReplica, health::Health, link::Link, retry::Backoff, store::StoreError, submit::refusal_of,
    vault::Vault,
};

const CALL: Duration = Duration::from_secs(30);
/// Between looks.
const LOOK: Duration = Duration::from_secs(2);

/// Publishes what is to be published, until the store stops.
///
/// # Errors
/// Never; the signature is that of every loop.
pub async fn run(
    link: Link,
    vault: Arc<Vault>,
    directory: Arc<DirectoryReplica>,
    health: Arc<Health>,
) -> Result<(), StoreError> {
    let mut backoff = Backoff::default();
    loop {
        let pause = match publish(&link, &vault, &directory).await {
            Ok(()) => {
                health.note("publish", None);
                backoff.reset();
                LOOK
            }
            Err(problem) => {
                health.note("publish", Some(problem));
                backoff.pause(link.entropy.as_ref())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Publishes each record that it can; says what is wrong with the first that it cannot.
async fn publish(link: &Link, vault: &Vault, replica: &DirectoryReplica) -> Result<(), String> {
    let mut problem = Ok(());
    for (path, bytes) in vault.keystore().unpublished().map_err(|e| chain(&e))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One bad record holds up no other.
        let Ok(record) = wire::DirectoryRecord::decode(bytes.as_slice()) else {
            put_aside(link, &path, format!("the record {name} is damaged, and is not published")).await?;
            continue;
        };
        let seen_size = replica.directory().size();
        let mut directory = DirectoryClient::new(link.connections.lanes[Lane::Urgent as usize].clone());
        match within(CALL, directory.publish(wire::PublishRequest { record: Some(record.clone()), seen_size })).await {
            Ok(_) => problem = problem.and(copied(link, replica, &path, &name).await),
            Err(status) if is_final_refusal(&status) => {
                let why = refusal_of(&status);
                // Signed by a key that was replaced before it went: the present one signs it, once.
                if let Some(anew) = signed_anew(&record, vault) {
                    vault.keystore().replace_record(&path, &anew.encode_to_vec()).map_err(|e| chain(&e))?;
                    problem = problem.and(Err(format!("the record {name} is signed anew: {why}")));
                    continue;
                }
                put_aside(link, &path, format!("the record {name} is not taken into the directory: {why}")).await?;
            }
            // The broker is not there, or takes nothing now.
            Err(_) => return Err(format!("the record {name} is not published yet")),
        }
    }
    problem
}

/// A record that will never be published is kept beside the others, and told of.
async fn put_aside(link: &Link, path: &Path, what: String) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    fs::rename(path, path.with_extension("refused")).map_err(|e| e.to_string())?;
    link.alarm(what, bytes.into()).await.map_err(|e| chain(&e))
}

/// Whoever ordered an entry is who has it when the broker loses it: it is here before it counts as done.
async fn copied(link: &Link, replica: &DirectoryReplica, path: &Path, name: &str) -> Result<(), String> {
    let source = RemoteLog::new(link.connections.lanes[Lane::Urgent as usize].clone(), LogName::Directory);
    replica.update(&source).await.map_err(|e| format!("the record {name} is not copied yet: {}", chain(&e)))?;
    fs::remove_file(path).map_err(|e| e.to_string())?;
    tracing::info!(record = name, "published");
    Ok(())
}

/// A KEY record by the office's present signing key, when it is by another one and the office is unlocked.
fn signed_anew(record: &wire::DirectoryRecord, vault: &Vault) -> Option<wire::DirectoryRecord> {
    let Some(Record::Key(key)) = &record.record else { return None };
    let keys = vault.office().ok()?;
    let signature = keys.signing.sign(PayloadType::KeyRecord, &key.key);
    if key.office_signature.as_ref() == Some(&signature) {
        return None;
    }
    let key = wire::KeyRecord { key: key.key.clone(), office_signature: Some(signature) };
    Some(wire::DirectoryRecord { record: Some(Record::Key(key)) })
}
