//! The day's budget: within it everything goes; beyond it what is brief, at once, and the rest the next day.

use kilter_types::Class;
use kilter_uplink::{SessionConfig, Urgency};

use crate::site::Site;

const DAILY: u64 = 100_000;
const TODAY: i64 = 20_000;

fn site(backlog: u64) -> Site {
    let config = SessionConfig { batch_bytes: 2_000, daily_bytes: DAILY, ..SessionConfig::default() };
    let mut site = Site::start(config, 0);
    site.session.handle_day(TODAY);
    // What was said before belongs to another day.
    site.bytes = 0;
    (0..backlog).for_each(|_| site.append(Class::Feature));
    site.exchange();
    site
}

#[test]
fn features_stop_at_the_budget_and_go_on_the_next_day_with_nothing_lost() {
    let mut site = site(2_000);
    let first = site.of(Class::Feature).count() as u64;
    assert!(first > 0 && first < 1_000, "{first} of 2000 within the budget");
    assert!(site.bytes <= DAILY, "{} bytes", site.bytes);
    assert!(DAILY - site.bytes < 5_000, "the budget is used: {} bytes", site.bytes);
    let status = site.session.status(site.now);
    assert!(status.thin && status.day_bytes == site.bytes && status.over_budget_bytes == 0);
    // An hour later nothing of it has moved, and what new is measured waits too.
    site.pass(60, |site, step| {
        if step % 100 == 0 {
            site.append(Class::Feature);
        }
    });
    assert_eq!(site.of(Class::Feature).count() as u64, first);
    assert!(!site.session.is_stalled(site.now), "what is held back is not the link's fault");
    for day in 1..10 {
        site.session.handle_day(TODAY + day);
        site.exchange();
    }
    let mut seqs: Vec<u64> = site.of(Class::Feature).map(|(_, _, _, seq)| *seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (0..2_060).collect::<Vec<_>>(), "each once, none lost");
}

#[test]
fn what_is_brief_goes_beyond_the_budget_at_once_and_is_counted() {
    let mut site = site(2_000);
    assert!(site.session.status(site.now).thin);
    let mut said = Vec::new();
    site.pass(10, |site, step| {
        let class = match step % 100 {
            10 => Class::Alarm,
            20 => Class::Event,
            30 => Class::Gap,
            40 => Class::Report,
            50 => Class::Spectrum,
            60 => Class::Feature,
            _ => return,
        };
        if !matches!(class, Class::Spectrum | Class::Feature) {
            said.push((site.now, class, site.next.get(&class).copied().unwrap_or(0)));
        }
        site.append(class);
    });
    for (at, class, seq) in &said {
        let sent = site.of(*class).find(|(_, _, _, sent)| sent == seq);
        assert_eq!(sent.map(|sent| sent.0), Some(*at), "{class:?} {seq} waited");
    }
    assert!(site.of(Class::Alarm).all(|(_, urgency, ..)| *urgency == Urgency::Alarm));
    assert_eq!((said.len(), site.of(Class::Spectrum).count()), (40, 0));
    let over = site.session.status(site.now).over_budget_bytes;
    assert!(over > 0 && over == site.bytes - DAILY, "{over} bytes over, {} in all", site.bytes);
}

#[test]
fn an_alarm_that_is_lost_beyond_the_budget_is_sent_again_and_so_is_what_else_is_brief() {
    let mut site = site(2_000);
    site.deaf = true;
    site.append(Class::Alarm);
    site.append(Class::Event);
    site.exchange();
    assert_eq!((site.of(Class::Alarm).count(), site.of(Class::Event).count()), (1, 1));
    site.deaf = false;
    site.pass(30, |_, _| {});
    assert_eq!((site.of(Class::Alarm).count(), site.of(Class::Event).count()), (2, 2), "once more each");
}

#[test]
fn a_restart_and_a_new_link_refill_nothing() {
    let mut first = site(2_000);
    let spent = first.session.status(first.now).spent;
    assert!(spent.bytes >= first.bytes && spent.day == TODAY);
    let before = first.of(Class::Feature).count();
    first.session.handle_disconnected();
    first.session.handle_connected(first.now);
    first.exchange();
    first.append(Class::Report);
    first.exchange();
    assert_eq!((first.of(Class::Feature).count(), first.of(Class::Report).count()), (before, 1));

    let config = SessionConfig { batch_bytes: 2_000, daily_bytes: DAILY, ..SessionConfig::default() };
    let mut again = Site::start(config, 0);
    again.session.resume_budget(spent);
    again.session.handle_day(TODAY);
    (0..2_000).for_each(|_| again.append(Class::Feature));
    again.append(Class::Alarm);
    again.exchange();
    assert_eq!((again.of(Class::Feature).count(), again.of(Class::Alarm).count()), (0, 1));
}

#[test]
fn the_next_day_what_is_new_goes_before_what_was_held() {
    let mut site = site(2_000);
    site.session.handle_day(TODAY + 1);
    let newest = site.next[&Class::Feature];
    site.append(Class::Feature);
    let before = site.sent.len();
    site.exchange();
    assert_eq!((site.sent[before].1, site.sent[before].3), (Urgency::Live, newest));
    let held: Vec<u64> = site.sent[before + 1..].iter().map(|(_, _, _, seq)| *seq).collect();
    assert!(held.len() > 100 && held.is_sorted() && held.iter().all(|seq| *seq < newest), "{held:?}");
}
