//! One bound on the bytes of all messages between the first byte read and the verdict.
//!
//! Credit alone bounds memory by connections × window × packet size, which is far more than a machine has. Every PUBLISH
//! therefore reserves its size before it is read on; where nothing is left, its connection stops reading and TCP pushes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The bytes that all messages of one gateway may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    state: Mutex<State>,
}

/// A share of the budget; goes back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: usize,
    waiting: Vec<Waker>,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, state: Mutex::default() })
    }

    /// Reserves, or remembers whom to wake when bytes come back.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize, waker: &Waker) -> Option<Reservation> {
        let mut state = self.lock();
        if state.used_bytes + bytes > self.limit_bytes {
            if !state.waiting.iter().any(|other| other.will_wake(waker)) {
                state.waiting.push(waker.clone());
            }
            return None;
        }
        state.used_bytes += bytes;
        Some(Reservation { budget: Arc::clone(self), bytes })
    }

    /// Bytes reserved right now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.lock().used_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.lock();
            state.used_bytes -= self.bytes;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_does_not_fit_is_woken_once_when_bytes_come_back() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let budget = Budget::new(100);
        let held = budget.reserve(80, &waker);
        assert!(budget.reserve(30, &waker).is_none());
        assert!(budget.reserve(30, &waker).is_none());
        drop(held);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.reserve(30, &waker).is_some());
    }
}
