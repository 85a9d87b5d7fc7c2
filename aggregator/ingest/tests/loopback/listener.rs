//! The listener against a real MQTT client.

use bytes::Bytes;
use kilter_ingest::listener::Limits;
use kilter_ingest::{DeviceLink, Presence, Refuse, Sent};
use rumqttc::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::device::{Device, Door, TENANT, patience, principal, tls};

#[tokio::test]
async fn a_wrong_password_and_an_unknown_device_are_refused_alike() {
    let door = Door::open(Limits::default()).await;
    for (name, password) in [("pump-1", "wrong"), ("nobody", "secret-nobody")] {
        let mut device = Device::with_password(&door, name, password);
        assert_eq!(device.refused().await, ConnectReturnCode::BadUserNamePassword);
    }
    assert_eq!(door.hub.counters().refused.get(&0x86), Some(&2));
    assert_eq!(door.hub.presence(&principal("pump-1")), Presence::Offline);
}

#[tokio::test]
async fn foreign_topics_are_refused_for_publish_and_subscribe() {
    let mut door = Door::open(Limits::default()).await;
    let mut device = Device::connect(&door, "pump-1").await;
    device.publish_to("kilter/v1/acme/pump-2/up", b"not mine").await;
    device.publish(b"mine").await;
    let inbound = door.next().await;
    assert_eq!(inbound.payload, "mine");
    assert_eq!(&*inbound.topic, "kilter/v1/acme/pump-1/up");
    inbound.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::NotAuthorized);
    assert_eq!(device.puback().await, PubAckReason::Success);
    assert_eq!(device.subscribe("kilter/v1/acme/pump-2/down").await, SubscribeReasonCode::NotAuthorized);
    assert_eq!(device.subscribe("kilter/v1/+/+/down").await, SubscribeReasonCode::WildcardSubscriptionsNotSupported);
}

#[tokio::test]
async fn a_publish_is_acked_only_after_accept_and_in_publish_order() {
    let mut door = Door::open(Limits::default()).await;
    let mut device = Device::connect(&door, "pump-1").await;
    for n in 0..3 {
        device.publish(&[n]).await;
    }
    let (first, second, third) = (door.next().await, door.next().await, door.next().await);
    third.ack.accept();
    second.ack.refuse(Refuse::QuotaExceeded);
    // A SUBACK that overtakes them proves that neither goes before the first.
    device.subscribe_down().await;
    assert_eq!(device.pubacks_aside(), 0);
    first.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::Success);
    assert_eq!(device.puback().await, PubAckReason::QuotaExceeded);
    assert_eq!(device.puback().await, PubAckReason::Success);
}

#[tokio::test]
async fn a_dropped_handle_closes_the_connection_and_the_device_sends_again() {
    let mut door = Door::open(Limits::default()).await;
    let mut device = Device::connect_persistent(&door, "pump-1").await;
    device.publish(b"again").await;
    drop(door.next().await);
    assert_eq!(device.disconnected().await, 0x83);
    device.until_connected().await;
    let again = door.next().await;
    assert_eq!(again.payload, "again");
    again.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::Success);
}

#[tokio::test]
async fn mail_reaches_a_subscribed_device_and_waits_for_one_that_is_away() {
    let door = Door::open(Limits::default()).await;
    let pump = principal("pump-1");
    let send = |text: &'static str| door.hub.send(&pump, Bytes::from_static(text.as_bytes()));
    assert_eq!(send("early"), Ok(Sent::Parked));
    let mut device = Device::connect(&door, "pump-1").await;
    device.subscribe_down().await;
    assert_eq!(device.mail().await, "early");
    assert_eq!(send("one"), Ok(Sent::Online));
    assert_eq!(device.mail().await, "one");
    assert_eq!(door.hub.presence(&pump), Presence::Online);

    drop(device);
    door.until(|door| door.hub.presence(&pump) == Presence::Offline).await;
    assert_eq!(send("two"), Ok(Sent::Parked));
    let mut device = Device::connect(&door, "pump-1").await;
    device.subscribe_down().await;
    // The PUBACK of "one" may have been lost with the connection: at least once.
    let mut mail = device.mail().await;
    if mail == "one" {
        mail = device.mail().await;
    }
    assert_eq!(mail, "two");
}

