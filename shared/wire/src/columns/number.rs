//! Tables of numbers: each column by the predictor that costs least, its errors in Rice code.
//!
//! A column is predicted by a constant, by a line, by its last value, by its last movement or by its mean; on its own or less an
//! earlier column of the same row, because a window's end follows its start, and the peak of a vibration its mean. Which column that
//! is the first rows tell: trying all pairs on all rows took three fifths of a sender's time. Floats are put in the order of
//! their values first, less the low bits that all of them leave empty.
//!
//! ```text
//! mode | 8 against | 16 shifted ‖ column it is against ‖ shift ‖ base ‖ step ‖ k ‖ errors, filled up to a byte
//! ```

use super::bits::{Reader, Writer};
use super::token::Op;
use super::{MAX_COLUMNS, UnpackError, ops};

/// Writes the columns of one table; `places` says where the numbers of each row begin.
pub(super) fn put_table(words: &mut [u64], places: &[u32], template: &[u8], out: &mut Writer<'_>) -> Option<()> {
    let mut kinds = heapless::Vec::<bool, { MAX_COLUMNS + 1 }>::new();
    for is_float in kinds_of(template) {
        kinds.push(is_float?).ok()?;
    }
    for (column, is_float) in kinds.iter().enumerate() {
        let at = |place: &u32| *place as usize + column;
        let mut shift = 0;
        if *is_float {
            let all = places.iter().fold(0, |all, place| all | words[at(place)]);
            shift = (all as u32).trailing_zeros().min(MOST_SHIFT);
            places.iter().for_each(|place| words[at(place)] = ordered(words[at(place)] as u32, shift));
        }
        let value = |column: usize, row: usize| words[places[row] as usize + column];
        let own = |row: usize| value(column, row);
        let less = |other: usize| move |row: usize| value(column, row).wrapping_sub(value(other, row));
        let alone = Plan::of(places.len(), own);
        let few = places.len().min(PROBE_ROWS);
        let nearest = (0..column)
            .filter(|other| alone.bits > 0 && kinds[*other] == *is_float)
            .min_by_key(|other| Plan::of(few, less(*other)).bits);
        let best = match nearest.map(|other| (Plan::of(places.len(), less(other)), Some(other))) {
            Some((plan, other)) if plan.bits + 8 < alone.bits => (plan, other),
            _ => (alone, None),
        };
        let (plan, against) = best;
        let flags = if against.is_some() { AGAINST } else { 0 } | if shift > 0 { SHIFTED } else { 0 };
        out.byte(plan.mode as u8 | flags)?;
        if let Some(other) = against {
            out.byte(other as u8)?;
        }
        if shift > 0 {
            out.byte(shift as u8)?;
        }
        let other = |row: usize| against.map_or(0, |other| value(other, row));
        plan.put(places.len(), |row| own(row).wrapping_sub(other(row)), out)?;
    }
    Some(())
}

/// Reads the columns of one table, one behind the other.
pub(super) fn take_table(
    bytes: &mut Reader<'_>,
    rows: usize,
    template: &[u8],
    words: &mut [u64],
) -> Result<(), UnpackError> {
    let mut shifts = heapless::Vec::<Option<u32>, { MAX_COLUMNS + 1 }>::new();
    for (column, is_float) in kinds_of(template).enumerate() {
        let is_float = is_float.ok_or(UnpackError::Damaged)?;
        let head = bytes.byte()?;
        let against = if head & AGAINST > 0 { Some(usize::from(bytes.byte()?)) } else { None };
        let shift = if head & SHIFTED > 0 { u32::from(bytes.byte()?) } else { 0 };
        if against.is_some_and(|other| other >= column) || shift > MOST_SHIFT {
            return Err(UnpackError::Damaged);
        }
        shifts.push(is_float.then_some(shift)).map_err(|_| UnpackError::Damaged)?;
        let (before, own) = words.split_at_mut(column * rows);
        let own = own.get_mut(..rows).ok_or(UnpackError::Damaged)?;
        take(bytes, head & MODE, own)?;
        if let Some(other) = against {
            let other = &before[other * rows..][..rows];
            own.iter_mut().zip(other).for_each(|(own, other)| *own = own.wrapping_add(*other));
        }
    }
    for (column, shift) in shifts.iter().enumerate() {
        if let Some(shift) = shift {
            let own = &mut words[column * rows..][..rows];
            own.iter_mut().for_each(|word| *word = u64::from(unordered(*word, *shift)));
        }
    }
    Ok(())
}

