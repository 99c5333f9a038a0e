//! A broker that is stopped under load: every call ends, nothing with a receipt is lost, nothing is entered twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use liaison_log::leaf::ExchangeLeaf;
use liaison_proto::{
    Bytes,
    refusal::Refusal,
    wire::{self, exchange_client::ExchangeClient, submit_answer::Answer},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::Streaming;

use super::{HEKOU, LAO_CAI, MONG_CAI, eventually};
use crate::{
    refusals::{log_size, submit},
    support::{Forger, connect, world},
};

/// An envelope that was sent, and its leaf when there was a receipt.
type Outcome = (wire::Envelope, Option<Bytes>);

/// Submits until the first call that gets no receipt, one after the other.
async fn one_by_one(
    mut client: ExchangeClient<tonic::transport::Channel>,
    envelopes: Vec<wire::Envelope>,
    receipts: Arc<AtomicUsize>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for envelope in envelopes {
        match client.submit(submit(envelope.clone())).await {
            Ok(answer) => {
                receipts.fetch_add(1, Ordering::Relaxed);
                outcomes.push((envelope, Some(answer.into_inner().receipt.unwrap().leaf)));
            }
            Err(status) => {
                // Either a refusal that says to try again, or the connection is gone.
                if let Some(refusal) = Refusal::from_status(&status) {
                    assert!(refusal.retry_after.is_some(), "{status:?}");
                }
                outcomes.push((envelope, None));
                return outcomes;
            }
        }
    }
    outcomes
}

/// Submits in one stream, without waiting.
async fn in_a_stream(
    sender: mpsc::Sender<wire::SubmitRequest>,
    mut answers: Streaming<wire::SubmitAnswer>,
    envelopes: Vec<wire::Envelope>,
    receipts: Arc<AtomicUsize>,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = envelopes.iter().map(|envelope| (envelope.clone(), None)).collect();
    let sending = tokio::spawn(async move {
        for envelope in envelopes {
            if sender.send(submit(envelope)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(answer)) = answers.next().await {
        let outcome = &mut outcomes[usize::try_from(answer.position).unwrap()];
        match answer.answer.unwrap() {
            Answer::Receipt(receipt) => {
                receipts.fetch_add(1, Ordering::Relaxed);
                outcome.1 = Some(receipt.leaf);
            }
            Answer::Refusal(refusal) => assert!(refusal.retry_after_ms > 0, "{refusal:?}"),
        }
    }
    drop(answers);
    sending.await.unwrap();
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_stopped_under_load_ends_every_call_and_loses_no_receipt() {
    let (_directory, mut world) = world(&[]);
    let receipts = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for office in [LAO_CAI, MONG_CAI] {
        let forger = Forger::new(&world, office);
        for _ in 0..2 {
            let client = ExchangeClient::new(connect(&world, &format!("offices/{office}")));
            for _ in 0..8 {
                let envelopes = (0..100).map(|_| forger.envelope(HEKOU)).collect();
                calls.spawn(one_by_one(client.clone(), envelopes, Arc::clone(&receipts)));
            }
        }
        let mut client = ExchangeClient::new(connect(&world, &format!("offices/{office}")));
        let (sender, requests) = mpsc::channel(1);
        let answers = client.submit_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let envelopes = (0..400).map(|_| forger.envelope(HEKOU)).collect();
        calls.spawn(in_a_stream(sender, answers, envelopes, Arc::clone(&receipts)));
    }
    assert!(eventually(async || receipts.load(Ordering::Relaxed) > 300).await);
    // Fails when the process does not end by itself with exit code 0.
    let mut world = tokio::task::spawn_blocking(move || {
        world.stop_broker().unwrap();
        world
    })
    .await
    .unwrap();
    let log = world.log("broker.log");
    assert!(log.contains("stopping") && !log.contains("still open"), "{log}");
    let outcomes: Vec<Outcome> = calls.join_all().await.into_iter().flatten().collect();
    let receipted = outcomes.iter().filter(|(_, leaf)| leaf.is_some()).count();
    println!("stopped after {receipted} receipts; {} without one", outcomes.len() - receipted);
    assert!(receipted > 300 && receipted < outcomes.len(), "the broker was not stopped under load");

    world.start_broker().unwrap();
    let mut leaves = HashSet::new();
    let mut clients: HashMap<String, ExchangeClient<_>> = HashMap::new();
    let (mut late, mut sent) = (0, 0);
    let before = log_size(&connect(&world, "auditors/auditor-1")).await;
    for (envelope, leaf) in outcomes {
        let header = liaison_proto::header::Header::parse(envelope.header.clone()).unwrap();
        let office = header.core().from.to_string();
        let client = clients
            .entry(office.clone())
            .or_insert_with(|| ExchangeClient::new(connect(&world, &format!("offices/{office}"))));
        let receipt = client.submit(submit(envelope)).await.unwrap().into_inner().receipt.unwrap();
        match leaf {
            Some(leaf) => assert_eq!(receipt.leaf, leaf, "a retry got another leaf than the receipt before the stop"),
            None => late += 1,
        }
        ExchangeLeaf::parse(&receipt.leaf).unwrap();
        assert!(leaves.insert(receipt.leaf), "two messages share a leaf");
        sent += 1;
    }
    let after = log_size(&connect(&world, "auditors/auditor-1")).await;
    println!("{before} entries after the restart, {after} after {late} retries");
    assert!(before >= receipted as u64, "a message with a receipt is not in the log");
    assert_eq!(after, sent, "a message is in the log twice, or not");
}
