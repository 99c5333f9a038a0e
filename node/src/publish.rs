//! Records of this office that the directory does not have yet are published: new keys, and what the country's authority
//! signed for the office.

use std::{fs, sync::Arc, time::Duration};

use liaison_log::remote::within;
use liaison_proto::{
    ProtoMessage as _,
    failure::chain,
    ids::Lane,
    refusal::is_final_refusal,
    wire::{self, directory_client::DirectoryClient},
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

async fn publish(link: &Link, vault: &Vault, replica: &DirectoryReplica) -> Result<(), String> {
    for (path, bytes) in vault.keystore().unpublished().map_err(|e| chain(&e))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let record = wire::DirectoryRecord::decode(bytes.as_slice()).map_err(|_| format!("{name} is no record"))?;
        let seen_size = replica.directory().size();
        let mut directory = DirectoryClient::new(link.connections.lanes[Lane::Urgent as usize].clone());
        match within(CALL, directory.publish(wire::PublishRequest { record: Some(record), seen_size })).await {
            Ok(_) => {
                fs::remove_file(&path).map_err(|e| e.to_string())?;
                tracing::info!(record = name, "published");
            }
            Err(status) if is_final_refusal(&status) => {
                return Err(format!("the record {name} is not taken into the directory: {}", refusal_of(&status)));
            }
            Err(_) => return Err(format!("the record {name} is not published yet")),
        }
    }
    Ok(())
}
