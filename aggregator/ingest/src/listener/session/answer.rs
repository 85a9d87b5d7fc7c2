//! What the session does with each packet of a device.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use kilter_types::Monotonic;
use rmqtt_codec::types::{Publish, QoS};

use super::{Open, Session, Stage};
use crate::ack::{Refuse, Verdict};
use crate::certificate::Certificate;
use crate::counters::add;
use crate::gateway::{Inbound, Principal};
use crate::listener::hub::{Claim, Hub};
use crate::listener::protocol::{Connect, Packet, Protocol, TOPIC_ALIASES, Version, Welcome};
use crate::listener::reason::Reason;
use crate::topic;

impl Session {
    /// What TLS has proved of the other end, told before its first byte: a device must bring its own certificate.
    pub fn certify(&mut self, certificate: Certificate) {
        self.certificate = certificate;
    }

    /// Reads the packet that is there as a whole.
    pub(super) fn read_packet(&mut self, now: Monotonic) -> Result<(), Reason> {
        if self.protocol.is_none() {
            self.protocol = Some(Protocol::detect(&mut self.input)?);
        }
        let protocol = self.protocol.as_mut().ok_or(Reason::PROTOCOL_ERROR)?;
        let packet = protocol.decode(&mut self.input)?;
        match (&self.stage, packet) {
            (Stage::Greeting, Packet::Connect(connect)) => {
                self.handle_connect(*connect, now);
                Ok(())
            }
            (Stage::Open(_), Packet::Publish(publish)) => self.handle_publish(*publish),
            (Stage::Open(open), Packet::PublishAck(packet_id, reason)) => {
                if reason.is_error() {
                    add(&self.hub.tally().refused_down, 1);
                }
                self.hub.acknowledge(&open.device, open.connection, packet_id);
                Ok(())
            }
            (Stage::Open(_), Packet::Subscribe { packet_id, with_id, filters }) => {
                self.handle_subscribe(packet_id, with_id, &filters)
            }
            (Stage::Open(_), Packet::Unsubscribe { packet_id, filters }) => {
                self.handle_unsubscribe(packet_id, &filters);
                Ok(())
            }
            (Stage::Open(_), Packet::Ping) => {
                protocol.pong(&mut self.output);
                Ok(())
            }
            (Stage::Open(open), Packet::Disconnect { session_expiry_secs }) => {
                self.hub.detach(&open.device, open.connection, session_expiry_secs, now);
                self.close_quietly(now);
                Ok(())
            }
            // A second CONNECT, anything before the first, or a packet only servers send.
            (Stage::Greeting | Stage::Open(_) | Stage::Closed, _) => Err(Reason::PROTOCOL_ERROR),
        }
    }

    fn handle_connect(&mut self, connect: Connect, now: Monotonic) {
        let Some(protocol) = &mut self.protocol else {
            return;
        };
        let device = match admit(&self.hub, &self.certificate, &connect) {
            Ok(device) => device,
            Err(reason) => {
                self.hub.tally().refuse(reason.0);
                protocol.refuse_connect(reason, &mut self.output);
                return self.close_quietly(now);
            }
        };
        let limits = self.hub.limits();
        let down = topic::down(&device);
        let packet_bytes = connect.packet_bytes.unwrap_or(u32::MAX) as usize;
        let session_expiry_secs = connect.session_expiry_secs.min(limits.session_expiry_secs);
        let held = self.hub.attach(
            Claim {
                device: device.clone(),
                waker: self.waker.clone(),
                clean_start: connect.clean_start,
                session_expiry_secs,
                window: usize::from(connect.receive_maximum.min(limits.down_window)),
                payload_bytes: packet_bytes.saturating_sub(down.len() + PUBLISH_OVERHEAD_BYTES),
            },
            now,
        );
        let wanted_secs = connect.keep_alive_secs;
        let granted_secs = match wanted_secs {
            0 => limits.keep_alive_secs,
            secs => secs.min(limits.keep_alive_secs),
        };
        // MQTT 3.1.1 can't be told another keep alive: the device's own holds.
        let kept_secs = match protocol.version() {
            Version::V3 => wanted_secs,
            Version::V5 => granted_secs,
        };
        protocol.welcome(
            Welcome {
                session_present: held.session_present,
                receive_maximum: NonZeroU16::new(limits.receive_maximum).unwrap_or(NonZeroU16::MIN),
                packet_bytes: limits.packet_bytes,
                keep_alive_secs: (granted_secs != wanted_secs).then_some(granted_secs),
                session_expiry_secs: (session_expiry_secs != connect.session_expiry_secs)
                    .then_some(session_expiry_secs),
                client_id: connect.client_id.is_empty().then(|| device.device.to_string()),
            },
            &mut self.output,
        );
        if connect.will.is_some() {
            add(&self.hub.tally().wills_ignored, 1);
        }
        self.stage = Stage::Open(Open {
            up: topic::up(&device).into(),
            alias: None,
            down,
            device,
            connection: held.connection,
            keep_alive_us: (kept_secs > 0).then(|| u64::from(kept_secs) * 1_500_000),
        });
        self.heard(now);
    }

