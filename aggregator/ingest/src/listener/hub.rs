//! What all connections share: which device is connected where, its mail, the byte budget and the counters.
//!
//! A hub does no IO. Connections ask it through short locks; whoever must act is woken through the waker that it lent. A
//! device has one connection: a second one takes over, and the mail with what was in flight goes with it.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use kilter_types::Monotonic;
use rmqtt_codec::types::QoS;

use super::authorise::Authorise;
use super::limits::{Limits, LimitsError};
use super::outbox::{Down, Outbox};
use crate::budget::Budget;
use crate::counters::{Counters, Tally, add, sub};
use crate::gateway::{DeviceLink, Presence, Principal, SendError, Sent};

/// The shared half of a listener, and the server's handle to it. Clones are the same hub.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

/// A claim on a device by one connection.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) device: Principal,
    pub(crate) waker: Waker,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry_secs: u32,
    pub(crate) window: usize,
    pub(crate) payload_bytes: usize,
}

/// A device held by one connection.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) connection: u64,
    pub(crate) session_present: bool,
}

struct Inner {
    limits: Limits,
    budget: Arc<Budget>,
    authorise: Arc<dyn Authorise>,
    tally: Tally,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: HashMap<Principal, Device>,
    open: usize,
    connections: u64,
    parked_bytes: usize,
}

#[derive(Default)]
struct Device {
    outbox: Outbox,
    link: Option<Link>,
    subscription: Option<QoS>,
    /// When the session that waits for a connection ends.
    expires: Option<Monotonic>,
}

struct Link {
    connection: u64,
    waker: Waker,
    window: usize,
    payload_bytes: usize,
    session_expiry_secs: u32,
}

impl Hub {
    /// A hub without connections.
    pub fn new(limits: Limits, authorise: Arc<dyn Authorise>) -> Result<Self, LimitsError> {
        let limits = limits.check()?;
        Ok(Self {
            inner: Arc::new(Inner {
                budget: Budget::new(limits.budget_bytes),
                limits,
                authorise,
                tally: Tally::default(),
                state: Mutex::default(),
            }),
        })
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Closes a device's connection, for example because its credential was revoked, and forgets its mail.
    pub fn evict(&self, device: &Principal) {
        let evicted = {
            let mut state = self.lock();
            let evicted = state.devices.remove(device);
            if let Some(device) = &evicted {
                state.parked_bytes -= device.outbox.bytes();
            }
            evicted
        };
        if let Some(link) = evicted.and_then(|device| device.link) {
            link.waker.wake();
        }
    }

    pub(crate) fn authorise(&self) -> &dyn Authorise {
        self.inner.authorise.as_ref()
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.inner.tally
    }

    /// Lets a connection in, if there is room for one more.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.lock();
        let room = state.open < self.inner.limits.connections;
        if room {
            state.open += 1;
            add(&self.inner.tally.connections_now, 1);
        }
        room
    }

    /// The other end of [`Hub::enter`].
    pub(crate) fn leave(&self) {
        self.lock().open -= 1;
        sub(&self.inner.tally.connections_now, 1);
    }

    /// Gives a device to a connection; the one that had it finds out through [`Hub::holds`].
    pub(crate) fn attach(&self, claim: Claim, now: Monotonic) -> Held {
        let mut state = self.lock();
        state.connections += 1;
        let connection = state.connections;
        let device = state.devices.entry(claim.device).or_default();
        let alive = match (&device.link, device.expires) {
            (Some(link), _) => link.session_expiry_secs > 0,
            (None, Some(end)) => end > now,
            (None, None) => false,
        };
        let session_present = alive && !claim.clean_start;
        if session_present {
            device.outbox.resume();
        } else {
            device.subscription = None;
            device.outbox.restart();
        }
        device.expires = None;
        let displaced = device.link.replace(Link {
            connection,
            waker: claim.waker,
            window: claim.window,
            payload_bytes: claim.payload_bytes,
            session_expiry_secs: claim.session_expiry_secs,
        });
        drop(state);
        add(&self.inner.tally.connections, 1);
        if let Some(displaced) = displaced {
            add(&self.inner.tally.takeovers, 1);
            displaced.waker.wake();
        }
        Held { connection, session_present }
    }

    /// Whether the connection still has its device.
    pub(crate) fn holds(&self, device: &Principal, connection: u64) -> bool {
        link(&mut self.lock().devices, device, connection).is_some()
    }

