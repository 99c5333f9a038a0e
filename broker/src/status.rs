//! What the broker says of itself on its local socket.

use std::sync::Arc;

use liaison_log::reader::LogReader;
use serde_json::{Value, json};

use crate::queue::Queue;

/// What `status` is answered from.
#[derive(Clone)]
pub struct StatusSource {
    /// The directory log.
    pub directory: Arc<LogReader>,
    /// The exchange log.
    pub exchange: Arc<LogReader>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// Address for nodes and auditors.
    pub address: String,
}

impl StatusSource {
    /// Sizes and queues, without content or persons.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let waiting: serde_json::Map<String, Value> =
            self.queue.waiting().into_iter().map(|(office, count)| (office.to_string(), json!(count))).collect();
        json!({
            "listening": self.address,
            "directory_entries": self.directory.checkpoint().size(),
            "exchange_entries": self.exchange.checkpoint().size(),
            "waiting": waiting,
        })
    }
}

/// The answer as text.
#[must_use]
pub fn to_text(status: &Value) -> String {
    let mut text = format!(
        "listening on {}\ndirectory log: {} entries\nexchange log:  {} entries\n",
        status["listening"].as_str().unwrap_or("-"),
        status["directory_entries"],
        status["exchange_entries"],
    );
    match status["waiting"].as_object().filter(|waiting| !waiting.is_empty()) {
        None => text.push_str("nothing waits for delivery\n"),
        Some(waiting) => {
            for (office, count) in waiting {
                text.push_str(&format!("waiting for {office}: {count}\n"));
            }
        }
    }
    text
}
