//! A sensor behind a TCP socket: subscribes at the positions reached, checks the offer, reads frames, comes back for ever.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use kilter_types::{ChannelId, Hertz, Input, MachineEvent, Micros, Name, Timeline};
use kilter_wire::frame::{self, Kind};
use kilter_wire::sensor::{Offer, SensorDown, SensorUp, values};
use tracing::{info, warn};

use crate::check::{Offered, map_channels};
use crate::{ChannelSpec, Item, Source, SourceError, Stop};

/// One machine's conversation with its sensor.
#[derive(Debug)]
pub struct SocketSource {
    address: String,
    asset: Name,
    channels: Vec<ChannelSpec>,
    /// Per configured channel: the first position that is still needed.
    positions: Vec<u64>,
    stop: Stop,
    link: Option<Conversation>,
    delay: Duration,
    samples: Vec<f32>,
}

#[derive(Debug)]
struct Conversation {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// By the sensor's channel: ours, and the offered rate.
    map: Vec<(Option<ChannelId>, Option<Hertz>)>,
    offered: bool,
    quiet: u32,
}

impl SocketSource {
    /// The machine `asset` at `address`, from `positions` on (one per channel).
    pub fn new(address: &str, asset: Name, channels: Vec<ChannelSpec>, mut positions: Vec<u64>, stop: Stop) -> Self {
        positions.resize(channels.len(), 0);
        let address = address.to_owned();
        Self { address, asset, channels, positions, stop, link: None, delay: FIRST_DELAY, samples: Vec::new() }
    }

    fn connect(&mut self) -> Result<(), SourceError> {
        let mut stream = self.dial().map_err(|source| self.cut(source))?;
        let from =
            self.channels.iter().zip(&self.positions).map(|(channel, from)| (channel.name.clone(), *from)).collect();
        let subscribe = SensorDown::Subscribe { asset: self.asset.clone(), from };
        let mut bytes = [0; 1024];
        let frame = frame::encode(Kind::SensorDown, &subscribe, &mut bytes).map_err(|reason| self.bad(reason))?;
        stream.write_all(frame).map_err(|source| self.cut(source))?;
        self.link = Some(Conversation {
            stream,
            buffer: vec![0; 64 * 1024],
            start: 0,
            end: 0,
            map: Vec::new(),
            offered: false,
            quiet: 0,
        });
        Ok(())
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(POLL))?;
                    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn accept(&mut self, offer: &Offer) -> Result<(), SourceError> {
        if offer.asset != self.asset {
            return Err(self.wrong("it offers another machine"));
        }
        let offered: Vec<Offered<'_>> = offer
            .channels
            .iter()
            .map(|channel| Offered { name: &channel.name, unit: channel.unit, rate: channel.rate })
            .collect();
        let map = map_channels(&self.channels, &offered)
            .map_err(|difference| SourceError::Offer { asset: self.asset.clone(), difference: Box::new(difference) })?;
        for (place, channel) in map.iter().zip(&offer.channels) {
            let needed = place.and_then(|place| self.positions.get(usize::from(place.0)).copied());
            if needed.is_some_and(|needed| channel.position < needed) {
                warn!(
                    asset = %self.asset, channel = %channel.name, offered = channel.position, needed,
                    "the sensor has begun again; what it repeats is not used"
                );
            }
        }
        info!(asset = %self.asset, address = %self.address, channels = offer.channels.len(), "sensor connected");
        if let Some(link) = &mut self.link {
            link.map = map.into_iter().zip(offer.channels.iter().map(|channel| channel.rate)).collect();
            link.offered = true;
        }
        Ok(())
    }

    /// Waits before the next attempt, longer each time.
    fn back_off(&mut self) {
        self.stop.wait(self.delay);
        self.delay = (self.delay * 2).min(MOST_DELAY);
    }

