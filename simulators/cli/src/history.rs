//! What an asset has produced and still holds, in order, for readers that come and go.
//!
//! A [`Cursor`] is one reader's place: the next piece, and per channel the position it still needs. Whatever lies between that and
//! the next piece is gone (dropped here, or never recorded), and the reader is told so before it gets the piece.

use std::collections::VecDeque;

use crate::piece::Piece;

/// The pieces of one asset.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Each with the bytes that had been produced before it.
    pieces: VecDeque<(Piece, u64)>,
    /// Number of the first piece held, counted from the asset's beginning.
    first: u64,
    /// Bytes produced since the beginning.
    bytes: u64,
    /// Per channel: position behind the last sample produced.
    next: Vec<u64>,
}

/// One reader's place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    piece: u64,
    need: Vec<u64>,
}

/// What a reader gets next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step<'h> {
    /// Positions that will never come.
    Skipped { channel: usize, from: u64, to: u64 },
    /// A piece, of which the reader needs what lies at `from` and behind.
    Piece { piece: &'h Piece, from: u64 },
}

impl History {
    pub(crate) fn new(channels: usize) -> Self {
        Self { next: vec![0; channels], ..Self::default() }
    }

    pub(crate) fn push(&mut self, piece: Piece) {
        self.next[piece.channel] = self.next[piece.channel].max(piece.end());
        let before = self.bytes;
        self.bytes += piece.bytes() as u64;
        self.pieces.push_back((piece, before));
    }

    /// Forgets pieces that end before `before_s`, as long as more than `keep_bytes` are held and none at `keep_from` or behind.
    pub(crate) fn trim(&mut self, before_s: f64, keep_bytes: usize, keep_from: u64) {
        while let Some((oldest, _)) = self.pieces.front() {
            if oldest.end_s >= before_s || self.held_bytes() <= keep_bytes || self.first >= keep_from {
                break;
            }
            self.pieces.pop_front();
            self.first += 1;
        }
    }

    /// A reader's place from the positions it asks for. A position that has not been produced yet comes from another life of this
    /// asset: such a reader begins with what is held.
    pub(crate) fn seek(&self, asked: &[u64]) -> Cursor {
        let need = asked.iter().zip(&self.next).map(|(asked, next)| if asked > next { 0 } else { *asked }).collect();
        Cursor { piece: self.first, need }
    }

    /// The next step for a reader; `None` at the end of what has been produced.
    pub(crate) fn read(&self, cursor: &mut Cursor) -> Option<Step<'_>> {
        cursor.piece = cursor.piece.max(self.first);
        loop {
            let place = usize::try_from(cursor.piece - self.first).ok()?;
            let (piece, _) = self.pieces.get(place)?;
            let need = cursor.need[piece.channel];
            if need < piece.position {
                cursor.need[piece.channel] = piece.position;
                return Some(Step::Skipped { channel: piece.channel, from: need, to: piece.position });
            }
            cursor.piece += 1;
            if need < piece.end() {
                cursor.need[piece.channel] = piece.end();
                return Some(Step::Piece { piece, from: need });
            }
        }
    }

    /// Bytes that lie at or behind a piece.
    pub(crate) fn bytes_from(&self, piece: u64) -> usize {
        self.place(piece).map_or(0, |(_, before)| (self.bytes - before) as usize)
    }

    /// When a piece ended; the newest one's end for a place behind it.
    pub(crate) fn end_s(&self, piece: u64) -> f64 {
        self.place(piece).or(self.pieces.back()).map_or(0.0, |(piece, _)| piece.end_s)
    }

    fn place(&self, piece: u64) -> Option<&(Piece, u64)> {
        self.pieces.get(usize::try_from(piece.saturating_sub(self.first)).ok()?)
    }

    /// Per channel: position behind the last sample produced.
    pub(crate) fn produced(&self) -> &[u64] {
        &self.next
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes_from(self.first)
    }
}

impl Cursor {
    /// Number of the next piece.
    pub(crate) fn piece(&self) -> u64 {
        self.piece
    }

    /// Per channel: the position that is needed next.
    pub(crate) fn need(&self) -> &[u64] {
        &self.need
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::{Data, little_endian};
    use kilter_types::Micros;

    fn block(channel: usize, position: u64, samples: usize) -> Piece {
        let data = Data::Block { rate_hz: 10.0, samples: little_endian(&vec![1.0; samples]) };
        Piece { channel, position, end_s: (position + samples as u64) as f64 / 10.0, t: Micros(0), data }
    }

    fn filled() -> History {
        let mut history = History::new(2);
        for start in (0..100).step_by(10) {
            history.push(block(0, start, 10));
            history.push(block(1, start, 10));
        }
        history
    }

    /// Per channel: what was skipped and what was read.
    fn drain(history: &History, cursor: &mut Cursor) -> [(u64, u64); 2] {
        let mut counts = [(0, 0); 2];
        while let Some(step) = history.read(cursor) {
            match step {
                Step::Skipped { channel, from, to } => counts[channel].0 += to - from,
                Step::Piece { piece, from } => counts[piece.channel].1 += piece.end() - from.max(piece.position),
            }
        }
        counts
    }

    #[test]
    fn a_reader_that_comes_back_gets_each_position_once() {
        let history = filled();
        let mut cursor = history.seek(&[34, 71]);
        assert_eq!(drain(&history, &mut cursor), [(0, 66), (0, 29)]);
        assert_eq!(cursor.need(), [100, 100]);
        assert_eq!(history.read(&mut cursor), None);
    }

    #[test]
    fn what_has_been_dropped_is_told_before_what_follows() {
        let mut history = filled();
        history.trim(5.05, 0, u64::MAX);
        let mut cursor = history.seek(&[34, 71]);
        assert_eq!(history.read(&mut cursor), Some(Step::Skipped { channel: 0, from: 34, to: 50 }));
        assert_eq!(drain(&history, &mut cursor), [(0, 50), (0, 29)]);
    }

    #[test]
    fn nothing_is_dropped_that_a_held_reader_has_not_had() {
        let mut history = filled();
        history.trim(f64::INFINITY, 0, 4);
        let mut cursor = history.seek(&[0, 0]);
        assert_eq!(drain(&history, &mut cursor), [(20, 80), (20, 80)]);
        let before = history.held_bytes();
        history.trim(f64::INFINITY, before, u64::MAX);
        assert_eq!(history.held_bytes(), before);
    }

    #[test]
    fn a_hole_in_a_recording_is_told() {
        let mut history = History::new(1);
        history.push(block(0, 0, 10));
        history.push(block(0, 50, 10));
        let mut cursor = history.seek(&[0]);
        let mut counts = (0, 0);
        while let Some(step) = history.read(&mut cursor) {
            match step {
                Step::Skipped { from: 10, to: 50, .. } => counts.0 += 1,
                Step::Skipped { .. } => panic!("{step:?}"),
                Step::Piece { .. } => counts.1 += 1,
            }
        }
        assert_eq!(counts, (1, 2));
    }

    #[test]
    fn a_reader_ahead_of_a_sensor_that_began_anew_gets_everything() {
        let history = filled();
        let mut cursor = history.seek(&[5_000, 100]);
        assert_eq!(cursor.need(), [0, 100]);
        assert_eq!(drain(&history, &mut cursor), [(0, 100), (0, 0)]);
    }
}
