//! Client certificates at the listener: a device brings its own beside its credential, or hears why it stays outside.

use kilter_ingest::certificate::verifier;
use kilter_ingest::listener::Limits;
use kilter_ingest::{DeviceLink, Presence};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rumqttc::{ConnectReturnCode, PubAckReason};
use rustls::pki_types::PrivateKeyDer;

use crate::device::{Device, Door, Ends, Identity, principal, secret};

#[tokio::test]
async fn with_an_authority_a_device_is_let_in_by_its_own_certificate_and_credential_together() {
    let authority = Authority::new("plant");
    let ends = Ends::new(verifier(authority.pem.as_bytes()).expect("an authority"));
    let mut door = Door::open_with(Limits::default(), Some(ends.server.clone())).await;
    let own = ends.client(Some(authority.sign("pump-1")));
    let mut device = Device::connect_tls(&door, "pump-1", own.clone()).await;
    device.publish(b"mine").await;
    let inbound = door.next().await;
    assert_eq!(inbound.device, principal("pump-1"));
    inbound.ack.accept();
    assert_eq!(device.puback().await, PubAckReason::Success);

    let mut guessing = Device::new_tls(&door, "pump-1", "a guess", own.clone());
    assert_eq!(guessing.refused().await, ConnectReturnCode::BadUserNamePassword);
    let mut borrowing = Device::new_tls(&door, "pump-2", &secret("pump-2"), own);
    assert_eq!(borrowing.refused().await, ConnectReturnCode::NotAuthorized);
    assert_eq!(door.hub.counters().refused.get(&0x87), Some(&1));
    assert_eq!(door.hub.presence(&principal("pump-2")), Presence::Offline);
}

#[tokio::test]
async fn without_a_certificate_or_with_another_authoritys_the_handshake_says_why() {
    let (authority, stranger) = (Authority::new("plant"), Authority::new("street"));
    let ends = Ends::new(verifier(authority.pem.as_bytes()).expect("an authority"));
    let door = Door::open_with(Limits::default(), Some(ends.server.clone())).await;
    for (identity, alert) in [(None, "CertificateRequired"), (Some(stranger.sign("pump-1")), "UnknownCA")] {
        let before = door.hub.counters().refused.get(&0x87).copied().unwrap_or_default();
        let mut device = Device::new_tls(&door, "pump-1", &secret("pump-1"), ends.client(identity));
        let said = device.broken().await;
        assert!(said.contains(alert), "{said}");
        door.until(|door| door.hub.counters().refused.get(&0x87).is_some_and(|count| *count > before)).await;
    }
    assert_eq!((door.hub.counters().connections, door.hub.presence(&principal("pump-1"))), (0, Presence::Offline));
}

#[test]
fn a_file_that_holds_no_authority_is_refused() {
    let key = KeyPair::generate().expect("a key").serialize_pem();
    for text in ["", "no PEM at all", &key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(verifier(text.as_bytes()).is_err(), "{text}");
    }
}

/// Signs for devices.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, device: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![device.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}
