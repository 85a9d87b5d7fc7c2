//! Raw clips: what the channels measured before an alarm and just after it, kept in a ring until somebody wants it.
//!
//! Each sampled channel keeps its last seconds. An alarm that is raised, or a command, fixes the moment; some seconds later the clip is
//! whole and leaves as records of class clip, in parts. It is the first class that the journal gives up, and a day has a byte budget
//! that a restart does not refill: an agent that is in alarm all day does not fill its link with raw samples.

use std::collections::VecDeque;
use std::path::PathBuf;

use kilter_types::{CLIP_PART_BYTES, Clip, ClipCause, Hertz, Micros, Name, Unit};
use kilter_uplink::Spent;
use serde::Deserialize;
use tracing::{info, warn};

use crate::spent;

/// How much is kept, and how much may leave.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClipConfig {
    pub(crate) before_secs: f64,
    pub(crate) after_secs: f64,
    pub(crate) daily_bytes: u64,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self { before_secs: 4.0, after_secs: 1.0, daily_bytes: 32 << 20 }
    }
}

/// The rings of one machine.
#[derive(Debug)]
pub(crate) struct Clips {
    config: ClipConfig,
    rings: Vec<Option<Ring>>,
    /// The clip that is becoming whole.
    wanted: Option<Wanted>,
    budget: Budget,
}

#[derive(Debug)]
struct Ring {
    channel: Name,
    unit: Unit,
    rate: Hertz,
    samples: VecDeque<f32>,
    /// Position and time just behind the last sample.
    end: (u64, Micros),
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    cause: ClipCause,
    at: Micros,
}

/// Bytes of one day, on disk.
#[derive(Debug)]
struct Budget {
    path: PathBuf,
    spent: Spent,
}

impl Clips {
    /// Rings for these channels (`None` for those without samples); the budget is kept in `path`.
    pub(crate) fn new(config: ClipConfig, channels: Vec<Option<(Name, Unit, Hertz)>>, path: PathBuf) -> Self {
        let ring = |(channel, unit, rate)| Ring { channel, unit, rate, samples: VecDeque::new(), end: (0, Micros(0)) };
        let rings = channels.into_iter().map(|channel| channel.map(ring)).collect();
        Self { config, rings, wanted: None, budget: Budget::load(path) }
    }

    /// Keeps a block of a channel; what no longer follows what is there begins anew.
    pub(crate) fn block(&mut self, channel: usize, position: u64, t0: Micros, samples: &[f32]) {
        let seconds = self.config.before_secs + self.config.after_secs;
        let Some(Some(ring)) = self.rings.get_mut(channel) else { return };
        let most = (seconds * f64::from(ring.rate.0)).ceil() as usize;
        let known = usize::try_from(ring.end.0.saturating_sub(position)).unwrap_or(usize::MAX).min(samples.len());
        if position > ring.end.0 {
            ring.samples.clear();
        }
        let fresh = &samples[known..];
        if fresh.is_empty() {
            return;
        }
        ring.samples.extend(fresh);
        // The moment that fixes a clip lies up to two blocks back when it is noticed.
        let surplus = ring.samples.len().saturating_sub(most + 2 * samples.len());
        ring.samples.drain(..surplus);
        ring.end = (position + samples.len() as u64, t0 + span(samples.len(), ring.rate));
    }

    /// Wants the moment `at`; `false` while another clip is becoming whole, or when nothing is kept.
    pub(crate) fn want(&mut self, cause: ClipCause, at: Micros) -> bool {
        let possible = self.config.daily_bytes > 0 && self.rings.iter().any(Option::is_some);
        if possible && self.wanted.is_none() {
            self.wanted = Some(Wanted { cause, at });
            return true;
        }
        false
    }

    /// The parts of the clip once it is whole, if the day's budget has room for them. `wall` says which day it is.
    pub(crate) fn poll(&mut self, newest: Micros, wall: Micros) -> Vec<Clip> {
        let after = Micros((self.config.after_secs * 1e6) as i64);
        let Some(wanted) = self.wanted.take_if(|wanted| newest >= wanted.at + after) else { return Vec::new() };
        let before = Micros((self.config.before_secs * 1e6) as i64);
        let (from, to) = (wanted.at - before, wanted.at + after);
        let bytes: u64 = self.rings.iter().flatten().map(|ring| ring.between(from, to).len() as u64 * 4).sum();
        if !self.budget.spend(bytes, self.config.daily_bytes, wall) {
            info!(bytes, "no clip: the day's budget is spent");
            return Vec::new();
        }
        let id = wanted.at.0.unsigned_abs();
        self.rings.iter().flatten().flat_map(|ring| ring.parts(id, wanted.cause, ring.between(from, to))).collect()
    }
}

impl Ring {
    /// Which of the samples kept belong to a range of time.
    fn between(&self, from: Micros, to: Micros) -> std::ops::Range<usize> {
        let back = |t: Micros| ((self.end.1 - t).0.max(0) as f64 * f64::from(self.rate.0) / 1e6).round() as usize;
        let place = |t: Micros| self.samples.len().saturating_sub(back(t));
        place(from)..place(to)
    }

