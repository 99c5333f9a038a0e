//! What operators see of a running broker: numbers that move, logs that machines read; and no content, no persons, no
//! message in either.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use liaison_proto::wire::{self, exchange_client::ExchangeClient};
use liaison_tests::{
    samples,
    world::{OFFICES, eventually},
};
use serde_json::Value;

use super::{HEKOU, LAO_CAI};
use crate::{
    refusals::submit,
    support::{connect, world_with},
};

/// What stands in the sample case and in no number or log line: persons, text, vehicle, telephone, account.
const SECRETS: [&str; 8] =
    ["Giàng", "Giang Thi My", "Lý A Chú", "Ly A Chu", "24B1", "84912000017", "chu.hmong", "Zalo"];

/// An address that nobody listens on. Below the ports that the system gives to whoever asks for any: another test that
/// runs at the same time is never given it.
fn free_address() -> String {
    let first = 20_000 + std::process::id() as u16 % 10_000;
    let free = (first..32_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.unwrap().local_addr().unwrap().to_string()
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The sum of a metric over its labels, of lines that contain `label`.
fn value(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Numbers by Prometheus and logs as JSON, while a case passes and another one waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_move_and_neither_they_nor_the_logs_tell_of_anybody() {
    let free = free_address();
    let listen = format!("metrics_listen = \"{free}\"");
    let (_directory, mut world) = world_with(&[&listen, "log_format = \"json\""], &[LAO_CAI, HEKOU]);
    let entries = |text: &str| value(text, "liaison_log_entries", "log=\"exchange\"");
    let calls = |text: &str| value(text, "rpc_server_call_duration_seconds_count", "Exchange/SubmitStream");
    let waiting = |text: &str| value(text, "liaison_waiting_messages", "");
    let refusals = |text: &str, code: &str| value(text, "liaison_refusals_total", code);
    // The gauges are set every two seconds; the first time may have been before there was anybody to tell.
    let told = || {
        let text = scrape(&free);
        text.contains("liaison_log_entries{") && text.contains("liaison_waiting_messages{")
    };
    assert!(eventually(told), "{}", scrape(&free));
    let first = scrape(&free);
    assert_eq!((entries(&first), waiting(&first)), (0.0, 0.0));

    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["DELIVERED", "RETRIEVED"]));
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    exchange.submit(submit(wire::Envelope::default())).await.unwrap_err();
    world.stop_node(HEKOU).unwrap();
    let second = world.office(LAO_CAI).sends(samples::FOLLOW_UP).unwrap();
    let moved = eventually(|| {
        let now = scrape(&free);
        entries(&now) >= 3.0 && waiting(&now) >= 1.0 && refusals(&now, "MALFORMED_ENVELOPE") == 1.0 && calls(&now) > 0.0
    });
    let last = scrape(&free);
    assert!(moved, "{last}");
    for method in ["Exchange/Submit\"", "Exchange/Receive\"", "Log/Checkpoint\""] {
        assert!(value(&last, "rpc_server_call_duration_seconds_count", method) > 0.0, "{method}\n{last}");
    }
    for (office, officer) in OFFICES {
        assert!(!last.contains(office) && !last.contains(officer), "{office} or {officer} is in\n{last}");
    }
    world.stop_broker().unwrap();
    let log = fs::read_to_string(world.path("logs/broker.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}")))
        .collect();
    assert!(lines.len() > 2 && lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    for (what, text) in [("the numbers", &last), ("the log", &log)] {
        for secret in SECRETS.into_iter().chain([message.as_str(), second.as_str()]) {
            assert!(!text.contains(secret), "{secret} is in {what}");
        }
    }
    // The sample does hold what was looked for.
    assert!(SECRETS.iter().all(|secret| samples::CASE_NOTICE.contains(secret)));
}