/// Whether each column is a float; the seq that stands in front is none.
fn kinds_of(template: &[u8]) -> impl Iterator<Item = Option<bool>> {
    let numbers = ops(template).filter_map(|op| match op {
        Some(Op::Literal(_)) => None,
        Some(Op::Unsigned | Op::Signed) => Some(Some(false)),
        Some(Op::Float) => Some(Some(true)),
        None => Some(None),
    });
    core::iter::once(Some(false)).chain(numbers)
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Constant = 0,
    Line = 1,
    Last = 2,
    Movement = 3,
    Mean = 4,
}

/// How one column is written, and what that costs.
#[derive(Clone, Copy)]
struct Plan {
    mode: Mode,
    base: u64,
    step: u64,
    k: u32,
    bits: u64,
}

impl Plan {
    fn of(rows: usize, value: impl Fn(usize) -> u64) -> Self {
        let first = value(0);
        let step = if rows > 1 { value(1).wrapping_sub(first) } else { 0 };
        let (mut last, mut moved, mut sum_last, mut sum_movement, mut drift) = (first, step, 0u64, 0u64, 0i128);
        for row in 1..rows {
            let own = value(row);
            let movement = own.wrapping_sub(last);
            sum_last = sum_last.saturating_add(zigzag(movement));
            sum_movement = sum_movement.saturating_add(zigzag(movement.wrapping_sub(moved)));
            drift += i128::from(own.wrapping_sub(first) as i64);
            (last, moved) = (own, movement);
        }
        if sum_last == 0 {
            return Self { mode: Mode::Constant, base: first, step: 0, k: 0, bits: 0 };
        }
        if sum_movement == 0 {
            return Self { mode: Mode::Line, base: first, step, k: 0, bits: 0 };
        }
        let mean = first.wrapping_add((drift / rows as i128) as u64);
        let sum_mean = (0..rows).fold(0u64, |sum, row| sum.saturating_add(zigzag(value(row).wrapping_sub(mean))));
        let plan = |mode, base, step, sum| {
            let (k, bits) = rice(rows as u64, sum);
            Self { mode, base, step, k, bits: bits + 8 + varint_bits(base) + varint_bits(zigzag(step)) }
        };
        [plan(Mode::Movement, first, step, sum_movement), plan(Mode::Mean, mean, 0, sum_mean)]
            .into_iter()
            .fold(plan(Mode::Last, first, 0, sum_last), |best, plan| if plan.bits < best.bits { plan } else { best })
    }

    fn put(&self, rows: usize, value: impl Fn(usize) -> u64, out: &mut Writer<'_>) -> Option<()> {
        out.varint(self.base)?;
        if matches!(self.mode, Mode::Line | Mode::Movement) {
            out.varint(zigzag(self.step))?;
        }
        if matches!(self.mode, Mode::Constant | Mode::Line) {
            return Some(());
        }
        out.byte(self.k as u8)?;
        let (mut last, mut moved) = (self.base, self.step);
        for row in 0..rows {
            let own = value(row);
            match self.mode {
                Mode::Mean => put_error(own.wrapping_sub(self.base), self.k, out)?,
                Mode::Last if row > 0 => put_error(own.wrapping_sub(last), self.k, out)?,
                Mode::Movement if row > 0 => {
                    put_error(own.wrapping_sub(last).wrapping_sub(moved), self.k, out)?;
                    moved = own.wrapping_sub(last);
                }
                Mode::Last | Mode::Movement | Mode::Constant | Mode::Line => {}
            }
            last = own;
        }
        out.align()
    }
}

fn take(bytes: &mut Reader<'_>, mode: u8, own: &mut [u64]) -> Result<(), UnpackError> {
    let mode = [Mode::Constant, Mode::Line, Mode::Last, Mode::Movement, Mode::Mean]
        .into_iter()
        .find(|known| *known as u8 == mode)
        .ok_or(UnpackError::Damaged)?;
    let base = bytes.varint()?;
    let step = if matches!(mode, Mode::Line | Mode::Movement) { unzigzag(bytes.varint()?) } else { 0 };
    let coded = !matches!(mode, Mode::Constant | Mode::Line);
    let k = if coded { u32::from(bytes.byte()?) } else { 0 };
    if k > MOST_K {
        return Err(UnpackError::Damaged);
    }
    let (mut last, mut moved) = (base, step);
    for (row, own) in own.iter_mut().enumerate() {
        *own = match (mode, row) {
            (Mode::Constant, _) | (Mode::Last | Mode::Movement | Mode::Line, 0) => base,
            (Mode::Line, _) => last.wrapping_add(step),
            (Mode::Last, _) => last.wrapping_add(take_error(bytes, k)?),
            (Mode::Movement, _) => {
                moved = moved.wrapping_add(take_error(bytes, k)?);
                last.wrapping_add(moved)
            }
            (Mode::Mean, _) => base.wrapping_add(take_error(bytes, k)?),
        };
        last = *own;
    }
    bytes.align();
    Ok(())
}

