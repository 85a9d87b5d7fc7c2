//! An agent's own certificate at doors that ask for one: by QUIC and by MQTT it is let in with it, and by neither without.

use kilter_ingest::certificate::verifier;
use kilter_uplink::Server;

use crate::proxy::Weather;
use crate::site::{Site, certificates_asking, server};

const FAIR: Weather = Weather { loss_ppm: 0, double_ppm: 0, delay_us: 1_000, cut_ppm: 0 };
const NOT_AUTHORIZED: u8 = 0x87;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_own_certificate_an_agent_is_let_in_by_quic_and_by_mqtt() {
    let site = start("edge-1", |server, own| server.with_certificate(&own.0, &own.1).expect("they fit")).await;
    site.wait("QUIC carries", |site| site.arrived("quic") > 0).await;
    site.produce(100);
    site.wait("all there", |site| site.rows() == 100).await;
    site.udp.block(true);
    site.produce(100);
    site.wait("all there by MQTT", |site| site.rows() == 200 && site.arrived("mqtt") > 0).await;
    assert_eq!(site.refused(NOT_AUTHORIZED), (0, 0));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_another_devices_certificate_it_is_refused_by_both() {
    let site = start("edge-2", |server, own| server.with_certificate(&own.0, &own.1).expect("they fit")).await;
    site.produce(10);
    site.wait("both refuse", |site| site.refused(NOT_AUTHORIZED).0 > 0 && site.refused(NOT_AUTHORIZED).1 > 0).await;
    assert_eq!((site.links(), site.rows()), (0, 0));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_it_is_refused_by_both() {
    let site = start("edge-1", |server, _| server).await;
    site.produce(10);
    site.wait("both refuse", |site| site.refused(NOT_AUTHORIZED).0 > 0 && site.refused(NOT_AUTHORIZED).1 > 0).await;
    assert_eq!((site.links(), site.rows()), (0, 0));
    site.end().await;
}

#[test]
fn a_certificate_that_does_not_fit_is_refused_before_anything_is_sent() {
    let ((one, key), (_, other)) = (identity("edge-1"), identity("edge-1"));
    let said = |ca: &str, chain: &str, key: &str| match server("127.0.0.1:8883", ca).with_certificate(chain, key) {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said(&one, &one, &key), "taken");
    for (ca, chain, key, why) in [
        ("", &one, &key, "no server_ca"),
        (one.as_str(), &one, &other, "not the key of client_cert"),
        (one.as_str(), &key, &key, "no certificate in PEM"),
        (one.as_str(), &one, &one, "no private key in PEM"),
    ] {
        let text = said(ca, chain, key);
        assert!(text.contains(why), "{text}");
    }
}

/// Doors that ask for the certificate of an authority, and an agent `edge-1` with one of this name to use or not.
async fn start(name: &str, with: impl FnOnce(Server, &(String, String)) -> Server) -> Site {
    let own = identity(name);
    // Signed by itself, it is its own authority.
    let (tls, ca) = certificates_asking(verifier(own.0.as_bytes()).expect("an authority"));
    Site::start_between(FAIR, 11, kilter_wire::VERSION, tls, |address| with(server(address, &ca), &own)).await
}

/// A certificate and its key.
fn identity(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}
