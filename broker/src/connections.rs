//! Who is connected: places per address, per party and in all; and the handle that cuts a connection whose party may not
//! be connected any more.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, oneshot};

use crate::identity::Party;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Authenticated ones, all together; half as many may be on their way there.
    pub all: usize,
    /// From one address (of IPv6: one /64), handshakes included.
    pub address: usize,
    /// Handshakes at the same time from one address.
    pub handshakes: usize,
    /// Of one party; as many more are told to come later, one by one.
    pub party: usize,
}

#[derive(Debug)]
struct Open {
    party: Party,
    /// Serial number of its certificate.
    serial: Vec<u8>,
    cut: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Address {
    count: usize,
    handshakes: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    addresses: HashMap<IpAddr, Address>,
    /// Connections that have not said yet who they are.
    arriving: usize,
    open: HashMap<u64, Open>,
    next: u64,
}

/// The register of connections.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    inner: Mutex<Inner>,
}

/// The place of an address, from the first byte on.
#[derive(Debug)]
pub struct AddressPlace {
    connections: Arc<Connections>,
    address: IpAddr,
    arriving: bool,
    /// The address's turns for a handshake.
    pub handshakes: Arc<Semaphore>,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut inner = self.connections.lock();
        inner.arriving -= usize::from(self.arriving);
        if let Some(own) = inner.addresses.get_mut(&self.address) {
            own.count -= 1;
            if own.count == 0 {
                inner.addresses.remove(&self.address);
            }
        }
    }
}

/// The place of an authenticated party.
#[derive(Debug)]
pub struct Place {
    address: AddressPlace,
    number: u64,
    /// Whether the party has more connections than it may: its calls are answered `TOO_MANY`.
    pub excess: bool,
    /// Completes when the connection must end.
    pub cut: oneshot::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.address.connections.lock().open.remove(&self.number);
    }
}

impl Connections {
    /// An empty register.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from an address; none when there are too many.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let address = network(address);
        let mut inner = self.lock();
        // Those who never say who they are take no place from those who have.
        let full = inner.arriving >= self.limits.all.div_ceil(2);
        let new = || Address { count: 0, handshakes: Arc::new(Semaphore::new(self.limits.handshakes)) };
        let own = inner.addresses.entry(address).or_insert_with(new);
        if full || own.count >= self.limits.address {
            if own.count == 0 {
                inner.addresses.remove(&address);
            }
            return None;
        }
        own.count += 1;
        let handshakes = Arc::clone(&own.handshakes);
        inner.arriving += 1;
        Some(AddressPlace { connections: Arc::clone(self), address, arriving: true, handshakes })
    }

    /// A place for an authenticated party; none when it has twice what it may, or all are taken.
    #[must_use]
    pub fn admit(self: &Arc<Self>, mut address: AddressPlace, party: &Party, serial: Vec<u8>) -> Option<Place> {
        let mut inner = self.lock();
        let own = inner.open.values().filter(|open| open.party == *party).count();
        if own >= 2 * self.limits.party || inner.open.len() >= self.limits.all {
            drop(inner);
            return None;
        }
        inner.arriving -= 1;
        address.arriving = false;
        let (sender, cut) = oneshot::channel();
        let number = inner.next;
        inner.next += 1;
        inner.open.insert(number, Open { party: party.clone(), serial, cut: Some(sender) });
        drop(inner);
        Some(Place { address, number, excess: own >= self.limits.party, cut })
    }

    /// Ends every connection of which `concerned` says so, by party and certificate serial number; says how many.
    pub fn cut(&self, concerned: impl Fn(&Party, &[u8]) -> bool) -> usize {
        let mut inner = self.lock();
        let ended = inner.open.values_mut().filter(|open| concerned(&open.party, &open.serial));
        ended.filter_map(|open| open.cut.take()).map(|cut| cut.send(())).filter(Result::is_ok).count()
    }

    /// Connections open now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether a party is connected.
    #[must_use]
    pub fn has(&self, party: &Party) -> bool {
        self.lock().open.values().any(|open| open.party == *party)
    }
}

/// What an address counts as: who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().map_or_else(|| IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()), IpAddr::V4)
        }
    }
}
