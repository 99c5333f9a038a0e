//! A hostile party: an office with a good certificate and keys of its own, which knows everything about the others' messages,
//! has got hold of another office's signing key, and says, asks and sends what it may not. Every try must be refused with a
//! code, or be cut off, and change nothing (promises 9 and 12).

#![expect(clippy::unwrap_used, reason = "what is unwrapped was made here")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error as _,
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use liaison_link::{dial, net::Dialer, tls::Identity};
use liaison_log::{Hash, checkpoint::CheckpointSigner, leaf::ExchangeLeaf, remote::within};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::Charter,
    clock::Clock as _,
    ids::{LogIndex, MessageId},
    refusal::{Refusal, RefusalCode},
    seal::{DecryptionKey, Suite},
    sign::{PayloadType, SigningKey},
    wire::{
        self, LogName, StatementKind, directory_client::DirectoryClient, directory_record::Record,
        exchange_client::ExchangeClient, log_client::LogClient, repair_client::RepairClient,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tonic::{Status, transport::Channel};

use super::{
    template::{BROKER, HOSTILE, OFFICES},
    world::{World, Wrong},
};
use crate::{
    dice::{Dice, SeededEntropy},
    forger::{self, Forger},
};

const CALL: Duration = Duration::from_secs(20);
/// More entries than any log has.
const FAR: u64 = 1 << 40;

// What each kind of try may be told.
const NOT_ITS_OFFICE: &[RefusalCode] = &[RefusalCode::NotYourOffice];
const BAD_SIGNATURE: &[RefusalCode] = &[RefusalCode::BadSignature];
/// The bit decides what is wrong.
const CHANGED: &[RefusalCode] = RefusalCode::ALL;
const NO_STATEMENT: &[RefusalCode] =
    &[RefusalCode::BadSignature, RefusalCode::BadStatement, RefusalCode::NotYourOffice, RefusalCode::UnknownMessage];
const NOT_ITS_ENTRY: &[RefusalCode] = &[RefusalCode::NotPermitted, RefusalCode::OutOfRange];
const BAD_RECORD: &[RefusalCode] = &[RefusalCode::BadRecord];
const MALFORMED: &[RefusalCode] = &[RefusalCode::MalformedEnvelope];

/// What the hostile party did.
#[derive(Debug, Default)]
pub struct Deeds {
    /// Messages that it might send, and did: their entries, when it was told.
    own: RefCell<BTreeMap<String, Option<Bytes>>>,
    refused: Cell<u64>,
}

impl Deeds {
    /// Whether it sent this message, which it might.
    #[must_use]
    pub fn sent(&self, id: &str) -> bool {
        self.own.borrow().contains_key(id)
    }

    /// Tries that were refused with a code.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

/// How a try ended.
enum End {
    Taken(String),
    Refused(RefusalCode),
    /// The broker is not there, or takes nothing of anybody.
    NotNow,
}

/// # Errors
/// An answer that is neither an acceptance nor a refusal with a code.
fn end<T: std::fmt::Debug>(result: Result<T, Status>) -> Result<End, Wrong> {
    let status = match result {
        Ok(taken) => return Ok(End::Taken(format!("{taken:?}").chars().take(200).collect())),
        Err(status) => status,
    };
    match Refusal::from_status(&status) {
        Some(refusal) if refusal.code == RefusalCode::HeldUnproven => Ok(End::Taken(refusal.to_string())),
        Some(refusal) if refusal.code.is_retryable() => Ok(End::NotNow),
        Some(refusal) => Ok(End::Refused(refusal.code)),
        None if status.source().is_some() || status.code() == tonic::Code::DeadlineExceeded => Ok(End::NotNow),
        None => Err(format!("promise 12: a refusal without a code: {status:?}")),
    }
}

/// Tries as often as the dice say.
///
/// # Errors
/// When a try is taken, or refused without a code.
pub async fn comes(world: &World, deeds: &Deeds, mut dice: Dice) -> Result<(), Wrong> {
    let mut hostile = Hostile::new(world, deeds, dice.fork())?;
    for _ in 0..4 + dice.roll(12) {
        sleep(dice.millis(100..=12_000)).await;
        hostile.tries().await?;
    }
    Ok(())
}

struct Hostile<'a> {
    world: &'a World,
    deeds: &'a Deeds,
    dice: Dice,
    charter: Charter,
    root: PathBuf,
    dialer: Dialer,
    channel: Channel,
    own: Forger,
    stolen: Forger,
}

impl<'a> Hostile<'a> {
    fn new(world: &'a World, deeds: &'a Deeds, mut dice: Dice) -> Result<Self, Wrong> {
        let root = world.template.path("charter");
        let charter = world.template.charter().map_err(|e| e.to_string())?;
        let dialer = world.net.dialer(HOSTILE, &Arc::new(AtomicBool::new(true)));
        let channel = connect(world, &charter, &dialer, &format!("offices/{HOSTILE}"))?;
        let mut forger = |office| {
            let entropy = Arc::new(SeededEntropy::new(dice.fork()));
            Forger::of(&root, charter.clone(), office, Arc::new(world.clocks[HOSTILE].clone()), entropy)
        };
        let (own, stolen) = (forger(HOSTILE), forger(OFFICES[0].0));
        Ok(Self { world, deeds, dice, charter, root, dialer, channel, own, stolen })
    }

    async fn tries(&mut self) -> Result<(), Wrong> {
        let (victim, _) = *self.dice.one(&OFFICES);
        let (what, may_say, end) = match self.dice.roll(18) {
            0 => ("to speak in another's name", NOT_ITS_OFFICE, self.submits(self.of_another(victim)).await?),
            1 => (
                "to bring what another signed",
                NOT_ITS_OFFICE,
                self.submits(self.stolen.envelope(OFFICES[1].0)).await?,
            ),
            2 => {
                let envelope = self.wrongly_signed(victim);
                ("a signature by a key of its own making", BAD_SIGNATURE, self.submits(envelope).await?)
            }
            3..=5 => ("a changed bit", CHANGED, self.submits_changed(victim).await?),
            6 | 13 => ("a false statement", NO_STATEMENT, self.attests(victim).await?),
            7 => ("a false key for another", NO_STATEMENT, self.rewraps(victim).await?),
            8 => ("to read an entry of others", NOT_ITS_ENTRY, self.reads_entry().await?),
            9 => ("to read as an auditor", NOT_ITS_ENTRY, self.reads_entries().await?),
            10 => ("a record of another's", BAD_RECORD, self.publishes(victim).await?),
            11 => ("a checkpoint of its own making", MALFORMED, self.presents().await?),
            12 => return self.hands_back().await,
            14 => return self.speaks_nonsense().await,
            15 => return self.comes_as_somebody_else().await,
            16 => return self.reads_its_own().await,
            _ => return self.sends_what_it_may(victim).await,
        };
        match end {
            End::Taken(answer) => Err(format!("promises 9, 12: {HOSTILE} tried {what}, and was answered: {answer}")),
            End::NotNow => Ok(()),
            End::Refused(code) if may_say.contains(&code) => {
                self.deeds.refused.set(self.deeds.refused.get() + 1);
                self.world.note(format!("{HOSTILE} tries {what}: {code}"));
                Ok(())
            }
            End::Refused(code) => Err(format!("promise 12: {HOSTILE} tried {what}, and was told {code}")),
        }
    }

    async fn submits(&self, envelope: wire::Envelope) -> Result<End, Wrong> {
        let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
        end(within(CALL, ExchangeClient::new(self.channel.clone()).submit(request)).await)
    }

    fn of_another(&self, victim: &str) -> wire::Envelope {
        let to = OFFICES.iter().map(|(office, _)| *office).find(|office| *office != victim).unwrap();
        self.own.changed(to, |parts| victim.clone_into(&mut parts.core.from))
    }

    fn wrongly_signed(&mut self, victim: &str) -> wire::Envelope {
        let mut envelope = self.own.envelope(victim);
        let key = SigningKey::generate(&SeededEntropy::new(self.dice.fork()));
        envelope.office_signature = Some(key.sign(PayloadType::Header, &envelope.header));
        envelope
    }

    /// A good message of its own, but for one bit.
    async fn submits_changed(&mut self, victim: &str) -> Result<End, Wrong> {
        let mut envelope = self.own.envelope(victim);
        let (at, bit) = (self.dice.next(), self.dice.roll(8));
        let flip = |bytes: &mut Bytes| {
            let mut changed = bytes.to_vec();
            let place = (at % changed.len() as u64) as usize;
            changed[place] ^= 1 << bit;
            *bytes = changed.into();
        };
        match self.dice.roll(4) {
            0 => flip(&mut envelope.header),
            1 => flip(&mut envelope.body),
            2 => envelope.erasable.iter_mut().flat_map(|side| &mut side.wraps).for_each(flip),
            _ => envelope.office_signature.iter_mut().for_each(|signature| flip(&mut signature.value)),
        }
        self.submits(envelope).await
    }

    /// A message of others, with everything that its sender's node knows of it.
    fn known(&mut self, victim: &'static str) -> Option<(MessageId, LogIndex, [u8; 32], u64)> {
        let known = self.world.looks_into(victim, |node| {
            let state = node.store.state();
            let receipted = state.outgoing.iter().filter_map(|(id, outgoing)| match &outgoing.submission {
                liaison_node::state::Submission::Receipted { index, numbers, .. } => {
                    Some((*id, *index, outgoing.header.sha256(), numbers.first().copied().unwrap_or_default()))
                }
                _ => None,
            });
            receipted.collect::<Vec<_>>()
        })?;
        (!known.is_empty()).then(|| *self.dice.one(&known))
    }

    async fn attests(&mut self, victim: &'static str) -> Result<End, Wrong> {
        let Some((id, index, header_sha256, number)) = self.known(victim) else { return Ok(End::NotNow) };
        let (recipient, key) = match self.dice.roll(3) {
            0 => (HOSTILE, &self.own.receipt),
            1 => (OFFICES[1].0, &self.own.receipt),
            _ => (OFFICES[0].0, &self.stolen.receipt),
        };
        let statement = Bytes::from(
            wire::Statement {
                message_id: Bytes::copy_from_slice(id.as_bytes()),
                office: recipient.to_owned(),
                accepted_index: index.0,
                header_sha256: Bytes::copy_from_slice(&header_sha256),
                number,
                at_ms: 1,
                reason: 0,
            }
            .encode_to_vec(),
        );
        let signature = Some(key.sign(PayloadType::Delivered, &statement));
        let attested = Some(wire::Attested { statement, signature });
        let request = wire::AttestRequest { kind: StatementKind::Delivered.into(), attested, seen_size: 0 };
        end(within(CALL, ExchangeClient::new(self.channel.clone()).attest(request)).await)
    }

    async fn rewraps(&mut self, victim: &'static str) -> Result<End, Wrong> {
        let Some((id, index, ..)) = self.known(victim) else { return Ok(End::NotNow) };
        let published = self.own.directory.newest_key(
            OFFICES[1].0.parse().unwrap(),
            Suite::XWing,
            self.world.clocks[HOSTILE].now(),
            self.own.directory.size(),
        );
        let (office, key) =
            if self.dice.once_in(2) { (HOSTILE, &self.own.signing) } else { (OFFICES[0].0, &self.stolen.signing) };
        let statement = wire::RewrapStatement {
            message_id: Bytes::copy_from_slice(id.as_bytes()),
            office: office.to_owned(),
            accepted_index: index.0,
            recipient: OFFICES[1].0.to_owned(),
            key_sha256: Bytes::copy_from_slice(&published.unwrap().sha256),
            wrap_sha256: Bytes::copy_from_slice(&liaison_proto::sha256(&[b"wrap"])),
        };
        let statement = Bytes::from(statement.encode_to_vec());
        let signature = Some(key.sign(PayloadType::Rewrapped, &statement));
        let rewrapped = Some(wire::Rewrapped { statement, signature });
        let request = wire::RewrapRequest { rewrapped, wrap: Bytes::from_static(b"wrap"), seen_size: 0 };
        end(within(CALL, ExchangeClient::new(self.channel.clone()).rewrap(request)).await)
    }

    async fn reads_entry(&mut self) -> Result<End, Wrong> {
        let index = self.dice.roll(200);
        let request = wire::EntryRequest { log: LogName::Exchange.into(), index };
        let answer = within(CALL, LogClient::new(self.channel.clone()).entry(request)).await;
        match answer.as_ref().ok().and_then(|answer| answer.get_ref().receipt.as_ref()) {
            // Entries about messages of its own it may read.
            Some(receipt) if self.concerns_it(&receipt.leaf) => Ok(End::NotNow),
            _ => end(answer),
        }
    }

    fn concerns_it(&self, leaf: &Bytes) -> bool {
        let id = ExchangeLeaf::parse(leaf).ok().and_then(|leaf| leaf.event.message_id());
        id.is_some_and(|id| self.deeds.sent(&id.to_string()))
    }

    async fn reads_entries(&mut self) -> Result<End, Wrong> {
        let request = wire::EntriesRequest {
            log: LogName::Exchange.into(),
            index: 0,
            width: 1 + self.dice.roll(256) as u32,
            skip: 0,
        };
        end(within(CALL, LogClient::new(self.channel.clone()).entries(request)).await)
    }

    /// A key for another's office, signed by its own.
    async fn publishes(&mut self, victim: &str) -> Result<End, Wrong> {
        let (_, public) = DecryptionKey::generate(Suite::XWing, &SeededEntropy::new(self.dice.fork()));
        let key = wire::EncryptionKey {
            version: 1,
            office: victim.to_owned(),
            suite: Suite::XWing.to_wire(),
            public_key: public.bytes().clone(),
            not_before_ms: 1,
            not_after_ms: i64::MAX,
        };
        let key = Bytes::from(key.encode_to_vec());
        let office_signature = Some(self.own.signing.sign(PayloadType::KeyRecord, &key));
        let record =
            Some(wire::DirectoryRecord { record: Some(Record::Key(wire::KeyRecord { key, office_signature })) });
        let request = wire::PublishRequest { record, seen_size: 0 };
        end(within(CALL, DirectoryClient::new(self.channel.clone()).publish(request)).await)
    }

    /// A note of a log that has many more entries, signed by its own key: whoever believes it stops the exchange.
    async fn presents(&mut self) -> Result<End, Wrong> {
        let origin = self.charter.exchange_log().origin.clone();
        let signer = CheckpointSigner::new(origin, SigningKey::from_seed(&self.own.signing.seed()));
        let note = signer.sign(FAR, Hash([7; 32])).map_err(|e| e.to_string())?.note().clone();
        let request = wire::PresentRequest { directory: Bytes::new(), exchange: note };
        end(within(CALL, RepairClient::new(self.channel.clone()).present(request)).await)
    }

    /// Entries of its own making may be passed over without a word; none is taken.
    async fn hands_back(&mut self) -> Result<(), Wrong> {
        let leaf = self.own.envelope(OFFICES[0].0).header;
        let receipt = Some(wire::Receipt { leaf, proof: Bytes::from_static(b"proof") });
        let request = wire::HandBackRequest { log: LogName::Exchange.into(), receipt, kept: None };
        let stream = tokio_stream::iter([request]);
        let answer = within(CALL, RepairClient::new(self.channel.clone()).hand_back(stream)).await;
        match answer.map(|answer| answer.into_inner().taken) {
            Ok(0) => Ok(()),
            Ok(_) => Err(format!("promise 7: the broker takes back an entry of {HOSTILE}'s making")),
            Err(status) => end(Err::<(), _>(status)).map(|_| ()),
        }
    }

    /// Bytes that mean nothing, with and without TLS.
    async fn speaks_nonsense(&mut self) -> Result<(), Wrong> {
        let Ok(mut stream) = (self.dialer)(BROKER.parse().unwrap()).await else { return Ok(()) };
        let mut bytes: Vec<u8> = (0..1 + self.dice.roll(3000)).map(|_| self.dice.next() as u8).collect();
        if self.dice.once_in(2) {
            bytes.splice(0..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        let mut said = Vec::new();
        if self.dice.once_in(2) {
            let _ = stream.write_all(&bytes).await;
            let _ = timeout(CALL, stream.read_to_end(&mut said)).await;
        } else {
            let tls = self.tls(&format!("offices/{HOSTILE}"));
            let name = self.charter.file().broker.tls_name.clone().try_into().unwrap();
            let connecting = timeout(CALL, TlsConnector::from(Arc::new(tls)).connect(name, stream)).await;
            if let Ok(Ok(mut stream)) = connecting {
                let _ = stream.write_all(&bytes).await;
                let _ = timeout(CALL, stream.read_to_end(&mut said)).await;
            }
        }
        self.world.note(format!("{HOSTILE} speaks nonsense"));
        Ok(())
    }

    fn tls(&self, identity: &str) -> rustls::ClientConfig {
        let identity: Identity = forger::identity(&self.root, identity);
        forger::client_by(&self.charter, identity, Arc::new(self.world.clocks[HOSTILE].clone()))
    }

    /// With each of the certificates that are worth nothing, or with the broker's own.
    async fn comes_as_somebody_else(&mut self) -> Result<(), Wrong> {
        let mut names: Vec<String> = fs::read_dir(self.root.join("bad"))
            .unwrap()
            .map(|entry| format!("bad/{}", entry.unwrap().file_name().to_string_lossy()))
            .collect();
        names.push("broker".to_owned());
        names.sort();
        let name = self.dice.one(&names);
        let channel = connect(self.world, &self.charter, &self.dialer, name)?;
        let request = wire::CheckpointRequest { log: LogName::Exchange.into() };
        let answer = within(CALL, LogClient::new(channel).checkpoint(request)).await;
        self.world.note(format!("{HOSTILE} comes as {name}"));
        match answer {
            Err(status) if Refusal::from_status(&status).is_none() => Ok(()),
            answered => Err(format!("promise 9: {name} got a connection: {answered:?}")),
        }
    }

    /// What it may ask for must be about its own messages.
    async fn reads_its_own(&mut self) -> Result<(), Wrong> {
        let mut exchange = ExchangeClient::new(self.channel.clone());
        if let Ok(numbers) = within(CALL, exchange.numbers(wire::NumbersRequest {})).await {
            let foreign = |channel: &&wire::ChannelNumber| channel.from != HOSTILE && channel.to != HOSTILE;
            if let Some(channel) = numbers.get_ref().channels.iter().find(foreign) {
                return Err(format!("promise 7: {HOSTILE} is told {channel:?}"));
            }
        }
        let evidence = within(CALL, exchange.evidence(wire::EvidenceRequest { from_index: 0 })).await;
        if let Ok(evidence) = evidence {
            let mut evidence = evidence.into_inner();
            while let Ok(Ok(Some(item))) = timeout(Duration::from_secs(2), evidence.message()).await {
                let leaf = item.receipt.unwrap_or_default().leaf;
                if !self.concerns_it(&leaf) {
                    return Err(format!("promise 7: {HOSTILE} is shown an entry of others: {leaf:?}"));
                }
            }
        }
        Ok(())
    }

    /// A message as any office may send it, whose content is nothing; then the same again, and another under its id.
    async fn sends_what_it_may(&mut self, victim: &str) -> Result<(), Wrong> {
        let envelope = self.own.envelope(victim);
        let id = MessageId::from_wire(&self.core_of(&envelope).message_id).unwrap();
        self.deeds.own.borrow_mut().insert(id.to_string(), None);
        self.world.note(format!("{HOSTILE} sends {id} to {victim}"));
        for _ in 0..2 {
            let request = wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size: 0 };
            let answer = within(CALL, ExchangeClient::new(self.channel.clone()).submit(request)).await;
            let Ok(answer) = answer else {
                // Bulk is not held: it is refused, or not answered.
                return match end(answer)? {
                    End::Refused(code) => Err(format!("{HOSTILE} may send {id}, and is refused: {code}")),
                    _ => Ok(()),
                };
            };
            let leaf = answer.into_inner().receipt.unwrap_or_default().leaf;
            let before = self.deeds.own.borrow_mut().insert(id.to_string(), Some(leaf.clone())).flatten();
            if before.is_some_and(|before| before != leaf) {
                return Err(format!("promise 3: {id} was sent twice, and has two entries"));
            }
        }
        let other = self.own.changed(victim, |parts| {
            parts.core.message_id = Bytes::copy_from_slice(id.as_bytes());
            parts.core.thread_id = parts.core.message_id.clone();
        });
        match self.submits(other).await? {
            End::Taken(answer) => Err(format!("promise 12: a second {id} was taken: {answer}")),
            End::Refused(_) | End::NotNow => Ok(()),
        }
    }

    fn core_of(&self, envelope: &wire::Envelope) -> wire::Core {
        let header = wire::Header::decode(envelope.header.clone()).unwrap();
        wire::Core::decode(header.core).unwrap()
    }
}

fn connect(world: &World, charter: &Charter, dialer: &Dialer, identity: &str) -> Result<Channel, Wrong> {
    let identity = forger::identity(&world.template.path("charter"), identity);
    let tls = forger::client_by(charter, identity, Arc::new(world.clocks[HOSTILE].clone()));
    dial::channel(charter, BROKER.parse().unwrap(), tls.into(), Arc::clone(dialer)).map_err(|e| e.to_string())
}
