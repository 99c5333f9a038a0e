//! Who does not read what it asked for makes the broker hold a little of it, and never much.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use liaison_log::leaf::{ExchangeLeaf, Statement};
use liaison_proto::{
    Bytes,
    clock::{Clock as _, SystemClock},
    ids::{LogIndex, MessageId},
    limits, sha256,
    sign::PayloadType,
    wire::{self, exchange_client::ExchangeClient},
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

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

/// What bodies that never end may take: 64 calls and 16 streams of 1.2 MiB, each with what was read and not decoded yet.
const BOUND_OF_BODIES: u64 = 192 * MIB;

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

/// A body that begins and never ends.
struct Unfinished(Option<Bytes>);

impl tonic::codegen::Body for Unfinished {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))))
    }
}

/// Envelopes of 1 MiB that never become whole, in calls and in streams, on as many connections as an office may have:
/// what the broker holds of them is bounded, and others go their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_never_end_cost_bounded_memory_and_stop_nobody() {
    use tower::{Service as _, ServiceExt as _};
    let (_directory, world) = world(&[]);
    honest_call(&world, HEKOU).await.unwrap();
    let usage = Usage::of(&world);
    let before = usage.peak();
    // A message of the largest size, but for its last bytes (5 bytes of framing, RFC of gRPC over HTTP/2).
    let size = u32::try_from(limits::ENVELOPE_BYTES).unwrap();
    let mut begun = vec![0];
    begun.extend(size.to_be_bytes());
    begun.resize(5 + limits::ENVELOPE_BYTES - 16, 0x0a);
    let begun = Bytes::from(begun);
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let channel = connect(&world, "offices/VN-BLO-LCA");
        for call in 0..32 {
            let method = if call % 2 == 0 { "Submit" } else { "SubmitStream" };
            let uri = format!("http://broker/liaison.exchange.v1.Exchange/{method}");
            let request = tonic::codegen::http::Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(tonic::body::Body::new(Unfinished(Some(begun.clone()))))
                .unwrap();
            let mut channel = channel.clone();
            calls.spawn(async move { channel.ready().await.unwrap().call(request).await });
        }
    }
    // 256 of them would be 300 MiB.
    let mut last = 0;
    let settled = super::eventually(async || {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        std::mem::replace(&mut last, usage.resident()) >= usage.resident()
    });
    assert!(settled.await);
    let mut other = exchange(connect(&world, "offices/TH-BLO-ARN"));
    send_large(&mut other, &Forger::new(&world, ARANYAPRATHET), HEKOU, 8).await;
    let grown = usage.peak() - before;
    println!("256 bodies that never end: the peak grew from {} by {} MiB", before / MIB, grown / MIB);
    assert!(grown < BOUND_OF_BODIES, "{} MiB", grown / MIB);
    calls.shutdown().await;
    let mut again = exchange(connect(&world, "offices/VN-BLO-LCA"));
    let forger = Forger::new(&world, LAO_CAI);
    let envelope = forger.envelope(HEKOU);
    let accepted = super::eventually(async || again.submit(submit(envelope.clone())).await.is_ok());
    assert!(accepted.await, "the office is kept out for what it no longer sends");
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
