//! Keys at rest and unlocked keys.

use std::{path::Path, sync::Arc};

use liaison_certs_dev::{members::Members, roles};
use liaison_link::local::PeerUid;
use liaison_log::disk::{Disk, OsDisk};
use liaison_node::{
    key_table::{KeyTable, KeyTableError},
    keystore::{Keystore, KeystoreError},
    vault::Vault,
};
use liaison_proto::{
    clock::{ManualClock, UnixMillis},
    entropy::OsEntropy,
    ids::MessageId,
    key_file::PrivateKey,
    seal::ContentKey,
};

use crate::support::copy_directory;

const PASSPHRASE: &[u8] = b"first passphrase";

fn keystore(directory: &Path) -> Keystore {
    roles::make(&directory.join("dev"), &Members::built_in().unwrap(), UnixMillis(1_800_000_000_000), &OsEntropy)
        .unwrap();
    let keystore = Keystore::new(directory.join("keystore"));
    keystore.import(&directory.join("dev/offices/VN-BLO-LCA"), PASSPHRASE, &OsEntropy).unwrap();
    keystore
}

/// An unlocked key lives some minutes, serves only the user who unlocked it, and a wrong passphrase opens nothing.
#[test]
fn an_unlocked_key_lives_some_minutes_and_is_bound_to_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let log = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let vault = Vault::new(
        keystore(directory.path()),
        Arc::<ManualClock>::clone(&log),
        Arc::<ManualClock>::clone(&clock),
        600_000,
    );
    let (lan, other) = (PeerUid(1000), PeerUid(1001));
    assert!(matches!(vault.unlock(lan, "nguyen.lan", b"wrong", &OsEntropy), Err(KeystoreError::WrongPassphrase)));
    assert!(matches!(
        vault.unlock(lan, "../../etc/passwd", PASSPHRASE, &OsEntropy),
        Err(KeystoreError::UnknownOfficer(_))
    ));
    assert!(vault.officer(lan).is_err() && vault.office().is_err());
    vault.unlock(lan, "nguyen.lan", PASSPHRASE, &OsEntropy).unwrap();
    assert_eq!(vault.officer(lan).unwrap().officer_id, "nguyen.lan");
    assert!(vault.officer(other).is_err(), "another user signs with her key");
    clock.advance(599_000);
    // A broker whose clock is ahead ends nobody's session.
    log.advance(3_600_000);
    assert!(vault.officer(lan).is_ok());
    clock.advance(2_000);
    assert!(vault.officer(lan).is_err(), "her key outlived its minutes");
    assert!(vault.office().is_ok(), "the office still opens what arrives");
    vault.lock();
    assert!(vault.office().is_err());
}

/// Nor does whoever sets the clock of the machine back make a session longer.
#[tokio::test(start_paused = true)]
async fn a_session_ends_also_when_the_clock_stands_still() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let now = || Arc::<ManualClock>::clone(&clock);
    let vault = Vault::new(keystore(directory.path()), now(), now(), 600_000);
    vault.unlock(PeerUid(1000), "nguyen.lan", PASSPHRASE, &OsEntropy).unwrap();
    tokio::time::advance(std::time::Duration::from_secs(599)).await;
    assert!(vault.officer(PeerUid(1000)).is_ok());
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert!(vault.officer(PeerUid(1000)).is_err());
}

/// A changed passphrase opens, the old one does not, and the other officer's is as it was.
#[test]
fn a_passphrase_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let keystore = keystore(directory.path());
    keystore.change_passphrase("nguyen.lan", PASSPHRASE, b"second", &OsEntropy).unwrap();
    assert!(matches!(keystore.unlock("nguyen.lan", PASSPHRASE), Err(KeystoreError::WrongPassphrase)));
    keystore.unlock("nguyen.lan", b"second").unwrap();
    keystore.unlock("tran.hung", PASSPHRASE).unwrap();
}

/// A stolen disk: no secret of office or officer stands readable in the keystore, but for those that work while locked.
#[test]
fn a_stolen_disk_holds_no_readable_secret() {
    let directory = tempfile::tempdir().unwrap();
    let _ = keystore(directory.path());
    let dev = directory.path().join("dev/offices/VN-BLO-LCA");
    let secret =
        |name: &str| std::fs::read_to_string(dev.join(name)).unwrap().split(' ').next_back().unwrap().trim().to_owned();
    let mut everything = Vec::new();
    for place in ["keystore", "keystore/slots"] {
        for entry in std::fs::read_dir(directory.path().join(place)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(
                    path.metadata().unwrap().permissions().mode() & 0o077,
                    0,
                    "{} is readable by others",
                    path.display()
                );
                everything.extend(std::fs::read(path).unwrap());
            }
        }
    }
    let holds = |words: &str| everything.windows(words.len()).any(|window| window == words.as_bytes());
    for name in ["signing.key", "encryption-xwing.key", "encryption-x25519.key", "officers/nguyen.lan.key"] {
        assert!(!holds(&secret(name)), "{name} is readable");
    }
    assert!(holds(&secret("receipt.key")), "the receipt key works while the node is locked");
}

