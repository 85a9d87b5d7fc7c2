//! The network between plant and aggregator: a namespace of its own for the agents where we may make one, and our own proxies, which lose,
//! double, delay and reorder by a seed. (The kernel's netem would do the same; not every kernel has it.)

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;

use crate::proxy::{TcpProxy, UdpProxy, Weather};

/// Everything between.
pub(crate) struct Net {
    /// What agents call the aggregator.
    pub(crate) door: SocketAddr,
    pub(crate) udp: UdpProxy,
    pub(crate) tcp: TcpProxy,
    space: Space,
    /// The proxies run on it.
    runtime: Runtime,
}

/// Where the agents live.
pub(crate) struct Space {
    /// The address by which they reach us.
    pub(crate) ours: IpAddr,
    name: Option<(String, String)>,
}

impl Space {
    /// A namespace behind a cable, or this machine's loopback where only root may do that and we are not.
    pub(crate) fn make() -> Self {
        let number = std::process::id() % 250 + 1;
        let (name, ours, theirs) = (format!("kilter-{number}"), format!("kt{number}a"), format!("kt{number}b"));
        let octet = u8::try_from(number).unwrap_or(1);
        let address = Ipv4Addr::new(10, 177, octet, 1);
        let made = ip(&["netns", "add", &name])
            && ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &name])
            && ip(&["addr", "add", &format!("{address}/24"), "dev", &ours])
            && ip(&["link", "set", &ours, "up"])
            && ip(&["-n", &name, "addr", "add", &format!("10.177.{octet}.2/24"), "dev", &theirs])
            && ip(&["-n", &name, "link", "set", &theirs, "up"])
            && ip(&["-n", &name, "link", "set", "lo", "up"]);
        if made {
            return Self { ours: address.into(), name: Some((name, ours)) };
        }
        println!("agents on loopback: no network namespace can be made here (it takes root and veth)");
        drop(Self { ours: address.into(), name: Some((name, ours)) });
        Self::loopback()
    }

    /// This machine's loopback: nodes speak without TLS to nobody else.
    pub(crate) fn loopback() -> Self {
        Self { ours: Ipv4Addr::LOCALHOST.into(), name: None }
    }

    /// What to start an agent with.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let Some((name, _)) = &self.name else { return Vec::new() };
        ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
    }

    /// Pulls the cable or plugs it in again; `false` where there is none.
    pub(crate) fn plug(&self, plugged: bool) -> bool {
        let Some((_, ours)) = &self.name else { return false };
        ip(&["link", "set", ours, if plugged { "up" } else { "down" }])
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some((name, ours)) = &self.name {
            // Either takes the cable with it.
            ip(&["link", "del", ours]);
            ip(&["netns", "del", name]);
        }
    }
}

impl Net {
    /// Puts the proxies in front of the aggregator's door.
    pub(crate) fn start(space: Space, server: SocketAddr, weather: Weather, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let ours = space.ours;
        let (door, udp, tcp) = runtime.block_on(async {
            // One number for both, as in production.
            for _ in 0..100 {
                let front = TcpListener::bind((ours, 0)).await?;
                let door = front.local_addr()?;
                if let Ok(udp) = UdpSocket::bind(door).await {
                    let udp = UdpProxy::start(udp, server, weather, seed).await;
                    return anyhow::Ok((door, udp, TcpProxy::start(front, server, weather, seed)));
                }
            }
            anyhow::bail!("no port is free for TCP and UDP")
        })?;
        Ok(Self { door, udp, tcp, space, runtime })
    }

    pub(crate) fn plug(&self, plugged: bool) -> bool {
        self.space.plug(plugged)
    }

    /// Every agent's datagrams come from another address now.
    pub(crate) fn rebind(&self) {
        self.runtime.block_on(self.udp.rebind());
    }
}

/// A port of this address that is free for TCP and UDP, and stays ours until the listener is dropped.
pub(crate) fn free(address: IpAddr) -> anyhow::Result<(SocketAddr, std::net::TcpListener)> {
    for _ in 0..100 {
        let tcp = std::net::TcpListener::bind((address, 0)).context("find a free port")?;
        let found = tcp.local_addr()?;
        if std::net::UdpSocket::bind(found).is_ok() {
            return Ok((found, tcp));
        }
    }
    anyhow::bail!("no port is free for TCP and UDP")
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}
