//! A monitor's snapshot: what it has learned and half-filled, out and in again.

use super::Monitor;
use crate::{
    memory::Memory,
    snapshot::{MAGIC, Reader, RestoreError, SnapshotError, VERSION, Writer},
    tacho::pulses_per_rev,
};

impl<M: Memory, const G: usize, const S: usize> Monitor<M, G, S> {
    /// Restores a snapshot of a monitor with the same configuration. After an error the monitor must be built anew.
    ///
    /// A model's sequence goes on if the model with the same digest is already installed; otherwise it starts anew.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut bytes = Reader::new(bytes);
        if bytes.array::<4>()? != MAGIC {
            return Err(RestoreError::Damaged);
        }
        match u16::from_le_bytes(bytes.array()?) {
            VERSION => {}
            version => return Err(RestoreError::Version(version)),
        }
        if u64::from_le_bytes(bytes.array()?) != self.fingerprint() {
            return Err(RestoreError::OtherConfig);
        }
        (self.tally, self.protector, self.operating) = bytes.value()?;
        if let Some(tacho) = &mut self.tacho {
            tacho.load(&mut bytes)?;
        }
        for group in &mut self.groups {
            group.load(&self.models, &mut bytes)?;
        }
        if bytes.is_empty() { Ok(()) } else { Err(RestoreError::Damaged) }
    }

    /// Writes everything but the models; how many bytes.
    pub fn snapshot(&self, out: &mut [u8]) -> Result<usize, SnapshotError> {
        let room = out.len();
        let needed = self.write(Writer::new(out));
        if needed <= room { Ok(needed) } else { Err(SnapshotError { needed }) }
    }

    /// How many bytes a snapshot taken now would have.
    pub fn snapshot_len(&self) -> usize {
        self.write(Writer::new(&mut []))
    }

    fn write(&self, mut out: Writer<'_>) -> usize {
        out.bytes(&MAGIC);
        out.bytes(&VERSION.to_le_bytes());
        out.bytes(&self.fingerprint().to_le_bytes());
        out.value(&(&self.tally, &self.protector, &self.operating));
        if let Some(tacho) = &self.tacho {
            tacho.save(&mut out);
        }
        for group in &self.groups {
            group.save(&self.models, &mut out);
        }
        out.finish()
    }

    /// FNV-1a over what the parts of a snapshot depend on.
    fn fingerprint(&self) -> u64 {
        let config = &self.config;
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |word: u64| {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        add(u64::from(config.commissioning_windows) << 8 | u64::from(config.regimes));
        if let Some(pulses) = pulses_per_rev(config) {
            add(u64::from(pulses));
        }
        for (group, declared) in self.groups.iter().zip(&config.groups) {
            add(group.schema.hash().0);
            add(u64::from(declared.window) << 32 | u64::from(declared.hop));
            declared.channels.iter().for_each(|channel| add(u64::from(channel.0)));
        }
        hash
    }
}
