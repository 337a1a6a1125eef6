//! What a CONNECT is granted, and the CONNACK that says so.

use super::authenticate::Proven;
use super::terms::cap_keep_alive;
use super::terms::wanted_expiry_s;
use crate::codec::{Connack, ConnackProperties, Connect, QoS, ReasonCode, is_encodable};
use crate::ids::SessionId;
use crate::limits::Limits;
use crate::shard::Shard;
use crate::shard::mail::outbox::Outbox;

/// What a CONNECT is granted; CONNACK tells what differs from the wish.
pub(super) struct Grant {
    pub(super) session_present: bool,
    pub(super) assigned_client_id: Option<Box<str>>,
    /// Keep alive that holds, in seconds; 0 is "none".
    pub(super) keep_alive_s: u16,
    /// Session Expiry Interval that holds, in seconds.
    pub(super) session_expiry_s: u32,
    /// Where others may answer it, if it asked.
    pub(super) response_information: Option<Box<str>>,
    /// Who the client is.
    pub(super) proven: Proven,
}

impl Grant {
    pub(super) fn of(connect: &Connect<'_>, limits: &Limits, proven: Proven) -> Grant {
        Grant {
            session_present: false,
            assigned_client_id: None,
            keep_alive_s: cap_keep_alive(connect.keep_alive, limits.keep_alive_max_s),
            session_expiry_s: wanted_expiry_s(connect).min(limits.session_expiry_max_s),
            response_information: None,
            proven,
        }
    }
}

impl Shard {
    pub(super) fn send_connack(
        &mut self,
        id: SessionId,
        connect: &Connect<'_>,
        grant: &Grant,
        out: &mut Outbox,
    ) {
        let connack = self.connack(connect, grant);
        self.dispatch
            .answer(id, out, |buffer| connack.encode(connect.version, buffer));
        if let Some(held) = &mut self.link(id).held {
            held.cork(); // [MQTT-3.2.0-1]
        }
    }

    pub(super) fn connack<'a>(&self, connect: &Connect<'_>, grant: &'a Grant) -> Connack<'a> {
        let limits = &self.config.limits;
        let expiry_s = grant.session_expiry_s;
        let keep_alive_s = grant.keep_alive_s;
        let by = grant.proven.by.as_ref();
        Connack {
            session_present: grant.session_present,
            reason: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_s: Some(expiry_s).filter(|&s| s != wanted_expiry_s(connect)),
                receive_maximum: Some(limits.receive_maximum).filter(|&max| max < u16::MAX),
                // [MQTT-3.2.2-9] Absent is 2.
                maximum_qos: Some(limits.qos_max).filter(|&qos| qos < QoS::ExactlyOnce),
                retain_available: Some(false).filter(|_| !limits.retain_available),
                maximum_packet_size: Some(limits.packet_size_max),
                assigned_client_id: grant.assigned_client_id.as_deref(),
                topic_alias_maximum: Some(limits.topic_alias_max).filter(|&max| max > 0),
                // Absent is "yes".
                wildcard_available: Some(false).filter(|_| !limits.wildcards_available),
                shared_available: Some(false).filter(|_| !limits.share_available),
                // [MQTT-3.2.2-21]
                server_keep_alive: Some(keep_alive_s).filter(|&s| s != connect.keep_alive),
                response_information: grant.response_information.as_deref(),
                // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
                authentication_method: by.map(|by| &*by.method),
                authentication_data: by.map(|by| &*by.data).filter(|data| !data.is_empty()),
                ..ConnackProperties::default()
            },
        }
    }

    /// Response Information, for a client that asks for it [MQTT-3.1.2-28].
    pub(super) fn response_information(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
    ) -> Option<Box<str>> {
        let wanted = connect.properties.request_response_information == Some(true);
        let pattern = Some(&*self.config.limits.response_information)
            .filter(|pattern| wanted && !pattern.is_empty())?;
        if !pattern.contains(CLIENT_ID_MARK) {
            return Some(pattern.into());
        }
        // With these in it, it would stand for topics that are not its own.
        let is_plain = !client_id.contains(['/', '+', '#']);
        let text = is_plain.then(|| pattern.replace(CLIENT_ID_MARK, client_id))?;
        // A long identifier may make it too long for a property.
        is_encodable(&text).then(|| text.into())
    }
}

/// Stands for the client identifier in settings.
const CLIENT_ID_MARK: &str = "%c";
