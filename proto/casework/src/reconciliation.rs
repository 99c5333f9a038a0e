//! What an office claims to hold of a channel: the hash of the log's entry of each number. Two offices that sign the same
//! hashes hold the same messages; else the numbers on which they differ are known.

use std::collections::BTreeMap;

use liaison_proto::ids::{Channel, Lane};
use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};

use crate::fields::{text, texts};

/// Numbers that one message claims at most: the newest.
pub const MOST: usize = 4000;
/// In place of a hash: none is held.
const NONE: &str = "-";

/// What is held of a channel from `first` on, without gaps: none for a number of which nothing is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The channel.
    pub channel: Channel,
    /// Number of the first entry.
    pub first: u64,
    /// RFC 6962 leaf hash of each number's entry: ACCEPTED, or the NON_DELIVERY that stands for it.
    pub leaves: Vec<Option<[u8; 32]>>,
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

impl Claim {
    /// Of what is held by number: the newest numbers up to the highest.
    #[must_use]
    pub fn new(channel: Channel, held: &BTreeMap<u64, [u8; 32]>) -> Self {
        let last = held.keys().next_back().copied().unwrap_or(0);
        let first = last.saturating_sub(MOST as u64 - 1).max(1);
        Self { channel, first, leaves: (first..=last).map(|number| held.get(&number).copied()).collect() }
    }

    /// The same numbers as another claim, of what is held here.
    #[must_use]
    pub fn beside(&self, held: &BTreeMap<u64, [u8; 32]>) -> Self {
        let numbers = (self.first..).take(self.leaves.len());
        Self { leaves: numbers.map(|number| held.get(&number).copied()).collect(), ..*self }
    }

    /// Reads what a counterpart claims; none when it says nothing that can be compared.
    #[must_use]
    pub fn read(content: &DynamicMessage) -> Option<Self> {
        let lane = match text(content, "lane").as_str() {
            "FLASH" => Lane::Flash,
            "URGENT" => Lane::Urgent,
            "BULK" => Lane::Bulk,
            _ => return None,
        };
        let (from, to) = (text(content, "channel_from").parse().ok()?, text(content, "channel_to").parse().ok()?);
        let first = u64::from(content.get_field_by_name("first_number")?.as_u32()?).max(1);
        let leaves = texts(content, "leaf_sha256").iter().take(MOST).map(|hash| unhex(hash)).collect();
        Some(Self { channel: Channel { from, to, lane }, first, leaves })
    }

    /// The numbers on which two claims about the same numbers differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<u64> {
        let pairs = self.leaves.iter().zip(&other.leaves);
        (self.first..).zip(pairs).filter(|(_, (own, others))| own != others).map(|(number, _)| number).collect()
    }

    /// As content of a RECONCILIATION; with the numbers that differ it is an answer.
    #[must_use]
    pub fn to_content(&self, differing: Option<&[u64]>) -> Json {
        let leaves: Vec<String> =
            self.leaves.iter().map(|leaf| leaf.map_or_else(|| NONE.to_owned(), hex::encode)).collect();
        let mut content = json!({
            "channel_from": self.channel.from,
            "channel_to": self.channel.to,
            "lane": self.channel.lane,
            "first_number": self.first,
            "leaf_sha256": leaves,
        });
        match differing {
            None => {}
            Some([]) => content["result"] = json!("SAME"),
            Some(numbers) => {
                content["result"] = json!("DIFFERENT");
                content["differing"] = json!(numbers);
            }
        }
        content
    }
}