    /// The connection ends; its session lives on for as long as was agreed.
    pub(crate) fn detach(
        &self,
        principal: &Principal,
        connection: u64,
        session_expiry_secs: Option<u32>,
        now: Monotonic,
    ) {
        let mut state = self.lock();
        let Some(device) = link(&mut state.devices, principal, connection) else {
            return;
        };
        let expiry_secs = device
            .link
            .take()
            .map_or(0, |link| session_expiry_secs.unwrap_or(link.session_expiry_secs))
            .min(self.inner.limits.session_expiry_secs);
        if expiry_secs > 0 {
            device.expires = Some(after(now, expiry_secs));
            return;
        }
        device.subscription = None;
        if device.outbox.is_empty() {
            state.devices.remove(principal);
        }
    }

    /// Subscribes the connection's device to its mail, or ends that; returns whether there was a subscription.
    pub(crate) fn subscribe(&self, device: &Principal, connection: u64, subscription: Option<QoS>) -> bool {
        link(&mut self.lock().devices, device, connection)
            .is_some_and(|device| std::mem::replace(&mut device.subscription, subscription).is_some())
    }

    /// The next message for the connection to write.
    pub(crate) fn poll_down(&self, principal: &Principal, connection: u64) -> Option<Down> {
        let tally = &self.inner.tally;
        let mut state = self.lock();
        let State { devices, parked_bytes, .. } = &mut *state;
        let device = link(devices, principal, connection)?;
        let qos = device.subscription?;
        let (window, payload_bytes) = device.link.as_ref().map(|link| (link.window, link.payload_bytes))?;
        let before = device.outbox.bytes();
        while device.outbox.next_bytes().is_some_and(|bytes| bytes > payload_bytes) {
            device.outbox.discard_oldest();
            add(&tally.oversize_down, 1);
        }
        let down = device.outbox.poll(qos, window);
        *parked_bytes -= before - device.outbox.bytes();
        drop(state);
        if let Some(down) = &down {
            add(&tally.messages_down, 1);
            add(&tally.bytes_down, down.payload.len() as u64);
        }
        down
    }

    /// The device has a message. An unknown id is a late answer and changes nothing.
    pub(crate) fn acknowledge(&self, principal: &Principal, connection: u64, packet_id: NonZeroU16) {
        let mut state = self.lock();
        let State { devices, parked_bytes, .. } = &mut *state;
        if let Some(device) = link(devices, principal, connection) {
            let before = device.outbox.bytes();
            device.outbox.acknowledge(packet_id);
            *parked_bytes -= before - device.outbox.bytes();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeviceLink for Hub {
    fn send(&self, principal: &Principal, payload: Bytes) -> Result<Sent, SendError> {
        let Inner { limits, tally, .. } = self.inner.as_ref();
        let bytes = payload.len();
        let limit = limits.parked_bytes.min(limits.packet_bytes as usize);
        if bytes > limit {
            return Err(SendError::TooLarge { bytes, limit });
        }
        let mut state = self.lock();
        let State { devices, parked_bytes, .. } = &mut *state;
        if *parked_bytes + bytes > limits.parked_total_bytes {
            return Err(SendError::Full { bytes });
        }
        let device = devices.entry(principal.clone()).or_default();
        let before = device.outbox.bytes();
        let dropped = device.outbox.push(payload, limits.parked_messages, limits.parked_bytes);
        *parked_bytes = *parked_bytes + device.outbox.bytes() - before;
        let waker = device.link.as_ref().filter(|_| device.subscription.is_some()).map(|link| link.waker.clone());
        drop(state);
        add(&tally.dropped_down, dropped);
        Ok(match waker {
            Some(waker) => {
                waker.wake();
                Sent::Online
            }
            None => Sent::Parked,
        })
    }

    fn presence(&self, device: &Principal) -> Presence {
        let online = self.lock().devices.get(device).is_some_and(|device| device.link.is_some());
        if online { Presence::Online } else { Presence::Offline }
    }

    fn counters(&self) -> Counters {
        self.inner.tally.snapshot(self.inner.budget.used_bytes())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

/// The device, if the connection still has it.
fn link<'a>(
    devices: &'a mut HashMap<Principal, Device>,
    principal: &Principal,
    connection: u64,
) -> Option<&'a mut Device> {
    devices.get_mut(principal).filter(|device| device.link.as_ref().is_some_and(|link| link.connection == connection))
}

/// So many seconds later.
pub(crate) fn after(now: Monotonic, secs: u32) -> Monotonic {
    Monotonic(now.0.saturating_add(u64::from(secs) * 1_000_000))
}
