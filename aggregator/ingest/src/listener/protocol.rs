//! MQTT 5 and 3.1.1 behind one set of packets: the codec crate's on the wire, ours inside.
//!
//! Frames are cut here, before the codec sees them: it allocates for a length that a stranger merely claims, a PUBLISH must get its share
//! of the byte budget first, and its properties may not be many, because each becomes many times its size in memory. The session knows no
//! protocol version beyond [`Version`].

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::ToReasonCode;
use rmqtt_codec::version::{ProtocolVersion, VersionCodec};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder, Encoder};

use super::header::property_bytes;
use super::reason::Reason;

/// The protocol spoken on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1 and 3.1.1: no reasons, no credit.
    V3,
    /// MQTT 5.
    V5,
}

/// What a device said.
#[derive(Debug)]
pub(crate) enum Packet {
    Connect(Box<Connect>),
    Publish(Box<Publish>),
    PublishAck(NonZeroU16, Reason),
    Subscribe {
        packet_id: NonZeroU16,
        with_id: bool,
        filters: Vec<(String, QoS)>,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        session_expiry_secs: Option<u32>,
    },
    /// A packet that a client has no business to send.
    Foreign,
}

/// A CONNECT of either version.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Bytes>,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_secs: u16,
    pub(crate) session_expiry_secs: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes: Option<u32>,
    pub(crate) will: Option<Will>,
    pub(crate) enhanced_auth: bool,
}

/// What matters of a will.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) retain: bool,
    pub(crate) qos: QoS,
}

/// The answer to an accepted CONNECT.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) session_present: bool,
    pub(crate) receive_maximum: NonZeroU16,
    pub(crate) packet_bytes: u32,
    pub(crate) keep_alive_secs: Option<u16>,
    pub(crate) session_expiry_secs: Option<u32>,
    pub(crate) client_id: Option<String>,
}

/// The codec of one connection.
#[derive(Debug)]
pub(crate) enum Protocol {
    V3(v3::Codec),
    V5(Box<v5::Codec>),
}

impl Protocol {
    /// Finds the version in a whole CONNECT.
    pub(crate) fn detect(input: &mut BytesMut) -> Result<Self, Reason> {
        match VersionCodec.decode(input).map_err(reason)? {
            Some(ProtocolVersion::MQTT3) => Ok(Self::V3(v3::Codec::default())),
            Some(ProtocolVersion::MQTT5) => Ok(Self::V5(Box::default())),
            None => Err(Reason::MALFORMED_PACKET),
        }
    }

    pub(crate) fn version(&self) -> Version {
        match self {
            Self::V3(_) => Version::V3,
            Self::V5(_) => Version::V5,
        }
    }

