//! A baseline as bytes: the opaque record that leaves the device, and its part of a snapshot.

use super::{Baseline, Phase};
use crate::snapshot::{Reader, RestoreError, Writer};

impl<F: AsRef<[f32]> + AsMut<[f32]>> Baseline<F> {
    /// The regime's baseline as an opaque record: bin, threshold, then location and spread per feature.
    pub(crate) fn record(&self, bin: u8) -> Option<heapless::Vec<u8, 1024>> {
        let place = self.regimes.iter().position(|known| known.bin == bin && known.phase == Phase::Ready)?;
        let known = &self.regimes[place];
        let at = self.place_of(place);
        let mut bytes = heapless::Vec::new();
        bytes.push(bin).ok()?;
        let figures = &self.buffer.as_ref()[at..at + 2 * self.features];
        for value in core::iter::once(&known.threshold).chain(figures) {
            bytes.extend_from_slice(&value.to_le_bytes()).ok()?;
        }
        Some(bytes)
    }

    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.value(&(&self.regimes, self.smoothing));
        out.floats(&self.buffer.as_ref()[..self.place_of(self.regimes.len())]);
    }

    pub(crate) fn load(&mut self, bytes: &mut Reader<'_>) -> Result<(), RestoreError> {
        (self.regimes, self.smoothing) = bytes.value()?;
        if self.regimes.len() > self.most {
            return Err(RestoreError::Damaged);
        }
        let used = self.place_of(self.regimes.len());
        bytes.floats(&mut self.buffer.as_mut()[..used])
    }
}
