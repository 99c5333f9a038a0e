//! Who does not read what it asked for makes the broker hold a little of it, and never much.

use liaison_log::leaf::{ExchangeLeaf, Statement};
use liaison_proto::{
    clock::{Clock as _, SystemClock},
    ids::{LogIndex, MessageId},
    limits, sha256,
    sign::PayloadType,
    wire::{self, exchange_client::ExchangeClient},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{ARANYAPRATHET, HEKOU, LAO_CAI, MIB, Usage, honest_call};
use crate::{
    refusals::submit,
    support::{Forger, connect, world},
};

/// What the broker may take for those who do not read: what is read ahead for some streams, and nothing a message.
const BOUND: u64 = 32 * MIB;
/// The same for all streams of an office together: 16, each with up to five bodies (two read ahead, one on its way from
/// each buffer to the next), and what sending costs meanwhile.
const BOUND_OF_MANY: u64 = 96 * MIB;

type Exchange = ExchangeClient<Channel>;

fn exchange(channel: Channel) -> Exchange {
    ExchangeClient::new(channel)
        .max_encoding_message_size(limits::GRPC_BYTES)
        .max_decoding_message_size(limits::GRPC_BYTES)
}

/// Sends messages of nearly 1 MiB; their envelopes.
async fn send_large(from: &mut Exchange, forger: &Forger, to: &str, count: usize) -> Vec<wire::Envelope> {
    let mut sent = Vec::new();
    let plaintext = vec![0x5a; limits::BODY_BYTES - 64 * 1024];
    for _ in 0..count {
        let envelope = forger.sign(forger.parts(forger.core(to), &plaintext));
        from.submit(submit(envelope.clone())).await.unwrap();
        sent.push(envelope);
    }
    sent
}

fn receive() -> impl tokio_stream::Stream<Item = wire::ReceiveRequest> {
    use tokio_stream::StreamExt as _;
    let request = wire::ReceiveRequest { lane: wire::Lane::Bulk.into(), credit: limits::CREDIT };
    tokio_stream::once(request).chain(tokio_stream::pending())
}

/// Credit for 1,024 messages and never a read.
#[tokio::test]
async fn a_reader_that_never_reads_costs_no_memory_and_stops_nobody() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let mut lao_cai = exchange(connect(&world, "offices/VN-BLO-LCA"));
    // What sending alone costs.
    send_large(&mut lao_cai, &forger, ARANYAPRATHET, 24).await;
    let usage = Usage::of(&world);
    let before = usage.peak();
    let mut hekou = exchange(connect(&world, "offices/CN-BLO-HKO"));
    let _unread = hekou.receive(receive()).await.unwrap();
    send_large(&mut lao_cai, &forger, HEKOU, 96).await;
    honest_call(&world, HEKOU).await.unwrap();
    let grown = usage.peak() - before;
    println!("96 MiB for a reader that does not read: the peak grew from {} by {} MiB", before / MIB, grown / MIB);
    assert!(grown < BOUND, "{} MiB", grown / MIB);
    // Another one that reads gets all of its own.
    let mut reads = exchange(connect(&world, "offices/TH-BLO-ARN"));
    let mut deliveries = reads.receive(receive()).await.unwrap().into_inner();
    for _ in 0..24 {
        deliveries.message().await.unwrap().unwrap();
    }
}

/// The same on as many streams as there may be, deliveries and redeliveries: each holds a little, so their number is
/// bounded.
#[tokio::test]
async fn many_streams_that_are_never_read_cost_little_memory() {
    let (_directory, world) = world(&[]);
    let (forger, receiver) = (Forger::new(&world, LAO_CAI), Forger::new(&world, HEKOU));
    let mut lao_cai = exchange(connect(&world, "offices/VN-BLO-LCA"));
    let mut hekou = exchange(connect(&world, "offices/CN-BLO-HKO"));
    let sent = send_large(&mut lao_cai, &forger, HEKOU, 16).await;
    for envelope in &sent[..8] {
        let receipt = lao_cai.submit(submit(envelope.clone())).await.unwrap().into_inner().receipt.unwrap();
        let leaf = ExchangeLeaf::parse(&receipt.leaf).unwrap();
        let liaison_log::leaf::Event::Accepted { header, numbers, .. } = leaf.event else { panic!("not ACCEPTED") };
        let statement = Statement {
            message_id: MessageId::from_wire(header.core().message_id.as_bytes()).unwrap(),
            office: HEKOU.parse().unwrap(),
            accepted: LogIndex(numbers[0] - 1),
            header_sha256: sha256(&[&envelope.header]),
            number: numbers[0],
            at: SystemClock.now(),
            reason: wire::CannotOpenReason::Unspecified,
        }
        .encode();
        let signature = Some(receiver.receipt.sign(PayloadType::Delivered, &statement));
        let attested = Some(wire::Attested { statement, signature });
        hekou
            .attest(wire::AttestRequest { kind: wire::StatementKind::Delivered.into(), attested, seen_size: 0 })
            .await
            .unwrap();
    }
    let usage = Usage::of(&world);
    let before = usage.peak();
    let mut asked = JoinSet::new();
    for _ in 0..4 {
        let hekou = exchange(connect(&world, "offices/CN-BLO-HKO"));
        for _ in 0..20 {
            let mut client = hekou.clone();
            asked.spawn(async move { client.receive(receive()).await.map(|answer| answer.into_inner()) });
            let mut client = hekou.clone();
            let numbers = (1..=8).collect();
            let request = wire::RedeliverRequest { from: LAO_CAI.into(), lane: wire::Lane::Bulk.into(), numbers };
            asked.spawn(async move { client.redeliver(request).await.map(|answer| answer.into_inner()) });
        }
    }
    let (unread, refused): (Vec<_>, Vec<_>) = asked.join_all().await.into_iter().partition(Result::is_ok);
    let refused = refused.len();
    assert!(refused > 0, "an office may hold 160 streams");
    // Another office's message goes its way meanwhile.
    let mut other = exchange(connect(&world, "offices/TH-BLO-ARN"));
    send_large(&mut lao_cai, &forger, ARANYAPRATHET, 8).await;
    let mut deliveries = other.receive(receive()).await.unwrap().into_inner();
    for _ in 0..8 {
        deliveries.message().await.unwrap().unwrap();
    }
    let grown = usage.peak() - before;
    println!(
        "{} streams open, {refused} refused: the peak grew from {} by {} MiB",
        unread.len(),
        before / MIB,
        grown / MIB
    );
    assert!(grown < BOUND_OF_MANY, "{} MiB", grown / MIB);
    // When they are gone there is room for new ones.
    drop(unread);
    let mut again = exchange(connect(&world, "offices/CN-BLO-HKO"));
    let delivered = super::eventually(async || match again.receive(receive()).await {
        Ok(stream) => stream.into_inner().message().await.is_ok_and(|delivery| delivery.is_some()),
        Err(_) => false,
    });
    assert!(delivered.await);
}
