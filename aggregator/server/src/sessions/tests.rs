//! Epochs that are remembered, and messages that wait for nothing but their turn.

use std::time::Duration;

use kilter_ingest::{Counters, Presence, SendError, Sent};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::*;
use crate::config;

#[test]
fn the_epoch_that_was_silent_longest_goes_first() {
    let (own, mut known) = (Epoch(0), vec![Epoch(0)]);
    for start in 1..=3 * MAX_EPOCHS as u64 {
        see(&mut known, &[Epoch(start), own]);
        assert_eq!(known.last(), Some(&own));
    }
    assert_eq!((known.len(), known[0]), (MAX_EPOCHS, Epoch(2 * MAX_EPOCHS as u64 + 2)));
}

#[test]
fn a_message_is_taken_while_the_one_before_is_not_yet_durable_and_each_is_told_in_its_turn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Runtime::new().expect("a runtime");
    let sessions = runtime.block_on(nobodys(folder.path()));
    let (told, mut hears) = mpsc::unbounded_channel();
    // The journal's thread can fold and answer nothing, as if its disk were slow.
    let held = sessions.store.state();
    runtime.block_on(async {
        for number in 0..3u8 {
            let told = told.clone();
            let kept = sessions.keep(entry(number), move |stored| {
                let _ = told.send((number, stored.is_ok()));
            });
            timeout(Duration::from_secs(60), kept).await.expect("it waits for no sync");
        }
    });
    assert!(hears.try_recv().is_err(), "nothing is told before it is folded");
    drop(held);
    let mut all: Vec<_> = (0..3).map(|_| runtime.block_on(hears.recv()).expect("each is told")).collect();
    all.sort_unstable();
    assert_eq!(all, [(0, true), (1, true), (2, true)]);
}

fn entry(number: u8) -> Entry {
    let device = DeviceId::new("edge-1").expect("a good name");
    Entry::Quarantined { device, received: Micros(9), reason: "damaged".into(), bytes: vec![number] }
}

/// The server's side of conversations in which nobody is connected.
async fn nobodys(data: &std::path::Path) -> Sessions {
    let catalogue = Catalogue::open(&data.join("catalogue.sqlite")).await.expect("a new catalogue");
    let fleet =
        FleetHandle::open(catalogue.clone(), &config::Rollout::default(), [7; 32], data).await.expect("no models");
    let recall = |_: &mut dyn FnMut(kilter_fold::Output)| Ok(());
    let store =
        Store::open(data, &config::Journal::default(), None, Vec::new(), Micros(1), &recall).expect("a new journal");
    let committed = CommittedMarks::default();
    Sessions::new(store, Arc::new(Nobody), fleet, data.join("models"), Admission::new(1 << 20), committed, catalogue)
}

struct Nobody;

impl DeviceLink for Nobody {
    fn send(&self, _: &Principal, _: Bytes) -> Result<Sent, SendError> {
        Err(SendError::Ended)
    }

    fn presence(&self, _: &Principal) -> Presence {
        Presence::Offline
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
