//! One agent's uplink and the aggregator's doors over real sockets and a bad network: QUIC, MQTT, and the ways between them.
//!
//! Uplink, MQTT listener, QUIC endpoint, admission and fold are the production ones; the journal at either end is memory.
#![expect(clippy::disallowed_methods, reason = "real sockets need real time")]

mod certificate;
mod early;
mod proxy;
mod site;
mod version;

use std::time::Duration;

use proxy::Weather;
use site::Site;

const ROUGH: Weather = Weather { loss_ppm: 30_000, double_ppm: 20_000, delay_us: 8_000, cut_ppm: 2_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_quic_carries_falls_back_to_mqtt_when_udp_is_blocked_and_comes_back() {
    let site = Site::start(ROUGH, 7).await;
    site.wait("QUIC carries", |site| site.arrived("quic") > 0).await;
    site.produce(300);
    site.wait("all there", |site| site.rows() == 300).await;

    let links = site.links();
    site.udp.rebind().await;
    site.produce(300);
    site.wait("all there after the address changed", |site| site.rows() == 600).await;
    assert_eq!(site.links(), links, "a change of address moves the connection and does not end it");

    let before = site.arrived("mqtt");
    site.udp.block(true);
    site.produce(300);
    site.wait("MQTT takes over", |site| site.arrived("mqtt") > before).await;
    site.wait("all there by MQTT", |site| site.rows() == 900).await;

    site.tcp.cut();
    site.produce(100);
    site.wait("all there after a cut", |site| site.rows() == 1_000).await;

    let before = site.arrived("quic");
    site.udp.block(false);
    site.produce(100);
    site.wait("QUIC is back", |site| site.arrived("quic") > before).await;
    site.produce(100);
    site.wait("all there at the end", |site| site.rows() == 1_200 && site.released() == site.produced()).await;
    assert!(site.udp.passed() > 0);
    println!(
        "{} by QUIC, {} by MQTT, {} links, {} duplicates dropped",
        site.arrived("quic"),
        site.arrived("mqtt"),
        site.links(),
        site.duplicates()
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_is_blocked_from_the_start_no_time_is_lost() {
    let site = Site::start(Weather { loss_ppm: 1_000_000, ..ROUGH }, 3).await;
    let begun = std::time::Instant::now();
    site.produce(200);
    site.wait("all there by MQTT", |site| site.rows() == 200).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for QUIC: {:?}", begun.elapsed());
    assert_eq!(site.arrived("quic"), 0);
    site.end().await;
}
