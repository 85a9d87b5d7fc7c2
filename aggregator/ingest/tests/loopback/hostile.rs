//! Bytes that no client of ours sends, over a real socket.

use kilter_ingest::listener::Limits;
use kilter_tests::Chance;
use rumqttc::PubAckReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::device::{Device, Door, patience};

#[tokio::test]
async fn two_hundred_kilobytes_of_garbage_close_only_their_own_connection() {
    let mut door = Door::open(Limits::default()).await;
    let mut device = Device::connect(&door, "pump-1").await;
    let mut chance = Chance::new(1);
    for round in 0..64u8 {
        let mut garbage: Vec<u8> = (0..200_000 / 64).map(|_| chance.below(256) as u8).collect();
        if round % 2 == 0 {
            // Looks like the start of a CONNECT.
            garbage[..9].copy_from_slice(b"\x10\x90\x10\x00\x04MQTT");
        }
        let mut stream = TcpStream::connect(door.address).await.expect("connected");
        // The listener may close while we still write.
        let _ = stream.write_all(&garbage).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = patience(stream.read_to_end(&mut rest)).await;
    }
    door.until(|door| {
        use kilter_ingest::DeviceLink;
        door.hub.counters().connections_now == 1
    })
    .await;
    device.publish(b"still here").await;
    door.next().await.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::Success);
}
