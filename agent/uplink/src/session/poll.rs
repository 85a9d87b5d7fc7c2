//! What a session asks of its shell: the next frame, the next look, what may be deleted; and how it stands.

use kilter_types::{Epoch, Monotonic};
use kilter_wire::{Hello, Up, VERSION};

use super::{Link, Session, Status, Urgency, encode};
use crate::{Spool, SpoolError, TimeSample};

impl Session {
    /// The next frame to send, or `None` until something happens.
    pub fn poll_transmit(&mut self, spool: &mut impl Spool, now: Monotonic) -> Result<Option<Vec<u8>>, SpoolError> {
        if self.link == Link::Down {
            return Ok(None);
        }
        self.urgency = Urgency::Talk;
        if self.counters.hello_due <= now {
            self.counters.hello_due = Monotonic(now.0.saturating_add(self.hello_wait_us()));
            let hello = self.hello();
            self.spend(hello.len());
            return Ok(Some(hello));
        }
        if self.link == Link::Greeting {
            return Ok(None);
        }
        let request = if self.thin { None } else { self.time.poll(now) };
        if let Some(request) = request {
            let request = encode(&Up::TimeRequest(request), 64);
            self.spend(request.len());
            return Ok(Some(request));
        }
        if let Some(frame) = self.unjournaled_batch(now) {
            self.urgency = Urgency::Alarm;
            return Ok(Some(frame));
        }
        match self.batch(spool, now)? {
            Some(frame) => Ok(Some(frame)),
            None => self.again_batch(spool, now),
        }
    }

    /// How urgent the frame is that [`poll_transmit`](Self::poll_transmit) gave last.
    pub fn urgency(&self) -> Urgency {
        self.urgency
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) next; `None` without a link.
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        if self.link == Link::Down {
            return None;
        }
        let stall = Monotonic(self.progress_at.0.saturating_add(self.config.stall_us));
        let flights = self.flights.iter().map(|flight| flight.due).min();
        let unjournaled = self.unjournaled.iter().filter_map(|kept| kept.sent).min();
        let unjournaled = unjournaled.map(|sent| Monotonic(sent.0.saturating_add(self.config.ack_timeout_us)));
        let time = (self.link == Link::Up && !self.thin).then(|| self.time.due());
        let waits = self.is_waiting().then_some(stall);
        let scan = self.scanning.then_some(Monotonic::default());
        let company = self.in_company.then_some(self.live_due);
        let paced = self.paced.then_some(self.back_due);
        [Some(self.counters.hello_due), flights, unjournaled, time, waits, scan, company, paced, self.again.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The offset below which everything is committed, when it has moved: the journal may release it (D4).
    pub fn poll_release(&mut self, spool: &mut impl Spool) -> Result<Option<u64>, SpoolError> {
        let before = self.release;
        for _ in 0..RELEASE_STEPS {
            if self.release >= self.durable_end {
                break;
            }
            let Some(place) = spool.read(self.release, &mut self.record)? else { break };
            self.held.note(place.key.epoch, place.offset);
            if !self.marks.is_committed(place.key) {
                self.held.put_first(place.key.epoch);
                break;
            }
            self.release = place.next;
        }
        self.back = self.back.max(self.release);
        self.live = self.live.max(self.release);
        if self.release > before {
            self.let_go();
        }
        Ok((self.release > before).then_some(self.release))
    }

    /// Has the link moved nothing for too long, measured by what is not acked rather than by the socket?
    pub fn is_stalled(&self, now: Monotonic) -> bool {
        self.is_waiting() && now.0.saturating_sub(self.progress_at.0) >= self.config.stall_us
    }

    /// The best time exchange so far.
    pub fn best_time(&self) -> Option<TimeSample> {
        self.time.best()
    }

    /// Everything that the spool holds is accepted and nothing waits.
    pub fn is_drained(&self) -> bool {
        self.flights.is_empty() && self.retry.is_empty() && self.back >= self.back_end && self.live >= self.durable_end
    }

    /// The session in figures.
    pub fn status(&self, now: Monotonic) -> Status {
        let oldest = self.flights.iter().map(|flight| flight.sent).min();
        Status {
            connected: self.link == Link::Up,
            in_flight: self.flights.len(),
            in_flight_bytes: self.in_flight_bytes() as u64,
            credit_bytes: self.credit_bytes,
            released_to: self.release,
            durable_end: self.durable_end,
            oldest_unacked_us: oldest.map_or(0, |sent| now.0.saturating_sub(sent.0)),
            batches: self.counters.batches,
            records: self.counters.records,
            bytes: self.counters.bytes,
            timeouts: self.counters.timeouts,
            unjournaled: self.unjournaled.len(),
            drained: self.is_drained(),
            spent: self.budget.kept(),
            day_bytes: self.budget.spent_bytes(),
            over_budget_bytes: self.budget.over_bytes(),
            thin: self.thin,
        }
    }

    fn hello(&self) -> Vec<u8> {
        let hello = Hello {
            device: self.identity.device.clone(),
            wire_version: u16::from(VERSION),
            software: self.identity.software.clone(),
            epoch: self.epoch,
            held: self.held.iter().take(MAX_HELD).collect(),
        };
        encode(&Up::Hello(hello), 256)
    }

    fn hello_wait_us(&self) -> u64 {
        match self.link {
            Link::Up if self.thin => self.config.hello_interval_us.saturating_mul(THIN_TALK),
            Link::Up => self.config.hello_interval_us,
            Link::Down | Link::Greeting => self.config.ack_timeout_us.min(self.config.hello_interval_us),
        }
    }

    fn is_waiting(&self) -> bool {
        match self.link {
            Link::Down => false,
            Link::Greeting => true,
            // What the budget holds back is not the link's fault.
            Link::Up => !self.flights.is_empty() || !self.thin && !self.retry.is_empty(),
        }
    }

    /// Forgets the epochs of which nothing is held any more.
    fn let_go(&mut self) {
        let before = self.held.len();
        if self.held.release(self.release) {
            if before > MAX_HELD {
                // Epochs that the last introduction had no room for get their marks now.
                self.counters.hello_due = Monotonic::default();
            }
            let kept: Vec<Epoch> = self.held.iter().chain(self.unjournaled.iter().map(|kept| kept.key.epoch)).collect();
            self.marks.retain(&kept);
        }
    }
}

/// Over the budget the node introduces itself so many times more seldom.
const THIN_TALK: u64 = 20;
const RELEASE_STEPS: usize = 20_000;
const MAX_HELD: usize = 8;
