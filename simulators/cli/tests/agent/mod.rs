//! An agent at the sensor socket: it keeps what it receives, and checks that there is no hole in it and nothing twice.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write as _};
use std::net::TcpStream;

use kilter_types::{ChannelId, Name};
use kilter_wire::frame::{Kind, MAX_FRAME_BYTES, decode, encode, length};
use kilter_wire::sensor::{Offer, SensorDown, SensorUp, values};

use crate::sim::Sim;

/// What an agent has received so far.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) channels: BTreeMap<String, Received>,
    pub(crate) skipped: Vec<(String, u64)>,
    pub(crate) clock_back: u64,
    pub(crate) cycles: u64,
    ended: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    position: u64,
    pub(crate) t0_us: i64,
    pub(crate) last_us: i64,
    pub(crate) rate_hz: Option<f32>,
    pub(crate) samples: Vec<u32>,
}

impl Agent {
    /// Subscribes from where it stands, reads this many messages (or to the end) and hangs up.
    pub(crate) fn subscribed(mut self, sim: &Sim, asset: &str, messages: Option<usize>) -> Self {
        let mut stream = TcpStream::connect(sim.listen).expect("connected");
        let from: Vec<(&str, u64)> =
            self.channels.iter().map(|(name, received)| (name.as_str(), received.position)).collect();
        subscribe(&mut stream, asset, &from);
        let mut reader = BufReader::new(stream);
        let frame = read_frame(&mut reader);
        let SensorUp::Offer(offer) = decode(Kind::SensorUp, &frame).expect("an offer") else { panic!("no offer") };
        for channel in &offer.channels {
            let received = self.channels.entry(channel.name.to_string()).or_default();
            received.rate_hz = channel.rate.map(|rate| rate.0);
            assert_eq!(channel.position, received.position);
        }
        for _ in 0..messages.unwrap_or(usize::MAX) {
            let frame = read_frame(&mut reader);
            self.take(&offer, decode(Kind::SensorUp, &frame).expect("a message"));
            if self.ended {
                break;
            }
        }
        self
    }

    pub(crate) fn until_end(self) -> Self {
        assert!(self.ended, "the end was told");
        self
    }

    pub(crate) fn until_end_of(self, sim: &Sim, asset: &str) -> Self {
        self.subscribed(sim, asset, None).until_end()
    }

    fn take(&mut self, offer: &Offer, message: SensorUp<'_>) {
        let name = |channel: ChannelId| offer.channels[usize::from(channel.0)].name.to_string();
        let (channel, position, t_us, bits): (_, _, _, Vec<u32>) = match message {
            SensorUp::Block(block) => {
                (block.channel, block.position, block.t0.0, values(block.samples).map(f32::to_bits).collect())
            }
            SensorUp::Reading { channel, position, t, value } => (channel, position, t.0, vec![value.to_bits()]),
            SensorUp::CycleAt { channel, position, n, t, row } => {
                self.cycles += 1;
                assert_eq!(u64::from(n), position + 1);
                (channel, position, t.0, values(row).map(f32::to_bits).collect())
            }
            SensorUp::Skipped { channel, from, to } => {
                let received = self.channels.entry(name(channel)).or_default();
                assert_eq!(received.position, from);
                received.position = to;
                self.skipped.push((name(channel), to - from));
                return;
            }
            SensorUp::End => {
                self.ended = true;
                return;
            }
            SensorUp::Offer(_) | SensorUp::Event { .. } | SensorUp::Cycle { .. } => panic!("{message:?}"),
        };
        let received = self.channels.entry(name(channel)).or_default();
        assert_eq!(position, received.position, "no hole and no doubling in {}", name(channel));
        let is_cycle = matches!(message, SensorUp::CycleAt { .. });
        received.position += if is_cycle { 1 } else { bits.len() as u64 };
        if received.samples.is_empty() {
            received.t0_us = t_us;
        }
        self.clock_back += u64::from(t_us < received.last_us);
        received.last_us = t_us;
        received.samples.extend(bits);
    }
}

pub(crate) fn subscribe(stream: &mut TcpStream, asset: &str, from: &[(&str, u64)]) {
    let name = |text: &str| Name::new(text).expect("a name");
    let from = from.iter().map(|(channel, position)| (name(channel), *position)).collect();
    let message = SensorDown::Subscribe { asset: name(asset), from };
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    stream.write_all(encode(Kind::SensorDown, &message, &mut buffer).expect("a frame")).expect("written");
}

fn read_frame(reader: &mut impl Read) -> Vec<u8> {
    let mut frame = vec![0; 8];
    reader.read_exact(&mut frame).expect("a header");
    let total = length(&frame).expect("a frame").expect("a whole header");
    frame.resize(total, 0);
    reader.read_exact(&mut frame[8..]).expect("a body");
    frame
}
