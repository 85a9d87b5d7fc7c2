//! Links the whole node on the host with neither std nor an allocator: what links here, links on a microcontroller.
//!
//! ```sh
//! cargo build -p kilter-nostd-proof --features proof --profile nostd
//! ```
//! A dependency that links std fails with E0152 (two panic handlers), one that links alloc fails with "no global memory
//! allocator". Everything is reached from the entry point, so that the linker cannot leave it out. The binary is linked,
//! not run: it has no start-up code.
#![no_std]
#![no_main]

use core::hint::black_box;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_infer::Artifact;
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor};
use kilter_node::{
    Absent, Accelerometer, AlarmOutput, FaultLog, Filled, Flash, Hardware, Identity, KEPT_BYTES, Link, Node, Parts,
    Power, Reset, Slots,
};
use kilter_signal::sliding::Sliding;
use kilter_types::{ChannelId, DeviceId, Epoch, Generation, GroupKind, Hertz, Monotonic, Name, Role, Severity, Unit};
use kilter_wire::SignedManifest;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The precompiled `core` asks for it by name; nothing unwinds.
#[expect(unsafe_code, reason = "the name must be unmangled")]
// SAFETY: no other symbol of this name exists: std, which has it, is not linked.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// The linker's entry point.
#[expect(unsafe_code, reason = "an entry point needs its unmangled name")]
// SAFETY: no other symbol of this name exists: the binary is linked without start-up files.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    // Lent for ever: the memory of whoever calls the entry point never ends.
    let outcome = node(&mut black_box(Carve::new(&mut [], &mut [])));
    black_box(outcome);
    loop {
        core::hint::spin_loop();
    }
}

/// Everything a node does: sample, judge, install a model, restore, verify a signature.
fn node(memory: &mut Carve<'static>) -> Option<usize> {
    let mut config = MachineConfig::new(Name::new("pump").ok()?);
    let kind = ChannelKind::Vibration { rate: Hertz(3200.0) };
    config.channels.push(ChannelConfig::new(Name::new("z").ok()?, Unit::G, kind)).ok()?;
    let channels = [ChannelId(0)].into_iter().collect();
    let point = Name::new("drive-end").ok()?;
    config.groups.push(GroupConfig { kind: GroupKind::Vibration, point, channels, window: 1024, hop: 1024 }).ok()?;
    config.regimes = 2;
    let monitor = Monitor::<Carve<'static>, 1, 256>::new(config, memory).ok()?;
    let identity = Identity {
        device: DeviceId::new("node-1").ok()?,
        software: Name::new("0.1.0").ok()?,
        temperature: None,
        power: Power::default(),
        tenant: Name::new("default").ok()?,
        site: Name::new("north").ok()?,
        asset: Name::new("pump-1").ok()?,
        epoch: Epoch(black_box(1)),
        channel: ChannelId(0),
        rate: Hertz(3200.0),
    };
    let slots = Slots::open(&mut Silence, 1 << 16, [0; 32]).ok()?;
    let parts = Parts {
        accelerometer: Silence,
        thermometer: Absent,
        link: Silence,
        output: Silence,
        flash: Silence,
        watchdog: Absent,
        images: Absent,
    };
    let faults = FaultLog::start(&mut Silence, 0, &mut [0; KEPT_BYTES], Reset::Power).ok()?;
    let mut node = Node::<Silence, _, 1, 256, 1024>::new(identity, parts, slots, monitor, faults);
    let taken = node.poll(Monotonic(black_box(0))).taken;
    node.reset(Monotonic(black_box(1)));
    let bytes: &'static [u8] = black_box(&[0; 64]);
    let digest = kilter_types::Digest::of(bytes);
    let _ = Artifact::parse(bytes).map(|artifact| black_box(artifact.threshold()));
    let _ = node.monitor().install(Role::Leader, bytes, digest, Generation(1), &mut |output| {
        black_box(&output);
    });
    let mut room = [0; 4096];
    let len = node.monitor().snapshot(&mut room).ok()?;
    node.monitor().restore(&room[..len]).ok()?;
    let mut orders = Sliding::new(32, [1, 2, 3], [0.0; 64]).ok()?;
    orders.push(black_box(1.0)).ok()?;
    black_box(orders.line(1).map(|line| (line.amplitude(), line.angle())));
    let signed = SignedManifest { manifest: bytes, signature: bytes };
    let _ = black_box(signed.verify(&[0; 32]).is_ok());
    Some(taken)
}

/// Hardware that is not there.
struct Silence;

impl Hardware for Silence {
    type Accelerometer = Self;
    type Thermometer = Absent;
    type Link = Self;
    type Output = Self;
    type Flash = Self;
    type Watchdog = Absent;
    type Images = Absent;
}

impl ErrorType for Silence {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Silence {
    const READ_SIZE: usize = 1;

    fn read(&mut self, _: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(black_box(0xFF));
        Ok(())
    }

    fn capacity(&self) -> usize {
        black_box(1 << 16)
    }
}

impl NorFlash for Silence {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write(&mut self, _: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        black_box(bytes);
        Ok(())
    }
}

impl Flash for Silence {
    fn view(&self, _: u32, _: usize) -> Option<&'static [u8]> {
        Some(black_box(&[0; 64]))
    }
}

impl Accelerometer for Silence {
    type Error = ();

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, ()> {
        samples.fill(black_box(0.0));
        Ok(Filled { len: samples.len(), lost: 0, t0: Monotonic(0) })
    }

    fn sleep(&mut self) -> Result<(), ()> {
        Ok(())
    }

    fn wake(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

impl Link for Silence {
    type Error = ();

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        black_box(bytes);
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        black_box(bytes);
        Ok(0)
    }
}

impl AlarmOutput for Silence {
    fn show(&mut self, severity: Severity) {
        black_box(severity);
    }

    fn trip(&mut self) {}

    fn release(&mut self) {}
}