    fn handle_publish(&mut self, publish: Publish) -> Result<(), Reason> {
        let Stage::Open(open) = &mut self.stage else {
            return Err(Reason::PROTOCOL_ERROR);
        };
        let v3 = self.protocol.as_ref().map(Protocol::version) == Some(Version::V3);
        let alias = match &publish.properties {
            Some(properties) if !properties.subscription_ids.is_empty() => return Err(Reason::PROTOCOL_ERROR),
            Some(properties) => properties.topic_alias.map(NonZeroU16::get),
            None => None,
        };
        if alias.is_some_and(|alias| alias > TOPIC_ALIASES) {
            return Err(Reason::TOPIC_ALIAS);
        }
        let topic = match &*publish.topic {
            "" if alias.is_some() => open.alias.clone().ok_or(Reason::PROTOCOL_ERROR)?,
            topic if topic.is_empty() || topic.contains(['+', '#', '\0']) => return Err(Reason::TOPIC_NAME),
            topic if *topic == *open.up => Arc::clone(&open.up),
            topic => Arc::from(topic),
        };
        if publish.retain {
            return Err(Reason::RETAIN);
        }
        let acknowledged = match publish.qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => true,
            QoS::ExactlyOnce => return Err(Reason::QOS),
        };
        if acknowledged && self.credit_used >= usize::from(self.hub.limits().receive_maximum) {
            return Err(Reason::RECEIVE_MAXIMUM);
        }
        let may_publish = self.hub.authorise().may_publish(&open.device, &topic);
        if alias.is_some() {
            // Of a topic where it may not publish no more is remembered than that.
            open.alias = Some(if may_publish { Arc::clone(&topic) } else { Arc::default() });
        }
        if !may_publish {
            if v3 {
                return Err(Reason::NOT_AUTHORIZED);
            }
            if acknowledged {
                self.acks.open_settled(Verdict::Refused(Refuse::NotAuthorized));
                self.unsettled.push_back(publish.packet_id);
                self.credit_used += 1;
                // Refused at the front of the queue: nothing else would wake us.
                self.waker.wake_by_ref();
            } else {
                add(&self.hub.tally().dropped_up, 1);
            }
            return Ok(());
        }
        add(&self.hub.tally().messages_up, 1);
        add(&self.hub.tally().bytes_up, publish.payload.len() as u64);
        self.unsettled.push_back(publish.packet_id);
        if acknowledged {
            self.credit_used += 1;
        }
        self.inbound.push_back(Inbound {
            device: open.device.clone(),
            topic,
            // A copy of its own: a slice would keep the whole read buffer alive outside the budget.
            payload: Bytes::copy_from_slice(&publish.payload),
            ack: self.acks.open(self.reservation.take()),
        });
        Ok(())
    }

    fn handle_subscribe(
        &mut self,
        packet_id: NonZeroU16,
        with_id: bool,
        filters: &[(String, QoS)],
    ) -> Result<(), Reason> {
        let (Stage::Open(open), Some(protocol)) = (&self.stage, &mut self.protocol) else {
            return Err(Reason::PROTOCOL_ERROR);
        };
        if with_id {
            return Err(Reason::SUBSCRIPTION_ID);
        }
        let mut status = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            let granted = if filter.starts_with("$share/") {
                Err(Reason::SHARED_SUBSCRIPTION)
            } else if filter.contains(['+', '#']) {
                Err(Reason::WILDCARD)
            } else if *filter != open.down || !self.hub.authorise().may_subscribe(&open.device, filter) {
                Err(Reason::NOT_AUTHORIZED)
            } else {
                Ok(qos.less_value(QoS::AtLeastOnce))
            };
            match granted {
                Ok(qos) => {
                    self.hub.subscribe(&open.device, open.connection, Some(qos));
                }
                Err(reason) => self.hub.tally().refuse(reason.0),
            }
            status.push(granted);
        }
        protocol.subscribe_ack(packet_id, &status, &mut self.output);
        Ok(())
    }

    fn handle_unsubscribe(&mut self, packet_id: NonZeroU16, filters: &[String]) {
        let (Stage::Open(open), Some(protocol)) = (&self.stage, &mut self.protocol) else {
            return;
        };
        let existed: Vec<bool> = filters
            .iter()
            .map(|filter| *filter == open.down && self.hub.subscribe(&open.device, open.connection, None))
            .collect();
        protocol.unsubscribe_ack(packet_id, &existed, &mut self.output);
    }
}

/// Whether a CONNECT is one that this listener can keep, and whose it is.
fn admit(hub: &Hub, certificate: &Certificate, connect: &Connect) -> Result<Principal, Reason> {
    if connect.enhanced_auth {
        return Err(Reason::BAD_AUTHENTICATION_METHOD);
    }
    if let Some(will) = &connect.will {
        if will.retain {
            return Err(Reason::RETAIN);
        }
        if will.qos == QoS::ExactlyOnce {
            return Err(Reason::QOS);
        }
    }
    let device =
        hub.authorise().connect(&connect.client_id, connect.username.as_deref(), connect.password.as_deref())?;
    if !certificate.is_for(&device.device) {
        return Err(Reason::NOT_AUTHORIZED);
    }
    match &connect.will {
        Some(will) if !hub.authorise().may_publish(&device, &will.topic) => Err(Reason::NOT_AUTHORIZED),
        Some(_) | None => Ok(device),
    }
}

/// Fixed header, topic length, packet id and property length of a PUBLISH.
const PUBLISH_OVERHEAD_BYTES: usize = 5 + 2 + 2 + 1;