    /// The next thing that came; its values, if any, lie in `samples`.
    fn receive(&mut self) -> Result<Ready, SourceError> {
        loop {
            let Some(link) = &mut self.link else {
                self.connect()?;
                continue;
            };
            let range = match link.fill() {
                Ok(Fill::Frame(range)) => range,
                Ok(Fill::Quiet) => return Ok(Ready::Idle),
                Err(Broken::Io(source)) => return Err(self.cut(source)),
                Err(Broken::Frame(reason)) => return Err(self.bad(reason)),
            };
            let message = match frame::decode::<SensorUp>(Kind::SensorUp, &link.buffer[range]) {
                Ok(message) => message,
                Err(reason) => return Err(self.bad(reason)),
            };
            if let SensorUp::Offer(offer) = message {
                self.accept(&offer)?;
                self.delay = FIRST_DELAY;
                return Ok(Ready::Started(offer.timeline));
            }
            if !link.offered {
                return Err(self.wrong("it sends before it offers"));
            }
            let known = |channel: ChannelId| link.map.get(usize::from(channel.0)).copied();
            let (channel, end, ready) = match message {
                SensorUp::Offer(_) => continue,
                SensorUp::Event { t, event } => return Ok(Ready::Event(t, event)),
                SensorUp::End => return Ok(Ready::End),
                SensorUp::Block(block) => {
                    let Some((Some(channel), Some(rate))) = known(block.channel) else { continue };
                    self.samples.clear();
                    self.samples.extend(values(block.samples));
                    let end = block.position.saturating_add(self.samples.len() as u64);
                    (channel, end, Ready::Block { channel, position: block.position, t0: block.t0, rate })
                }
                SensorUp::Reading { channel, position, t, value } => {
                    let Some((Some(channel), _)) = known(channel) else { continue };
                    (channel, position.saturating_add(1), Ready::Reading { channel, position, t, value })
                }
                SensorUp::Cycle { channel, position, n, row } => {
                    let Some((Some(channel), _)) = known(channel) else { continue };
                    self.samples.clear();
                    self.samples.extend(values(row));
                    (channel, position.saturating_add(1), Ready::Cycle { channel, position, n, t: None })
                }
                SensorUp::CycleAt { channel, position, n, t, row } => {
                    let Some((Some(channel), _)) = known(channel) else { continue };
                    self.samples.clear();
                    self.samples.extend(values(row));
                    (channel, position.saturating_add(1), Ready::Cycle { channel, position, n, t: Some(t) })
                }
                SensorUp::Skipped { channel, from, to } => {
                    let Some((Some(channel), _)) = known(channel) else { continue };
                    (channel, to, Ready::Skipped { channel, from, to })
                }
            };
            if let Some(position) = self.positions.get_mut(usize::from(channel.0)) {
                *position = (*position).max(end);
            }
            return Ok(ready);
        }
    }

    fn cut(&self, source: io::Error) -> SourceError {
        SourceError::Connection { asset: self.asset.clone(), address: self.address.clone(), source }
    }

    fn bad(&self, reason: frame::FrameError) -> SourceError {
        SourceError::Frame { asset: self.asset.clone(), address: self.address.clone(), reason }
    }

    fn wrong(&self, reason: &'static str) -> SourceError {
        SourceError::Conversation { asset: self.asset.clone(), address: self.address.clone(), reason }
    }
}

impl Source for SocketSource {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        if self.stop.is_set() {
            return Ok(Item::Idle);
        }
        let was_up = self.link.as_ref().is_some_and(|link| link.offered);
        let ready = match self.receive() {
            Ok(ready) => ready,
            Err(error) => {
                self.link = None;
                self.back_off();
                if !was_up {
                    return Err(error);
                }
                warn!(asset = %self.asset, error = &error as &dyn std::error::Error, "sensor lost");
                return Ok(Item::Interrupted);
            }
        };
        Ok(match ready {
            Ready::Idle => Item::Idle,
            Ready::Started(timeline) => Item::Started(timeline),
            Ready::Block { channel, position, t0, rate } => {
                Item::Input { channel, position, input: Input::Block { t0, rate, samples: &self.samples } }
            }
            Ready::Reading { channel, position, t, value } => {
                Item::Input { channel, position, input: Input::Reading { t, value } }
            }
            Ready::Cycle { channel, position, n, t } => {
                Item::Input { channel, position, input: Input::Cycle { n, t, row: &self.samples } }
            }
            Ready::Event(t, event) => Item::Event { t, event },
            Ready::Skipped { channel, from, to } => Item::Skipped { channel, from, to },
            Ready::End => Item::End,
        })
    }
}

impl Conversation {
    /// Reads until one whole frame is there.
    fn fill(&mut self) -> Result<Fill, Broken> {
        loop {
            if let Some(total) = frame::length(&self.buffer[self.start..self.end]).map_err(Broken::Frame)? {
                if self.end - self.start >= total {
                    let range = self.start..self.start + total;
                    self.start += total;
                    self.quiet = 0;
                    return Ok(Fill::Frame(range));
                }
                if self.start + total > self.buffer.len() {
                    self.buffer.copy_within(self.start..self.end, 0);
                    self.end -= self.start;
                    self.start = 0;
                    let room = self.buffer.len().max(total);
                    self.buffer.resize(room, 0);
                }
            } else if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.end == self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.end += read,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    self.quiet += 1;
                    if self.quiet >= MOST_QUIET {
                        return Err(Broken::Io(io::ErrorKind::TimedOut.into()));
                    }
                    return Ok(Fill::Quiet);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Io(error)),
            }
        }
    }
}

enum Fill {
    Frame(std::ops::Range<usize>),
    Quiet,
}

enum Broken {
    Io(io::Error),
    Frame(frame::FrameError),
}

/// What came, without its values.
enum Ready {
    Idle,
    Started(Timeline),
    Block { channel: ChannelId, position: u64, t0: Micros, rate: Hertz },
    Reading { channel: ChannelId, position: u64, t: Micros, value: f32 },
    Cycle { channel: ChannelId, position: u64, n: u32, t: Option<Micros> },
    Event(Micros, MachineEvent),
    Skipped { channel: ChannelId, from: u64, to: u64 },
    End,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
/// Polls without a byte after which the sensor is asked anew (a minute).
const MOST_QUIET: u32 = 300;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(5);