    /// Takes one packet, which is there as a whole, from the input.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Packet, Reason> {
        match self {
            Self::V3(codec) => codec.decode(input).map_err(reason)?.map(|(packet, _)| from_v3(packet)),
            Self::V5(_) if property_bytes(input).is_some_and(|bytes| bytes > PROPERTY_BYTES) => {
                return Err(Reason::QUOTA_EXCEEDED);
            }
            Self::V5(codec) => codec.decode(input).map_err(reason)?.map(|(packet, _)| from_v5(packet)),
        }
        .ok_or(Reason::MALFORMED_PACKET)
    }

    pub(crate) fn welcome(&mut self, welcome: Welcome, output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(
                codec,
                v3::Packet::ConnectAck(v3::ConnectAck {
                    return_code: v3::ConnectAckReason::ConnectionAccepted,
                    session_present: welcome.session_present,
                }),
                output,
            ),
            Self::V5(codec) => put(
                codec.as_mut(),
                v5::Packet::from(v5::ConnectAck {
                    session_present: welcome.session_present,
                    receive_max: welcome.receive_maximum,
                    max_qos: QoS::AtLeastOnce,
                    max_packet_size: Some(welcome.packet_bytes),
                    server_keepalive_sec: welcome.keep_alive_secs,
                    session_expiry_interval_secs: welcome.session_expiry_secs,
                    assigned_client_id: welcome.client_id.map(Into::into),
                    retain_available: false,
                    wildcard_subscription_available: false,
                    topic_alias_max: TOPIC_ALIASES,
                    subscription_identifiers_available: false,
                    shared_subscription_available: false,
                    ..v5::ConnectAck::default()
                }),
                output,
            ),
        }
    }

    pub(crate) fn refuse_connect(&mut self, reason: Reason, output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(
                codec,
                v3::Packet::ConnectAck(v3::ConnectAck { return_code: reason.for_v3_connect(), session_present: false }),
                output,
            ),
            Self::V5(codec) => put(
                codec.as_mut(),
                v5::Packet::from(v5::ConnectAck {
                    reason_code: v5::ConnectAckReason::try_from(reason.0)
                        .unwrap_or(v5::ConnectAckReason::UnspecifiedError),
                    ..v5::ConnectAck::default()
                }),
                output,
            ),
        }
    }

    /// Acknowledges a message. MQTT 3.1.1 can't say no: the session closes instead and never comes here with a refusal.
    pub(crate) fn publish_ack(&mut self, packet_id: NonZeroU16, reason: Reason, output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(codec, v3::Packet::PublishAck { packet_id }, output),
            Self::V5(codec) => put(
                codec.as_mut(),
                v5::Packet::PublishAck(v5::PublishAck {
                    packet_id,
                    reason_code: v5::PublishAckReason::try_from(reason.0)
                        .unwrap_or(v5::PublishAckReason::UnspecifiedError),
                    properties: Vec::new(),
                    reason_string: None,
                }),
                output,
            ),
        }
    }

    pub(crate) fn publish(&mut self, publish: Publish, output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(codec, v3::Packet::Publish(Box::new(publish)), output),
            Self::V5(codec) => put(codec.as_mut(), v5::Packet::Publish(Box::new(publish)), output),
        }
    }

    pub(crate) fn subscribe_ack(
        &mut self,
        packet_id: NonZeroU16,
        status: &[Result<QoS, Reason>],
        output: &mut BytesMut,
    ) {
        match self {
            Self::V3(codec) => put(
                codec,
                v3::Packet::SubscribeAck {
                    packet_id,
                    status: status
                        .iter()
                        .map(|one| match one {
                            Ok(qos) => v3::SubscribeReturnCode::Success(*qos),
                            Err(_) => v3::SubscribeReturnCode::Failure,
                        })
                        .collect(),
                },
                output,
            ),
            Self::V5(codec) => put(
                codec.as_mut(),
                v5::Packet::SubscribeAck(v5::SubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    status: status
                        .iter()
                        .map(|one| {
                            let code = one.map_or_else(|reason| reason.0, u8::from);
                            v5::SubscribeAckReason::try_from(code).unwrap_or(v5::SubscribeAckReason::UnspecifiedError)
                        })
                        .collect(),
                }),
                output,
            ),
        }
    }

    pub(crate) fn unsubscribe_ack(&mut self, packet_id: NonZeroU16, existed: &[bool], output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(codec, v3::Packet::UnsubscribeAck { packet_id }, output),
            Self::V5(codec) => put(
                codec.as_mut(),
                v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    status: existed
                        .iter()
                        .map(|existed| {
                            if *existed {
                                v5::UnsubscribeAckReason::Success
                            } else {
                                v5::UnsubscribeAckReason::NoSubscriptionExisted
                            }
                        })
                        .collect(),
                }),
                output,
            ),
        }
    }

    pub(crate) fn pong(&mut self, output: &mut BytesMut) {
        match self {
            Self::V3(codec) => put(codec, v3::Packet::PingResponse, output),
            Self::V5(codec) => put(codec.as_mut(), v5::Packet::PingResponse, output),
        }
    }

    /// Says why the connection ends; MQTT 3.1.1 has no words for it.
    pub(crate) fn disconnect(&mut self, reason: Reason, output: &mut BytesMut) {
        if let Self::V5(codec) = self {
            let code =
                v5::DisconnectReasonCode::try_from(reason.0).unwrap_or(v5::DisconnectReasonCode::UnspecifiedError);
            put(codec.as_mut(), v5::Packet::Disconnect(v5::Disconnect::new(code)), output);
        }
    }
}

fn put<P, C: Encoder<P>>(codec: &mut C, packet: P, output: &mut BytesMut) {
    // The codec refuses only a QoS 1 message without id and a size past 256 MB; the session makes neither.
    let encoded = codec.encode(packet, output).is_ok();
    debug_assert!(encoded, "packets of the listener always encode");
}

