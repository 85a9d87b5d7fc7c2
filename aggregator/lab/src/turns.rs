//! Turns for questions: a few at once, each for so long, and a word when none of them comes back.
//!
//! A few more may wait for a turn. Who comes then is told at once that the lab is busy, and so is who waited in vain: nothing queues
//! without bound.
//!
//! Polars can't be stopped half-way: a question that took too long goes on in its thread and keeps its turn, so that such questions can't
//! pile up. When every turn is held by one of them, nothing would be answered any more: then the lab ends and is started again, which
//! costs a few seconds and no row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::sync::Semaphore;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns {
    turns: Arc<Semaphore>,
    /// For who has a turn or waits for one.
    places: Arc<Semaphore>,
    at_once: usize,
    limit: Duration,
    overdue: Arc<AtomicUsize>,
}

impl Turns {
    pub(crate) fn new(at_once: usize, limit: Duration) -> Self {
        let [turns, places] = [at_once, at_once + MOST_WAITING].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { turns, places, at_once, limit, overdue: Arc::default() }
    }

    /// Does the work on a thread where it may block, once there is a turn; an error when all that took too long.
    pub(crate) async fn take<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let Ok(_place) = self.places.try_acquire() else {
            bail!(
                "{BUSY}: {} questions are being answered and {MOST_WAITING} wait; ask again in a moment",
                self.at_once
            );
        };
        let state = Arc::new(AtomicU8::new(WAITING));
        let (seen, overdue) = (state.clone(), self.overdue.clone());
        let asked = async {
            let turn = self.turns.clone().acquire_owned().await?;
            state.store(RUNNING, Ordering::SeqCst);
            let looked = tokio::task::spawn_blocking(move || {
                let answer = work();
                if seen.swap(ENDED, Ordering::SeqCst) == OVERDUE {
                    overdue.fetch_sub(1, Ordering::SeqCst);
                }
                drop(turn);
                answer
            });
            looked.await?
        };
        match tokio::time::timeout(self.limit, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                // Counted first: its thread may end, and count it back, as soon as it is marked.
                self.overdue.fetch_add(1, Ordering::SeqCst);
                let was = state.compare_exchange(RUNNING, OVERDUE, Ordering::SeqCst, Ordering::SeqCst);
                if was.is_err() {
                    self.overdue.fetch_sub(1, Ordering::SeqCst);
                }
                if was == Err(WAITING) {
                    bail!("{BUSY}: no turn came free within {} s; ask again in a moment", self.limit.as_secs());
                }
                bail!(
                    "failed to answer within {} s: ask for less, for instance one day (day = '2026-01-31') or one machine, or raise \
                     [query] max_secs in lab.toml",
                    self.limit.as_secs()
                )
            }
        }
    }

    /// Is every turn held by a question that nobody waits for any more?
    pub(crate) fn are_stuck(&self) -> bool {
        self.overdue.load(Ordering::SeqCst) >= self.at_once
    }
}

/// What the server knows such an answer by.
const BUSY: &str = "the lab is busy";
/// Beside those that have a turn.
const MOST_WAITING: usize = 16;
const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const OVERDUE: u8 = 2;
const ENDED: u8 = 3;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn questions_that_do_not_end_hold_their_turns_and_when_all_are_held_that_shows() {
        let turns = Turns::new(2, Duration::from_millis(50));
        let (mut let_go, mut gone) = (Vec::new(), Vec::new());
        for held in 1..=2 {
            let (release, wait) = mpsc::channel::<()>();
            let (ended, end) = mpsc::channel::<()>();
            let question = turns.take(move || {
                let _ = wait.recv();
                drop(ended);
                Ok(())
            });
            assert!(question.await.expect_err("too slow").to_string().contains("max_secs"));
            assert_eq!(turns.are_stuck(), held == 2);
            let_go.push(release);
            gone.push(end);
        }
        // The next one does not even begin, and does not count as one that is stuck.
        let refused = turns.take(|| Ok(1)).await.expect_err("every turn is held").to_string();
        assert!(refused.starts_with(BUSY), "{refused}");
        assert!(turns.are_stuck());
        drop(let_go);
        for end in &gone {
            let _ = end.recv();
        }
        // Both have come back: there is room again.
        let two = tokio::join!(turns.clone().take_until_free(), turns.clone().take_until_free());
        assert_eq!(two, (1, 1));
        assert!(!turns.are_stuck());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn s3_19_one_more_than_may_wait_is_refused_at_once_and_let_in_again_when_one_is_done() {
        let turns = Turns::new(1, Duration::from_secs(3600));
        let (release, wait) = mpsc::channel::<()>();
        let begun = Arc::new(tokio::sync::Notify::new());
        let (held, seen) = (turns.clone(), Arc::clone(&begun));
        let first = tokio::spawn(async move {
            held.take(move || {
                seen.notify_one();
                Ok(wait.recv().is_ok())
            })
            .await
        });
        begun.notified().await;
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|i| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(move || Ok(i)).await })
            })
            .collect();
        while turns.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = turns.take(|| Ok(0)).await.expect_err("nobody else may wait").to_string();
        assert!(refused.starts_with(BUSY) && refused.contains("16 wait"), "{refused}");
        release.send(()).expect("it waits");
        assert!(first.await.expect("it ended").expect("an answer"));
        for (i, asked) in waiting.into_iter().enumerate() {
            assert_eq!(asked.await.expect("it ended").expect("an answer"), i);
        }
        assert_eq!(turns.take(|| Ok(7)).await.expect("there is room again"), 7);
    }

    impl Turns {
        async fn take_until_free(self) -> u8 {
            loop {
                if let Ok(answer) = self.take(|| Ok(1)).await {
                    return answer;
                }
            }
        }
    }
}
