//! A bounded queue that is fair: FLASH before URGENT before bulk, and inside a lane one office after the other, so that
//! neither a lane nor an office waits behind another one's crowd.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_proto::ids::{Lane, OfficeId};
use tokio::{sync::Notify, time::timeout};

/// Whose turn an item waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The lane.
    pub lane: Lane,
    /// The office.
    pub office: OfficeId,
    /// What it weighs in a batch, bytes.
    pub bytes: usize,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Items of one office in one lane.
    pub office: usize,
    /// Items of one lane.
    pub lane: usize,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too much of this office waits.
    OfficeFull,
    /// Too much of this lane waits.
    LaneFull,
    /// Nobody reads the queue any more.
    Closed,
}

#[derive(Debug)]
struct LaneQueue<T> {
    waiting: HashMap<OfficeId, VecDeque<(usize, T)>>,
    /// Offices with something waiting, in the order of their turns.
    turns: VecDeque<OfficeId>,
    count: usize,
}

impl<T> Default for LaneQueue<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }
}

impl<T> LaneQueue<T> {
    fn push(&mut self, ticket: Ticket, bounds: Bounds, item: T) -> Result<(), NotTaken> {
        if self.count >= bounds.lane {
            return Err(NotTaken::LaneFull);
        }
        let own = self.waiting.entry(ticket.office).or_default();
        if own.len() >= bounds.office {
            return Err(NotTaken::OfficeFull);
        }
        if own.is_empty() {
            self.turns.push_back(ticket.office);
        }
        own.push_back((ticket.bytes, item));
        self.count += 1;
        Ok(())
    }

    /// One item of the office whose turn it is; the office goes to the end of the line.
    fn pop(&mut self) -> Option<(usize, T)> {
        let office = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&office)?;
        let item = own.pop_front()?;
        if own.is_empty() {
            self.waiting.remove(&office);
        } else {
            self.turns.push_back(office);
        }
        self.count -= 1;
        Some(item)
    }
}

#[derive(Debug)]
struct Inner<T> {
    lanes: [LaneQueue<T>; 3],
    closed: bool,
}

/// The queue. One reader waits for what comes.
#[derive(Debug)]
pub struct FairQueue<T> {
    bounds: Bounds,
    inner: Mutex<Inner<T>>,
    ready: Notify,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let inner = Inner { lanes: std::array::from_fn(|_| LaneQueue::default()), closed: false };
        Self { bounds, inner: Mutex::new(inner), ready: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an item in.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn push(&self, ticket: Ticket, item: T) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(NotTaken::Closed);
        }
        inner.lanes[ticket.lane as usize].push(ticket, self.bounds, item)?;
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// How many items wait, per lane.
    #[must_use]
    pub fn waiting(&self) -> [usize; 3] {
        let inner = self.lock();
        [0, 1, 2].map(|lane| inner.lanes[lane].count)
    }

    /// Nothing is taken in any more; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// What waits, at most `most` items of about `bytes` together; empty when nothing does.
    #[must_use]
    pub fn try_batch(&self, most: usize, bytes: usize) -> Vec<T> {
        Self::batch(&mut self.lock(), most, bytes)
    }

    /// Waits for something, at most so long when a time is given: nothing has come then. None when the queue was closed
    /// and is empty.
    pub async fn wait_batch(&self, most: usize, bytes: usize, longest: Option<Duration>) -> Option<Vec<T>> {
        loop {
            {
                let mut inner = self.lock();
                let batch = Self::batch(&mut inner, most, bytes);
                if !batch.is_empty() {
                    return Some(batch);
                }
                if inner.closed {
                    return None;
                }
            }
            // A push before this keeps its notice for us.
            match longest {
                None => self.ready.notified().await,
                Some(longest) => {
                    if timeout(longest, self.ready.notified()).await.is_err() {
                        return Some(Vec::new());
                    }
                }
            }
        }
    }

    /// A lane takes half of what is left while lanes below it wait, so that none of them ever stands still.
    fn batch(inner: &mut Inner<T>, most: usize, bytes: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let mut weight = 0_usize;
        for lane in 0..inner.lanes.len() {
            let below = inner.lanes[lane + 1..].iter().any(|lane| lane.count > 0);
            let half = |left: usize| if below { left.div_ceil(2) } else { left };
            let (share, until) = (half(most - batch.len()), weight.saturating_add(half(bytes.saturating_sub(weight))));
            for _ in 0..share {
                if weight >= until {
                    break;
                }
                let Some((size, item)) = inner.lanes[lane].pop() else { break };
                weight = weight.saturating_add(size);
                batch.push(item);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(lane: Lane, office: &str) -> Ticket {
        Ticket { lane, office: office.parse().unwrap(), bytes: 1 }
    }

    #[test]
    fn an_office_waits_for_one_item_of_each_other_office_not_for_its_crowd() {
        let queue = FairQueue::new(Bounds { office: 100, lane: 1000 });
        for n in 0..100 {
            queue.push(ticket(Lane::Bulk, "VN-BLO-LCA"), ("noisy", n)).unwrap();
        }
        assert_eq!(queue.push(ticket(Lane::Bulk, "VN-BLO-LCA"), ("noisy", 100)), Err(NotTaken::OfficeFull));
        queue.push(ticket(Lane::Bulk, "CN-BLO-HKO"), ("quiet", 0)).unwrap();
        assert_eq!(queue.try_batch(2, usize::MAX), [("noisy", 0), ("quiet", 0)]);
    }

    #[test]
    fn flash_goes_first_and_no_lane_stands_still() {
        let queue = FairQueue::new(Bounds { office: 100, lane: 1000 });
        for n in 0..50 {
            for lane in [Lane::Bulk, Lane::Urgent, Lane::Flash] {
                queue.push(ticket(lane, "VN-BLO-LCA"), (lane, n)).unwrap();
            }
        }
        let batch = queue.try_batch(8, usize::MAX);
        let lanes: Vec<Lane> = batch.iter().map(|(lane, _)| *lane).collect();
        assert_eq!(
            lanes,
            [Lane::Flash; 4].into_iter().chain([Lane::Urgent; 2]).chain([Lane::Bulk; 2]).collect::<Vec<_>>()
        );
        let mut all = batch;
        loop {
            let more = queue.try_batch(7, usize::MAX);
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        for lane in Lane::ALL {
            let numbers: Vec<u32> = all.iter().filter(|(of, _)| *of == lane).map(|(_, n)| *n).collect();
            assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "{lane:?} is not in order");
        }
    }

    #[tokio::test]
    async fn a_closed_queue_hands_out_what_it_has() {
        let queue = FairQueue::new(Bounds { office: 2, lane: 2 });
        queue.push(ticket(Lane::Flash, "VN-BLO-LCA"), 1).unwrap();
        queue.close();
        assert_eq!(queue.push(ticket(Lane::Flash, "VN-BLO-LCA"), 2), Err(NotTaken::Closed));
        assert_eq!(queue.wait_batch(8, 8, None).await, Some(vec![1]));
        assert_eq!(queue.wait_batch(8, 8, Some(Duration::ZERO)).await, None);
    }
}