fn reason(error: DecodeError) -> Reason {
    Reason(u8::from(error.to_reason_code()))
}

fn from_v5(packet: v5::Packet) -> Packet {
    match packet {
        v5::Packet::Connect(connect) => {
            let connect = *connect;
            Packet::Connect(Box::new(Connect {
                client_id: connect.client_id.to_string(),
                username: connect.username.map(|name| name.to_string()),
                password: connect.password,
                clean_start: connect.clean_start,
                keep_alive_secs: connect.keep_alive,
                session_expiry_secs: connect.session_expiry_interval_secs,
                receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
                packet_bytes: connect.max_packet_size.map(|size| size.get()),
                will: connect.last_will.map(|will| Will {
                    topic: will.topic.to_string(),
                    retain: will.retain,
                    qos: will.qos,
                }),
                enhanced_auth: connect.auth_method.is_some() || connect.auth_data.is_some(),
            }))
        }
        v5::Packet::Publish(publish) => Packet::Publish(publish),
        v5::Packet::PublishAck(ack) => Packet::PublishAck(ack.packet_id, Reason(u8::from(ack.reason_code))),
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            packet_id: subscribe.packet_id,
            with_id: subscribe.id.is_some(),
            filters: subscribe
                .topic_filters
                .into_iter()
                .map(|(filter, options)| (filter.to_string(), options.qos))
                .collect(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters.into_iter().map(|filter| filter.to_string()).collect(),
        },
        v5::Packet::PingRequest => Packet::Ping,
        v5::Packet::Disconnect(disconnect) => {
            Packet::Disconnect { session_expiry_secs: disconnect.session_expiry_interval_secs }
        }
        v5::Packet::ConnectAck(_)
        | v5::Packet::PublishReceived(_)
        | v5::Packet::PublishRelease(_)
        | v5::Packet::PublishComplete(_)
        | v5::Packet::SubscribeAck(_)
        | v5::Packet::UnsubscribeAck(_)
        | v5::Packet::PingResponse
        | v5::Packet::Auth(_) => Packet::Foreign,
    }
}

fn from_v3(packet: v3::Packet) -> Packet {
    match packet {
        v3::Packet::Connect(connect) => {
            let connect = *connect;
            Packet::Connect(Box::new(Connect {
                client_id: connect.client_id.to_string(),
                username: connect.username.map(|name| name.to_string()),
                password: connect.password,
                clean_start: connect.clean_session,
                keep_alive_secs: connect.keep_alive,
                session_expiry_secs: if connect.clean_session { 0 } else { u32::MAX },
                receive_maximum: u16::MAX,
                packet_bytes: None,
                will: connect.last_will.map(|will| Will {
                    topic: will.topic.to_string(),
                    retain: will.retain,
                    qos: will.qos,
                }),
                enhanced_auth: false,
            }))
        }
        v3::Packet::Publish(publish) => Packet::Publish(publish),
        v3::Packet::PublishAck { packet_id } => Packet::PublishAck(packet_id, Reason::SUCCESS),
        v3::Packet::Subscribe { packet_id, topic_filters } => Packet::Subscribe {
            packet_id,
            with_id: false,
            filters: topic_filters.into_iter().map(|(filter, qos)| (filter.to_string(), qos)).collect(),
        },
        v3::Packet::Unsubscribe { packet_id, topic_filters } => Packet::Unsubscribe {
            packet_id,
            filters: topic_filters.into_iter().map(|filter| filter.to_string()).collect(),
        },
        v3::Packet::PingRequest => Packet::Ping,
        v3::Packet::Disconnect => Packet::Disconnect { session_expiry_secs: None },
        v3::Packet::ConnectAck(_)
        | v3::Packet::PublishReceived { .. }
        | v3::Packet::PublishRelease { .. }
        | v3::Packet::PublishComplete { .. }
        | v3::Packet::SubscribeAck { .. }
        | v3::Packet::UnsubscribeAck { .. }
        | v3::Packet::PingResponse => Packet::Foreign,
    }
}

/// Topic aliases that a device may set: it has one topic to publish to.
pub(crate) const TOPIC_ALIASES: u16 = 1;
/// Properties of one PUBLISH.
const PROPERTY_BYTES: usize = 4 << 10;
