//! Sends this office's signed statements to the broker until each is receipted.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use liaison_log::{
    leaf::{Event, ExchangeLeaf, Statement, payload_type},
    remote::within,
};
use liaison_proto::{
    Bytes,
    ids::{Lane, LogIndex, MessageId},
    refusal::{Refusal, RefusalCode, is_final_refusal},
    wire::{self, StatementKind},
};

use crate::{
    link::Link,
    receive::ReceiptKey,
    record::{NodeRecord, Stated, StatementReceipted},
    retry::{Backoff, gather},
    store::StoreError,
    submit::refusal_of,
    vault::Vault,
};

/// How long a statement may take.
const CALL: Duration = Duration::from_secs(30);

type Pending = (Lane, LogIndex, i32, MessageId);

/// Sends one lane's statements in the order of the log, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, lane: Lane, signer: Signer) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    // Refused for good: kept in the journal, not sent again by this process.
    let mut given_up: Vec<Pending> = Vec::new();
    loop {
        changes.mark_unchanged();
        let next = next(&link, lane, &given_up);
        if next.is_empty() {
            changes.changed().await.map_err(|_| StoreError::Stopped)?;
            continue;
        }
        gather(lane).await;
        let next = self::next(&link, lane, &given_up);
        let mut later = false;
        let sent = join_all(next.iter().map(|pending| send(&link, *pending, &signer))).await;
        for (pending, sent) in next.into_iter().zip(sent) {
            match sent? {
                Sent::Receipted => backoff.reset(),
                Sent::Refused => given_up.push(pending),
                Sent::Later => later = true,
            }
        }
        if later {
            tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
        }
    }
}

/// Statements that are under way together at most.
const TOGETHER: usize = 16;

/// What is stated next. One statement a message: RETRIEVED is entered behind DELIVERED.
fn next(link: &Link, lane: Lane, given_up: &[Pending]) -> Vec<Pending> {
    let state = link.store.state();
    let lane_only = state.to_state.range((lane, LogIndex(0), 0, MessageId::LOWEST)..);
    let mut next: Vec<Pending> = Vec::new();
    for pending in lane_only.take_while(|(of, ..)| *of == lane).filter(|pending| !given_up.contains(pending)) {
        if next.len() == TOGETHER {
            break;
        }
        if next.iter().all(|(.., id)| *id != pending.3) {
            next.push(*pending);
        }
    }
    next
}

/// The keys that statements are signed with.
pub struct Signer {
    /// Signs DELIVERED.
    pub receipt_key: ReceiptKey,
    /// Signs the others, while the office is unlocked.
    pub vault: Arc<Vault>,
}

impl Signer {
    /// The same statement by the office's present key; none when it is by that one already, or the office is locked. Its
    /// key may have been replaced longer ago than the one before is good.
    fn sign_anew(&self, kind: i32, attested: &wire::Attested) -> Option<wire::Attested> {
        let kind = StatementKind::try_from(kind).ok()?;
        let signature = match kind {
            StatementKind::Delivered => self.receipt_key.sign(&attested.statement),
            _ => self.vault.office().ok()?.signing.sign(payload_type(kind)?, &attested.statement),
        };
        let anew = wire::Attested { statement: attested.statement.clone(), signature: Some(signature) };
        (anew != *attested).then_some(anew)
    }
}

enum Sent {
    Receipted,
    Refused,
    Later,
}

async fn send(link: &Link, (lane, _, kind, id): Pending, signer: &Signer) -> Result<Sent, StoreError> {
    let attested = {
        let state = link.store.state();
        let statement = state.incoming.get(&id).and_then(|incoming| incoming.statements.get(&kind));
        statement.map(|statement| statement.attested.clone())
    };
    let Some(attested) = attested else { return Ok(Sent::Refused) };
    let (seen_size, before) = (link.view.seen_size(), *link.view.ends().borrow());
    let request = wire::AttestRequest { kind, attested: Some(attested.clone()), seen_size };
    let receipt = match within(CALL, link.exchange(lane).attest(request)).await {
        Ok(answer) => answer.into_inner().receipt.unwrap_or_default(),
        Err(status) => {
            if !is_final_refusal(&status) {
                return Ok(Sent::Later);
            }
            let bad_signature = Refusal::from_status(&status).is_some_and(|r| r.code == RefusalCode::BadSignature);
            if let Some(anew) = bad_signature.then(|| signer.sign_anew(kind, &attested)).flatten() {
                let message_id = Bytes::copy_from_slice(id.as_bytes());
                let stated = NodeRecord::Stated(Stated { message_id, kind, attested: Some(anew) });
                link.store.write(vec![stated.into()]).await?;
                return Ok(Sent::Later);
            }
            // It may be about an entry of a log that was closed, which this node has not heard of yet.
            if link.view.follow(lane).await.is_ok() && *link.view.ends().borrow() != before {
                return Ok(Sent::Later);
            }
            let name = StatementKind::try_from(kind).unwrap_or_default().as_str_name();
            let why = refusal_of(&status);
            link.alarm(format!("{name} of {id} was refused: {why}"), attested.statement).await?;
            return Ok(Sent::Refused);
        }
    };
    let Some(verified) = link.verified(&receipt, lane).await? else { return Ok(Sent::Later) };
    let is_ours = match ExchangeLeaf::parse(&verified.leaf).map(|leaf| leaf.event) {
        // Of this office, about the same entry; only its own time may be an earlier one.
        Ok(Event::Attested { statement, kind: found, .. }) => {
            let own = Statement::parse(&attested.statement);
            i32::from(found) == kind && own.is_ok_and(|own| Statement { at: statement.at, ..own } == statement)
        }
        _ => false,
    };
    if !is_ours {
        link.alarm(format!("the broker's receipt for a statement about {id} is of something else"), receipt.proof)
            .await?;
        return Ok(Sent::Later);
    }
    let record = NodeRecord::StatementReceipted(StatementReceipted {
        message_id: Bytes::copy_from_slice(id.as_bytes()),
        kind,
        receipt: Some(receipt),
    });
    link.store.write(vec![record.into()]).await?;
    Ok(Sent::Receipted)
}
