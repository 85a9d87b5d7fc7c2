//! The sensor socket: one connection per asset; the agent subscribes from its positions, the asset answers and streams.

use std::sync::Arc;
use std::time::Duration;

use kilter_types::ChannelId;
use kilter_wire::FrameError;
use kilter_wire::frame::{Kind, MAX_FRAME_BYTES, decode, encode, length};
use kilter_wire::sensor::{SensorDown, SensorUp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::asset::{Asset, Enough, Reading};
use crate::history::Step;
use crate::stage::Stage;

/// Takes connections until it is aborted.
pub(crate) async fn accept(listener: TcpListener, stage: Arc<Stage>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let stage = Arc::clone(&stage);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &stage).await {
                        tracing::warn!(%peer, %error, "connection closed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connection not taken");
                crate::clock::wait(0.1).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, stage: &Stage) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let subscribe = tokio::time::timeout(HANDSHAKE, read_frame(&mut stream)).await??;
    let SensorDown::Subscribe { asset: wanted, from } = decode(Kind::SensorDown, &subscribe)?;
    let Some(asset) = stage.assets.get(&wanted) else {
        let known: Vec<&str> = stage.assets.keys().map(kilter_types::Name::as_str).collect();
        anyhow::bail!("no asset {wanted} here; there are {}", known.join(", "));
    };
    let (connection, offer, news) = asset.attach(&from, &stage.ledger);
    tracing::info!(asset = %wanted, connection, "agent connected");
    let outcome = stream_asset(stream, stage, asset, connection, SensorUp::Offer(offer), news).await;
    asset.detach(connection, &stage.ledger);
    tracing::info!(asset = %wanted, connection, "agent gone");
    outcome
}

async fn stream_asset(
    mut stream: TcpStream,
    stage: &Stage,
    asset: &Asset,
    connection: u64,
    offer: SensorUp<'_>,
    mut news: tokio::sync::watch::Receiver<u64>,
) -> anyhow::Result<()> {
    let mut outgoing = Outgoing::default();
    outgoing.push(&offer)?;
    let mut ended = false;
    let mut inbox = [0; 256];
    loop {
        if !outgoing.bytes.is_empty() {
            stream.write_all(&outgoing.bytes).await?;
            outgoing.bytes.clear();
        }
        news.mark_unchanged();
        let mut failed = None;
        let reading = asset.read(connection, &stage.ledger, &mut |step| {
            let message = match step {
                Step::Skipped { channel, from, to } => SensorUp::Skipped { channel: channel_id(channel), from, to },
                Step::Piece { piece, from } => piece.message(from),
            };
            failed = outgoing.push(&message).err();
            if failed.is_some() || outgoing.bytes.len() >= WRITE_BYTES { Enough::Yes } else { Enough::No }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        match reading {
            Reading::Wrote => continue,
            Reading::TakenOver => anyhow::bail!("a newer connection of the same asset took over"),
            Reading::AtEnd if !ended => {
                ended = true;
                outgoing.push(&SensorUp::End)?;
                stream.write_all(&outgoing.bytes).await?;
                outgoing.bytes.clear();
                asset.mark_end_sent(connection);
            }
            Reading::AtEnd | Reading::Waiting => {}
        }
        tokio::select! {
            changed = news.changed() => changed?,
            read = stream.read(&mut inbox) => match read {
                // An agent has nothing more to say; what it says is not read.
                Ok(count) if count > 0 => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
        }
    }
}

async fn read_frame(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut frame = Vec::new();
    loop {
        match length(&frame)? {
            Some(total) if total > MAX_SUBSCRIBE_BYTES => return Err(FrameError::TooLong.into()),
            Some(total) if frame.len() == total => return Ok(frame),
            Some(_) | None => frame.push(stream.read_u8().await?),
        }
    }
}

/// Frames that wait to be written.
struct Outgoing {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { bytes: Vec::new(), scratch: vec![0; MAX_FRAME_BYTES] }
    }
}

impl Outgoing {
    fn push(&mut self, message: &SensorUp<'_>) -> Result<(), FrameError> {
        let frame = encode(Kind::SensorUp, message, &mut self.scratch)?;
        self.bytes.extend_from_slice(frame);
        Ok(())
    }
}

fn channel_id(channel: usize) -> ChannelId {
    ChannelId(u8::try_from(channel).expect("an offer has at most 16 channels"))
}

const HANDSHAKE: Duration = Duration::from_secs(10);
const MAX_SUBSCRIBE_BYTES: usize = 4096;
const WRITE_BYTES: usize = 64 * 1024;
