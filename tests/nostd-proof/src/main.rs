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

use kilter_infer::Artifact;
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor};
use kilter_node::{Accelerometer, AlarmOutput, Filled, Identity, Line, Link, Node};
use kilter_types::{ChannelId, Epoch, Generation, GroupKind, Hertz, Micros, Monotonic, Name, Role, Severity, Unit};
use kilter_wire::SignedManifest;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[expect(clippy::empty_loop, reason = "nothing is left to do, and nothing runs this")]
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
    let mut floats = [0.0f32; 8192];
    let mut times = [Micros(0); 8];
    let outcome = node(&mut Carve::new(&mut floats, &mut times));
    black_box(outcome);
    loop {
        core::hint::spin_loop();
    }
}

/// Everything a node does: sample, judge, install a model, restore, verify a signature.
fn node<'a>(memory: &mut Carve<'a>) -> Option<usize> {
    let mut config = MachineConfig::new(Name::new("pump").ok()?);
    let kind = ChannelKind::Vibration { rate: Hertz(3200.0) };
    config.channels.push(ChannelConfig { name: Name::new("z").ok()?, unit: Unit::G, kind }).ok()?;
    let channels = [ChannelId(0)].into_iter().collect();
    let point = Name::new("drive-end").ok()?;
    config.groups.push(GroupConfig { kind: GroupKind::Vibration, point, channels, window: 1024, hop: 1024 }).ok()?;
    config.regimes = 2;
    let monitor = Monitor::<Carve<'a>, 1, 256>::new(config, memory).ok()?;
    let identity = Identity {
        tenant: Name::new("default").ok()?,
        site: Name::new("north").ok()?,
        asset: Name::new("pump-1").ok()?,
        epoch: Epoch(black_box(1)),
        channel: ChannelId(0),
        rate: Hertz(3200.0),
    };
    let mut node = Node::<_, _, _, _, 1, 256, 1024>::new(identity, Silence, Line::new(Silence), Silence, monitor);
    let taken = node.poll(Monotonic(black_box(0)));
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
    let signed = SignedManifest { manifest: bytes, signature: bytes };
    let _ = black_box(signed.verify(&[0; 32]).is_ok());
    Some(taken)
}

/// Hardware that is not there.
struct Silence;

impl Accelerometer for Silence {
    type Error = ();

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, ()> {
        samples.fill(black_box(0.0));
        Ok(Filled { len: samples.len(), lost: 0, t0: Monotonic(0) })
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