    fn parts(&self, id: u64, cause: ClipCause, range: std::ops::Range<usize>) -> Vec<Clip> {
        let behind = self.samples.len() - range.start;
        let first = self.end.0 - behind as u64;
        let t_first = self.end.1 - span(behind, self.rate);
        let samples: Vec<f32> = self.samples.range(range).copied().collect();
        let parts = samples.chunks(PART_SAMPLES).len().min(usize::from(u16::MAX)) as u16;
        let part = |(part, samples): (u16, &[f32])| {
            let before = usize::from(part) * PART_SAMPLES;
            Clip {
                id,
                cause,
                channel: self.channel.clone(),
                unit: self.unit,
                rate: self.rate,
                position: first + before as u64,
                t0: t_first + span(before, self.rate),
                part,
                parts,
                samples: samples.iter().flat_map(|value| value.to_le_bytes()).collect(),
            }
        };
        (0..parts).zip(samples.chunks(PART_SAMPLES)).map(part).collect()
    }
}

impl Budget {
    fn load(path: PathBuf) -> Self {
        let spent = spent::load(&path);
        Self { path, spent }
    }

    /// Takes so many bytes from the day's; they are spent on disk before a clip leaves.
    fn spend(&mut self, bytes: u64, most_bytes: u64, wall: Micros) -> bool {
        let day = wall.0.div_euclid(DAY_US);
        // A clock that goes back gives no second budget.
        if day > self.spent.day {
            self.spent = Spent { day, bytes: 0 };
        }
        if self.spent.bytes.saturating_add(bytes) > most_bytes {
            return false;
        }
        self.spent.bytes += bytes;
        if let Err(error) = spent::keep(&self.path, self.spent) {
            warn!(path = %self.path.display(), %error, "the day's budget for clips is not kept: no clip");
            return false;
        }
        true
    }
}

fn span(samples: usize, rate: Hertz) -> Micros {
    Micros((samples as f64 * 1e6 / f64::from(rate.0)).round() as i64)
}

const PART_SAMPLES: usize = CLIP_PART_BYTES / 4;
const DAY_US: i64 = 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f32 = 1000.0;

    fn clips(dir: &std::path::Path, daily_bytes: u64) -> Clips {
        let name = Name::new("de-x").expect("a good name");
        let config = ClipConfig { before_secs: 2.0, after_secs: 0.5, daily_bytes };
        Clips::new(config, vec![Some((name, Unit::G, Hertz(RATE))), None], dir.join("clips"))
    }

    fn feed(clips: &mut Clips, from: u64, to: u64) {
        for position in (from..to).step_by(100) {
            let samples: Vec<f32> = (position..position + 100).map(|i| i as f32).collect();
            clips.block(0, position, Micros(position as i64 * 1_000), &samples);
        }
    }

    fn values(parts: &[Clip]) -> Vec<f32> {
        let bytes = parts.iter().flat_map(|part| part.samples.iter().copied()).collect::<Vec<u8>>();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn a_clip_holds_the_seconds_before_the_alarm_and_a_little_after_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut clips = clips(dir.path(), 1 << 20);
        feed(&mut clips, 0, 5_000);
        assert!(clips.want(ClipCause::Alarm(3), Micros(5_000_000)));
        assert!(!clips.want(ClipCause::Alarm(4), Micros(5_000_000)), "one at a time");
        assert!(clips.poll(Micros(5_400_000), Micros(0)).is_empty(), "not whole yet");
        // It is noticed late: what came since is not the clip's, and what was before the alarm is still here.
        feed(&mut clips, 5_000, 5_600);
        let parts = clips.poll(Micros(5_600_000), Micros(0));
        let expected: Vec<f32> = (3_000..5_500).map(|i| i as f32).collect();
        assert_eq!(values(&parts), expected, "two seconds before and half a second after");
        assert_eq!(parts.len(), usize::from(parts[0].parts));
        assert!(parts.iter().all(|part| part.id == parts[0].id && part.cause == ClipCause::Alarm(3)));
        assert_eq!((parts[1].position, parts[1].t0), (3_256, Micros(3_256_000)));
    }

    #[test]
    fn a_hole_is_never_stitched_and_a_repeat_is_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut clips = clips(dir.path(), 1 << 20);
        feed(&mut clips, 0, 1_000);
        feed(&mut clips, 500, 1_200);
        feed(&mut clips, 2_000, 2_600);
        assert!(clips.want(ClipCause::Command(9), Micros(2_000_000)));
        let parts = clips.poll(Micros(2_600_000), Micros(0));
        assert_eq!(values(&parts), (2_000..2_500).map(|i| i as f32).collect::<Vec<_>>());
    }

    #[test]
    fn the_daily_budget_holds_across_a_restart_and_a_clock_that_goes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let take = |clips: &mut Clips, wall| {
            assert!(clips.want(ClipCause::Alarm(1), Micros(2_500_000)));
            clips.poll(Micros(9_000_000), Micros(wall)).len()
        };
        let mut first = clips(dir.path(), 25_000);
        feed(&mut first, 0, 3_000);
        assert!(take(&mut first, 3 * DAY_US) > 0);
        assert!(take(&mut first, 3 * DAY_US) > 0);
        assert_eq!(take(&mut first, 3 * DAY_US), 0, "10 kB each: the third is too much");
        let mut again = clips(dir.path(), 25_000);
        feed(&mut again, 0, 3_000);
        assert_eq!(take(&mut again, 3 * DAY_US), 0, "a restart does not refill it");
        assert_eq!(take(&mut again, 2 * DAY_US), 0, "nor does yesterday");
        assert!(take(&mut again, 4 * DAY_US) > 0, "tomorrow does");
    }
}
