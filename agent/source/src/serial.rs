//! A serial line by path (`/dev/ttyACM0`) or over TCP (`tcp://host:port`): opened again for ever, however often it is unplugged.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use crate::Stop;

/// The line.
#[derive(Debug)]
pub struct SerialLine {
    address: String,
    baud: u32,
    stop: Stop,
    port: Option<Port>,
    delay: Duration,
    quiet: u32,
}

#[derive(Debug)]
enum Port {
    Tcp(TcpStream),
    Tty(File),
}

/// What a turn at the line gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTurn {
    /// So many bytes.
    Bytes(usize),
    /// Nothing within a fraction of a second.
    Quiet,
    /// It was opened just now.
    Opened,
}

impl SerialLine {
    /// The line at this address; `baud` is for a path only.
    pub fn new(address: &str, baud: u32, stop: Stop) -> Self {
        Self { address: address.to_owned(), baud, stop, port: None, delay: FIRST_DELAY, quiet: 0 }
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Reads what is there, opening the line first when it is not open. After an error it can be called again: it waits longer
    /// each time, up to five seconds.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<LineTurn> {
        let turn = self.turn(room);
        if turn.is_err() {
            self.port = None;
            self.stop.wait(self.delay);
            self.delay = (self.delay * 2).min(MOST_DELAY);
        }
        turn
    }

    /// Sends all bytes; on an error the line is opened anew with the next read.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(port) = &mut self.port else { return Err(io::ErrorKind::NotConnected.into()) };
        let written = match port {
            Port::Tcp(stream) => stream.write_all(bytes),
            Port::Tty(file) => file.write_all(bytes),
        };
        if written.is_err() {
            self.port = None;
        }
        written
    }

    fn turn(&mut self, room: &mut [u8]) -> io::Result<LineTurn> {
        let Some(port) = &mut self.port else {
            self.port = Some(open(&self.address, self.baud)?);
            self.quiet = 0;
            return Ok(LineTurn::Opened);
        };
        let read = match port {
            Port::Tcp(stream) => match stream.read(room) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if is_quiet(&error) => Ok(0),
                other => other,
            },
            Port::Tty(file) => match file.read(room) {
                // Nothing came within the terminal's own time, or it has gone: the path knows.
                Ok(0) if !is_same(file, &self.address) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => {
                    self.stop.wait(HUNG_UP_PAUSE);
                    Ok(0)
                }
                Err(error) if is_quiet(&error) => Ok(0),
                other => other,
            },
        }?;
        if read > 0 {
            self.delay = FIRST_DELAY;
            self.quiet = 0;
            return Ok(LineTurn::Bytes(read));
        }
        self.quiet += 1;
        // A node says something every ten seconds.
        if self.quiet >= MOST_QUIET { Err(io::ErrorKind::TimedOut.into()) } else { Ok(LineTurn::Quiet) }
    }
}

fn open(address: &str, baud: u32) -> io::Result<Port> {
    let Some(host) = address.strip_prefix("tcp://") else { return open_tty(address, baud).map(Port::Tty) };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                return Ok(Port::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Raw bytes at this speed; reads wait two tenths of a second.
fn open_tty(path: &str, baud: u32) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let mut settings = tcgetattr(&file)?;
    settings.make_raw();
    settings.set_speed(baud)?;
    settings.special_codes[SpecialCodeIndex::VMIN] = 0;
    settings.special_codes[SpecialCodeIndex::VTIME] = 2;
    tcsetattr(&file, OptionalActions::Flush, &settings)?;
    Ok(file)
}

/// Does the path still lead to what is open?
fn is_same(file: &File, path: &str) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        (Ok(_), Err(_)) | (Err(_), _) => false,
    }
}

fn is_quiet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
/// A line that has hung up answers at once: not in a busy loop.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(5);
const MOST_QUIET: u32 = 300;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(5);
