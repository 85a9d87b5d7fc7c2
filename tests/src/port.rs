//! Ports for programs that are told their address before they start.
//!
//! A number that the system picks may be picked again, for any outgoing connection, before the program binds it. These lie below
//! the range from which Linux picks (`net.ipv4.ip_local_port_range`, from 32,768 on), and none is handed out twice by one process.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port of this machine's loopback that nobody listens on, for TCP and for UDP.
pub fn free_port() -> io::Result<u16> {
    free_ports(1)
}

/// The first of `many` such ports in a row.
pub fn free_ports(many: u16) -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let place = begin.wrapping_add(NEXT.fetch_add(u32::from(many), Ordering::Relaxed)) % COUNT;
        let first = u16::try_from(FIRST + place).expect("below the range of the system");
        if (first..first + many).all(is_free) {
            return Ok(first);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no {many} free ports from {FIRST} on")))
}

fn is_free(port: u16) -> bool {
    let address = ("127.0.0.1", port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_one_that_is_taken_not_at_all() {
        let taken = free_port().expect("a port");
        let _holds = TcpListener::bind(("127.0.0.1", taken)).expect("it is free");
        let others: Vec<u16> = (0..50).map(|_| free_ports(2).expect("two ports")).collect();
        let mut all: Vec<u16> = others.iter().flat_map(|first| [*first, first + 1]).collect();
        assert!(!all.contains(&taken));
        assert!(all.iter().all(|port| u32::from(*port) < FIRST + COUNT + 2));
        let handed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), handed);
    }
}
