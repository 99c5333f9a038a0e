//! What nothing can be faster than: the named operations alone, each on one core, and the two parallel syncs of a commit.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::mpsc, thread};

use liaison_proto::{
    clock::UnixMillis,
    entropy::OsEntropy,
    ids::MessageId,
    seal::{ContentKey, DecryptionKey, Suite},
    sign::{PayloadType, SigningKey},
};

use crate::measure::{Round, now};

/// Bytes that the two files are written full of before.
const PREWRITTEN: usize = 16 << 20;
/// What a commit of one message writes to each file.
const WRITTEN: usize = 4096;

fn timed(count: usize, mut operation: impl FnMut(usize)) -> Round {
    let mut latencies = Vec::with_capacity(count);
    let begin = now();
    for number in 0..count {
        let begin = now();
        operation(number);
        latencies.push(begin.elapsed());
    }
    Round::new(begin.elapsed(), latencies)
}

/// Strict verification of different signatures of headers of 600 bytes, one core.
pub(crate) fn strict_verification(count: usize) -> Round {
    let key = SigningKey::generate(&OsEntropy);
    let verifying = key.verifying_key();
    let headers: Vec<(Vec<u8>, _)> = (0..256_u32)
        .map(|number| {
            let mut header = vec![0x5a; 600];
            header[..4].copy_from_slice(&number.to_le_bytes());
            let signature = key.sign(PayloadType::Header, &header);
            (header, signature)
        })
        .collect();
    timed(count, |number| {
        let (header, signature) = &headers[number % headers.len()];
        assert!(verifying.verify(PayloadType::Header, header, Some(signature)).is_ok(), "a good signature is refused");
    })
}

/// Signing, one core.
pub(crate) fn signing(count: usize) -> Round {
    let key = SigningKey::generate(&OsEntropy);
    let header = vec![0x5a; 600];
    timed(count, |_| {
        std::hint::black_box(key.sign(PayloadType::Header, &header));
    })
}

/// Sealing 2 KiB to one office with the hybrid suite, and opening it, one core each.
pub(crate) fn sealing_and_opening(count: usize) -> (Round, Round) {
    let (secret, public) = DecryptionKey::generate(Suite::XWing, &OsEntropy);
    let (core, plaintext) = (vec![0x5a; 300], vec![0x5a; 2048]);
    let id = MessageId::new(UnixMillis(1_800_000_000_000), &OsEntropy);
    let mut sealed = Vec::with_capacity(count);
    let sealing = timed(count, |_| {
        let key = ContentKey::generate(&OsEntropy);
        let body = key.seal_body(&core, &plaintext);
        sealed.push((key.commitment(), body, key.wrap(&core, id, &public, &OsEntropy)));
    });
    let opening = timed(count, |number| {
        if let (commitment, Ok(body), Ok(wrap)) = &sealed[number] {
            let opened = ContentKey::unwrap(&core, id, &secret, wrap)
                .and_then(|key| key.open_body(&core, commitment, body).map(|opened| opened.len()));
            assert!(opened.is_ok_and(|length| length == plaintext.len()), "what was sealed does not open");
        }
    });
    (sealing, opening)
}

/// Two files written full of zeros, then 4 KiB into each and both synced at the same time.
///
/// # Errors
/// When the device fails.
pub(crate) fn two_syncs(directory: &Path, count: usize) -> io::Result<Round> {
    let prepared = |name: &str| -> io::Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(directory.join(name))?;
        file.write_all_at(&vec![0; PREWRITTEN], 0)?;
        file.sync_all()?;
        Ok(file)
    };
    let (one, other) = (prepared("floor-one")?, prepared("floor-other")?);
    let at = |number: usize| ((number * WRITTEN) % PREWRITTEN) as u64;
    let (ask, asked) = mpsc::channel::<usize>();
    let (tell, told) = mpsc::channel::<io::Result<()>>();
    let syncing = thread::spawn(move || {
        for number in asked {
            let synced = other.write_all_at(&[0x5a; WRITTEN], at(number)).and_then(|()| other.sync_data());
            if tell.send(synced).is_err() {
                return;
            }
        }
    });
    let mut failed = None;
    let round = timed(count, |number| {
        let _ = ask.send(number);
        let own = one.write_all_at(&[0x5a; WRITTEN], at(number)).and_then(|()| one.sync_data());
        let other = told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        failed = failed.take().or(own.and(other).err());
    });
    drop(ask);
    let _ = syncing.join();
    failed.map_or(Ok(round), Err)
}
