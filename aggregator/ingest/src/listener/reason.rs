//! MQTT 5 reason codes by name, as far as the listener says them.

use rmqtt_codec::v3;

use super::authorise::Refusal;
use crate::ack::Refuse;

/// One reason code of MQTT 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) u8);

impl Reason {
    pub(crate) const SUCCESS: Self = Self(0x00);
    pub(crate) const MALFORMED_PACKET: Self = Self(0x81);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(crate) const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    pub(crate) const CLIENT_ID: Self = Self(0x85);
    pub(crate) const BAD_USER_OR_PASSWORD: Self = Self(0x86);
    pub(crate) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(crate) const SERVER_BUSY: Self = Self(0x89);
    pub(crate) const SHUTTING_DOWN: Self = Self(0x8b);
    pub(crate) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    pub(crate) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    pub(crate) const TAKEN_OVER: Self = Self(0x8e);
    pub(crate) const TOPIC_NAME: Self = Self(0x90);
    pub(crate) const RECEIVE_MAXIMUM: Self = Self(0x93);
    pub(crate) const TOPIC_ALIAS: Self = Self(0x94);
    pub(crate) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(crate) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(crate) const PAYLOAD_FORMAT: Self = Self(0x99);
    pub(crate) const RETAIN: Self = Self(0x9a);
    pub(crate) const QOS: Self = Self(0x9b);
    pub(crate) const SHARED_SUBSCRIPTION: Self = Self(0x9e);
    pub(crate) const CONNECT_TIME: Self = Self(0xa0);
    pub(crate) const SUBSCRIPTION_ID: Self = Self(0xa1);
    pub(crate) const WILDCARD: Self = Self(0xa2);

    /// Whether it says that something went wrong.
    pub(crate) fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The nearest word that MQTT 3.1.1 has for a refused CONNECT.
    pub(crate) fn for_v3_connect(self) -> v3::ConnectAckReason {
        match self {
            Self::CLIENT_ID => v3::ConnectAckReason::IdentifierRejected,
            Self::BAD_USER_OR_PASSWORD => v3::ConnectAckReason::BadUserNameOrPassword,
            Self::SERVER_BUSY => v3::ConnectAckReason::ServiceUnavailable,
            _ => v3::ConnectAckReason::NotAuthorized,
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadCredential => Self::BAD_USER_OR_PASSWORD,
            Refusal::NotAuthorized => Self::NOT_AUTHORIZED,
            Refusal::ClientId => Self::CLIENT_ID,
            Refusal::Busy => Self::SERVER_BUSY,
        }
    }
}

impl From<Refuse> for Reason {
    fn from(refuse: Refuse) -> Self {
        match refuse {
            Refuse::NotAuthorized => Self::NOT_AUTHORIZED,
            Refuse::QuotaExceeded => Self::QUOTA_EXCEEDED,
            Refuse::Malformed => Self::PAYLOAD_FORMAT,
            Refuse::NotStored => Self::IMPLEMENTATION_SPECIFIC,
        }
    }
}
