//! A sensor behind a TCP socket: subscribes at the positions reached, checks the offer, reads frames, comes back for ever.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use kilter_types::Name;
use kilter_wire::frame::{self, Kind};
use kilter_wire::sensor::{Offer, SensorDown, SensorUp};
use tracing::{info, warn};

use crate::check::{Offered, map_channels};
use crate::conversation::{Places, Ready, reach};
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
    places: Places,
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
            places: Places::default(),
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
            link.places = Places::new(map, offer);
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
            let Some(ready) = link.places.place(&message, &mut self.samples) else { continue };
            reach(&mut self.positions, ready.reached(self.samples.len()));
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
        Ok(ready.item(&self.samples))
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

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
/// Polls without a byte after which the sensor is asked anew (a minute).
const MOST_QUIET: u32 = 300;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(5);