#[tokio::test]
async fn a_second_connection_takes_over_and_the_mail_goes_with_it() {
    let door = Door::open(Limits::default()).await;
    let pump = principal("pump-1");
    let mut old = Device::connect(&door, "pump-1").await;
    old.subscribe_down().await;
    let mut new = Device::connect(&door, "pump-1").await;
    assert_eq!(old.disconnected().await, 0x8e);
    new.subscribe_down().await;
    assert_eq!(door.hub.send(&pump, Bytes::from_static(b"for the new")), Ok(Sent::Online));
    assert_eq!(new.mail().await, "for the new");
    assert_eq!(door.hub.counters().takeovers, 1);
}

#[tokio::test]
async fn an_evicted_device_loses_its_connection() {
    let door = Door::open(Limits::default()).await;
    let mut device = Device::connect(&door, "pump-1").await;
    door.hub.evict(&principal("pump-1"));
    assert_eq!(device.disconnected().await, 0x8e);
}

#[tokio::test]
async fn the_byte_budget_stops_reading_and_resumes_without_loss() {
    let mut door = Door::open(Limits { packet_bytes: 64 << 10, budget_bytes: 100 << 10, ..Limits::default() }).await;
    let mut device = Device::connect(&door, "pump-1").await;
    for n in 0..8u8 {
        device.publish(&vec![n; 40 << 10]).await;
    }
    let mut held = vec![door.next().await, door.next().await];
    door.until(|door| door.hub.counters().stalls > 0).await;
    assert!(door.hub.counters().held_bytes_now <= 100 << 10);
    assert!(door.inbound.try_recv().is_err());
    for n in 0..8u8 {
        if held.is_empty() {
            held.push(door.next().await);
        }
        let inbound = held.remove(0);
        assert_eq!(inbound.payload[0], n);
        inbound.ack.accept();
    }
    for _ in 0..8 {
        assert_eq!(device.puback().await, PubAckReason::Success);
    }
    assert_eq!(door.hub.counters().held_bytes_now, 0);
}

#[tokio::test]
async fn shutdown_says_goodbye_and_ends() {
    let mut door = Door::open(Limits::default()).await;
    let mut device = Device::connect(&door, "pump-1").await;
    door.stop();
    assert_eq!(device.disconnected().await, 0x8b);
    drop(device);
    patience(door.ended()).await;
}

#[tokio::test]
async fn tls_carries_the_same_protocol() {
    let (server, client) = tls();
    let mut door = Door::open_with(Limits::default(), Some(server)).await;
    let mut device = Device::connect_tls(&door, "pump-1", client).await;
    device.publish(b"over tls").await;
    let inbound = door.next().await;
    assert_eq!(inbound.payload, "over tls");
    assert_eq!(inbound.device.tenant.as_str(), TENANT);
    inbound.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::Success);
}

#[tokio::test]
async fn the_client_reads_the_limits_in_connack() {
    let door = Door::open(Limits::default()).await;
    let mut device = Device::new(&door, "pump-1");
    let properties = device
        .packet(|packet| match packet {
            Packet::ConnAck(connack) => connack.properties.clone(),
            _ => None,
        })
        .await;
    assert_eq!(properties.receive_max, Some(64));
    assert_eq!(properties.max_qos, Some(1));
    assert_eq!(properties.max_packet_size, Some(1 << 20));
    assert_eq!(properties.retain_available, Some(0));
    assert_eq!(properties.wildcard_subscription_available, Some(0));
}

#[tokio::test]
async fn a_silent_device_is_closed_after_one_and_a_half_keep_alives() {
    let door = Door::open(Limits { keep_alive_secs: 1, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(door.address).await.expect("connected");
    stream
        .write_all(b"\x10\x2a\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x06pump-1\x00\x06pump-1\x00\x0dsecret-pump-1")
        .await
        .expect("written");
    let mut heard = Vec::new();
    patience(stream.read_to_end(&mut heard)).await.expect("closed by the listener");
    assert_eq!(heard.first(), Some(&0x20), "{heard:02x?}");
    assert!(heard.ends_with(&[0xe0, 0x02, 0x8d, 0x00]), "{heard:02x?}");
    assert_eq!(door.hub.counters().refused.get(&0x8d), Some(&1));
}