/// Content keys survive a restart, under the storage key only.
#[test]
fn content_keys_survive_a_restart_under_the_storage_key_only() {
    let directory = tempfile::tempdir().unwrap();
    let keystore = keystore(directory.path());
    let (keys, _) = keystore.unlock("nguyen.lan", PASSPHRASE).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(directory.path().join("store")));
    std::fs::create_dir_all(directory.path().join("store")).unwrap();
    KeyTable::create(disk.as_ref()).unwrap();
    let id = |n: i64| MessageId::new(UnixMillis(n), &OsEntropy);
    let (thread, first, second) = (id(1), id(2), id(3));
    let (one, two) = (ContentKey::generate(&OsEntropy), ContentKey::generate(&OsEntropy));
    let table = KeyTable::open(disk.as_ref()).unwrap();
    table.put(&[(thread, first, &one)], &keys.storage, &OsEntropy).unwrap();
    table.put(&[(thread, second, &two)], &keys.storage, &OsEntropy).unwrap();
    drop(table);
    let table = KeyTable::open(disk.as_ref()).unwrap();
    assert_eq!(table.find(thread, first, &keys.storage).unwrap().as_bytes(), one.as_bytes());
    assert_eq!(table.find(thread, second, &keys.storage).unwrap().as_bytes(), two.as_bytes());
    assert!(matches!(table.find(thread, id(4), &keys.storage), Err(KeyTableError::Missing)));
    let other = Keystore::new(directory.path().join("other"));
    other.import(&directory.path().join("dev/offices/CN-BLO-HKO"), PASSPHRASE, &OsEntropy).unwrap();
    let (other, _) = other.unlock("wang.fang", PASSPHRASE).unwrap();
    assert!(matches!(table.find(thread, first, &other.storage), Err(KeyTableError::Seal(_))));
}

/// The keys at rest are replaced: every stored message stays readable, each officer unlocks, however many changes ago they
/// last did, and whoever has a copy of the keystore of before, and a passphrase, opens nothing of what is there now. What a
/// crash left half done is done at the next unlocking.
#[test]
fn keys_at_rest_are_replaced_and_the_ones_before_open_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let keystore = keystore(directory.path());
    let stolen = directory.path().join("stolen");
    copy_directory(&directory.path().join("keystore"), &stolen);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(directory.path().join("store")));
    std::fs::create_dir_all(directory.path().join("store")).unwrap();
    KeyTable::create(disk.as_ref()).unwrap();
    let table = KeyTable::open(disk.as_ref()).unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let now = || Arc::<ManualClock>::clone(&clock);
    let vault = || Vault::new(keystore.clone(), now(), now(), 600_000);
    let lan = PeerUid(1000);
    let id = |n: i64| MessageId::new(UnixMillis(n), &OsEntropy);
    let kept: Vec<_> = (0..40).map(|n| (id(n / 4), id(100 + n), ContentKey::generate(&OsEntropy))).collect();
    let first = vault();
    first.unlock(lan, "nguyen.lan", PASSPHRASE, &OsEntropy).unwrap();
    let before = first.office().unwrap().storage.clone();
    for (thread, message, key) in &kept {
        table.put(&[(*thread, *message, key)], &before, &OsEntropy).unwrap();
    }
    let readable = |vault: &Vault, table: &KeyTable| {
        let storage = vault.office().unwrap().storage.clone();
        kept.iter().all(|(thread, message, key)| {
            table.find(*thread, *message, &storage).is_ok_and(|found| found.as_bytes() == key.as_bytes())
        })
    };
    let behind = first.renew_at_rest(&table, disk.as_ref(), &OsEntropy).unwrap();
    assert_eq!(behind, ["nguyen.lan", "tran.hung"]);
    assert!(readable(&first, &table));
    let (thread, message, key) = &kept[0];
    let late = table.put(&[(*thread, *message, key)], &before, &OsEntropy);
    assert!(matches!(late, Err(KeyTableError::Retired)), "a key was sealed under one that is forgotten");

    // Once more, cut short before the table was sealed anew; by an officer whose slot is one change behind.
    let second = vault();
    second.unlock(lan, "nguyen.lan", PASSPHRASE, &OsEntropy).unwrap();
    keystore.renew_at_rest(&second.office().unwrap(), &OsEntropy).unwrap();
    let table = KeyTable::open(disk.as_ref()).unwrap();
    let third = vault();
    third.unlock(lan, "tran.hung", PASSPHRASE, &OsEntropy).unwrap();
    assert!(readable(&third, &table));
    third.finish_at_rest(&table, disk.as_ref(), &OsEntropy).unwrap();
    let table = KeyTable::open(disk.as_ref()).unwrap();
    assert!(readable(&third, &table));
    assert_eq!(keystore.behind().unwrap(), ["nguyen.lan"]);
    let last = vault();
    last.unlock(lan, "nguyen.lan", PASSPHRASE, &OsEntropy).unwrap();
    assert!(readable(&last, &table) && keystore.behind().unwrap().is_empty());

    assert!(matches!(table.find(*thread, *message, &before), Err(KeyTableError::Seal(_))));
    std::fs::copy(directory.path().join("keystore/office.sealed"), stolen.join("office.sealed")).unwrap();
    assert!(Keystore::new(&stolen).unlock("nguyen.lan", PASSPHRASE).is_err(), "a stolen slot opens the keys of today");
    assert!(!directory.path().join("keystore/office.links").exists());
}

/// A key file that others can read is refused, with what to type.
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let _ = keystore(directory.path());
    let path = directory.path().join("dev/offices/VN-BLO-LCA/signing.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = PrivateKey::read_signing(&path).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