/// Rice code: the high part in ones, the low `k` bits as they are; what would take too many ones comes whole.
fn put_error(error: u64, k: u32, out: &mut Writer<'_>) -> Option<()> {
    let error = zigzag(error);
    let high = error >> k;
    if high < MOST_ONES {
        let ones = high as u32;
        let (first, second) = (ones.min(16), ones.saturating_sub(16));
        out.bits(u64::MAX, first)?;
        out.bits(u64::MAX, second)?;
        out.bits(0, 1)?;
        out.bits(error, k.min(32))?;
        return out.bits(error >> 32, k.saturating_sub(32));
    }
    out.bits(u64::MAX, MOST_ONES as u32)?;
    out.bits(error, 32)?;
    out.bits(error >> 32, 32)
}

fn take_error(bytes: &mut Reader<'_>, k: u32) -> Result<u64, UnpackError> {
    let high = u64::from(bytes.ones(MOST_ONES as u32)?);
    let low = if high == MOST_ONES { 64 } else { k };
    let error = bytes.bits(low.min(32))? | (bytes.bits(low.saturating_sub(32))? << 32);
    let high = if high == MOST_ONES { 0 } else { high << k };
    Ok(unzigzag(high | error))
}

/// The best `k` for errors of this sum, and what they cost.
fn rice(rows: u64, sum: u64) -> (u32, u64) {
    let mean = sum / rows.max(1);
    let near = (64 - mean.leading_zeros()).min(MOST_K);
    (near.saturating_sub(2)..=near)
        .map(|k| (k, rows * (u64::from(k) + 1) + (sum >> k)))
        .min_by_key(|(_, bits)| *bits)
        .unwrap_or((0, sum))
}

fn varint_bits(value: u64) -> u64 {
    u64::from((64 - value.leading_zeros()).div_ceil(7).max(1)) * 8
}

fn zigzag(value: u64) -> u64 {
    (value << 1) ^ (value as i64 >> 63) as u64
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// A float's bits as a number that grows as the float does, without `shift` low bits (which are empty).
fn ordered(bits: u32, shift: u32) -> u64 {
    let top = 1u32 << (31 - shift);
    let (bits, mask) = (bits >> shift, u32::MAX >> shift);
    u64::from(if bits & top > 0 { !bits & mask } else { bits | top })
}

fn unordered(word: u64, shift: u32) -> u32 {
    let top = 1u32 << (31 - shift);
    let (word, mask) = (word as u32, u32::MAX >> shift);
    (if word & top > 0 { word & !top } else { !word & mask }) << shift
}

/// So many rows tell which earlier column is nearest.
const PROBE_ROWS: usize = 32;
const MODE: u8 = 7;
const AGAINST: u8 = 8;
const SHIFTED: u8 = 16;
const MOST_K: u32 = 62;
const MOST_ONES: u64 = 32;
/// Sign and exponent always travel.
const MOST_SHIFT: u32 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_their_order_and_come_back_with_every_bit() {
        let all = [f32::NEG_INFINITY, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.5, f32::INFINITY];
        for pair in all.windows(2) {
            assert!(ordered(pair[0].to_bits(), 0) < ordered(pair[1].to_bits(), 0), "{pair:?}");
        }
        for bits in [0, 1, 0x8000_0000, 0x7fc0_0001, 0xffff_ffff, 0x3f80_0000] {
            assert_eq!(unordered(ordered(bits, 0), 0), bits);
            assert_eq!(unordered(ordered(bits & !0xfff, 12), 12), bits & !0xfff);
        }
    }

    #[test]
    fn errors_of_any_size_come_back() {
        for k in [0, 1, 5, 31, 32, 33, 62] {
            let all = [0, 1, u64::MAX, 40, 1 << 31, 1 << 33, i64::MAX as u64, i64::MIN as u64];
            let mut room = [0; 256];
            let mut out = Writer::new(&mut room);
            all.iter().for_each(|error| put_error(*error, k, &mut out).expect("room"));
            out.align().expect("room");
            let mut bytes = Reader::new(out.finish());
            for error in all {
                assert_eq!(take_error(&mut bytes, k), Ok(error), "k {k}");
            }
        }
    }
}
