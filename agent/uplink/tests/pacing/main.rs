//! What a site does that comes back after a long outage: alarms at once, what is new before what is old, and the old at its pace; and what it
//! holds back when a day's budget is used up.

mod budget;
mod site;

use kilter_types::Class;
use kilter_uplink::Urgency;

use site::{BACKLOG, RECORD_BYTES, Site};

/// A twentieth of the backlog a second.
const PACE: u64 = 25_000;

#[test]
fn back_fill_keeps_its_pace_and_comes_in_the_order_of_the_journal() {
    let mut site = Site::back_after_an_outage(PACE);
    let begin = site.now;
    site.pass(10, |_, _| {});
    let seqs: Vec<u64> = site.of(Class::Feature).map(|(_, _, _, seq)| *seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "oldest first");
    assert!(site.of(Class::Feature).all(|(_, urgency, ..)| *urgency == Urgency::Back));
    // In no stretch of time more than its pace and one batch.
    for (at, ..) in site.of(Class::Feature) {
        let until = site.of(Class::Feature).filter(|(other, ..)| other.0 <= at.0).count() as u64 * RECORD_BYTES as u64;
        let allowed = PACE * (at.0 - begin.0) / 1_000_000 + 2_000;
        assert!(until <= allowed, "{until} bytes after {} us, {allowed} are allowed", at.0 - begin.0);
    }
    let sent = seqs.len() as u64 * RECORD_BYTES as u64;
    assert!(sent >= PACE * 10 * 9 / 10, "the pace is used: {sent} bytes in 10 s");
}

#[test]
fn what_is_new_never_waits_behind_a_paced_backlog_and_alarms_wait_for_nothing() {
    let mut site = Site::back_after_an_outage(PACE);
    let (mut live, mut alarms) = (Vec::new(), Vec::new());
    site.pass(10, |site, step| {
        if step % 10 == 3 {
            live.push((site.now, site.next[&Class::Feature]));
            site.append(Class::Feature);
        }
        if step % 100 == 7 {
            alarms.push((site.now, site.next.get(&Class::Alarm).copied().unwrap_or(0)));
            site.append(Class::Alarm);
        }
    });
    for (at, seq) in live {
        let sent = site.of(Class::Feature).find(|(_, _, _, sent)| *sent == seq).expect("it was sent");
        assert_eq!((sent.0, sent.1), (at, Urgency::Live), "window {seq} waited");
    }
    for (at, seq) in alarms {
        let sent = site.of(Class::Alarm).find(|(_, _, _, sent)| *sent == seq).expect("it was sent");
        assert_eq!((sent.0, sent.1), (at, Urgency::Alarm), "alarm {seq} waited");
    }
    let old = site.of(Class::Feature).filter(|(_, urgency, ..)| *urgency == Urgency::Back).count();
    assert!(old > 1_000, "the backlog goes on between them: {old}");
}

#[test]
fn without_a_pace_the_backlog_leaves_as_fast_as_it_is_accepted_and_an_alarm_still_goes_first() {
    let mut site = Site::back_after_an_outage(0);
    assert_eq!(site.of(Class::Feature).count() as u64, BACKLOG, "all at once");
    site.append(Class::Alarm);
    let before = site.sent.len();
    site.append(Class::Feature);
    site.exchange();
    assert_eq!(site.sent[before].2, Class::Alarm);
}
