//! Two claims about a channel: what is signed is what is held, and the difference is exact.

use std::collections::BTreeMap;

use liaison_casework::{case_file, reconciliation::Claim, tables::Tables};
use liaison_proto::ids::{Channel, Lane};
use proptest::prelude::*;
use serde_json::{Value, json};

fn channel() -> Channel {
    Channel { from: "VN-BLO-LCA".parse().unwrap(), to: "CN-BLO-HKO".parse().unwrap(), lane: Lane::Urgent }
}

/// As the counterpart reads what was written.
fn sent(claim: &Claim, differing: Option<&[u64]>) -> Result<Claim, Value> {
    let case = json!({
        "kind": "RECONCILIATION", "to": ["CN-BLO-HKO"], "priority": "ROUTINE", "handling": "H0", "tlp": "AMBER",
        "legal_basis": ["VNCN10"], "purpose": "PREVENT", "language": "vie", "content": claim.to_content(differing),
    });
    let case = case_file::from_json(&case, Tables::built_in()).map_err(|found| json!(found))?;
    Claim::read(&case.content).ok_or(Value::Null)
}

proptest! {
    #[test]
    fn the_numbers_that_differ_are_found_and_no_others(
        held in prop::collection::btree_map(1_u64..40, any::<[u8; 32]>(), 1..30),
        changes in prop::collection::btree_map(1_u64..40, prop::option::of(any::<[u8; 32]>()), 0..8),
    ) {
        let claim = Claim::new(channel(), &held);
        let mut others: BTreeMap<u64, [u8; 32]> = held.clone();
        for (number, hash) in &changes {
            match hash {
                Some(hash) => others.insert(*number, *hash),
                None => others.remove(number),
            };
        }
        let read = sent(&claim, None).unwrap();
        prop_assert_eq!(&read, &claim);
        let own = read.beside(&others);
        let last = held.keys().next_back().copied().unwrap();
        let expected: Vec<u64> = (1..=last).filter(|number| held.get(number) != others.get(number)).collect();
        prop_assert_eq!(&claim.differing(&own), &expected);
        prop_assert_eq!(sent(&own, Some(&expected)).unwrap(), own);
    }
}
