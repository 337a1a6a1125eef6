//! The terms of CONNACK: limits of the broker are obeyed, or named if the scenario cannot run
//! within them.

use ringmq_core::codec::{Connack, QoS, ReasonCode, Version};

use super::Fleet;
use super::life::Loss;
use crate::scenario::Group;
use ringmq_problem::printable;

impl Fleet {
    /// Applies the terms of a successful CONNACK.
    pub(super) fn agree(&mut self, index: u32, connack: &Connack<'_>) -> Result<(), Loss> {
        let group = self.group_of(index);
        let spec = &self.shared.plan.specs[group];
        check_answer(spec, connack).map_err(Loss::Malformed)?;
        check_abilities(spec, connack).map_err(Loss::Refused)?;
        if let Some(maximum) = connack.properties.maximum_packet_size {
            self.check_packet_size(index, maximum)
                .map_err(Loss::Refused)?;
        }
        let properties = &connack.properties;
        let topics = self.shared.plan.groups[group].topics;
        let taken = properties.topic_alias_maximum.unwrap_or(0);
        let aliases = u32::from(spec.topic_aliases.min(taken)).min(topics);
        let client = &mut self.clients[index as usize];
        // [MQTT-3.1.2-21]
        client.keep_alive_s = properties.server_keep_alive.unwrap_or(spec.keep_alive_s);
        if let Some(publisher) = &mut client.publisher {
            // [MQTT-3.3.2-7] aliases are those of a connection.
            publisher.introduced.clear();
            publisher.introduced.resize(aliases as usize, false);
            publisher.limit_inflight(spec.inflight_max, properties.receive_maximum);
        }
        Ok(())
    }

    /// [MQTT-3.2.2-15] no packet may be larger. All that can be are PUBLISH and SUBSCRIBE.
    fn check_packet_size(&self, index: u32, maximum: u32) -> Result<(), String> {
        let client = &self.clients[index as usize];
        let plan = &self.shared.plan;
        let spec = &plan.specs[usize::from(client.group)];
        let planned = &plan.groups[usize::from(client.group)];
        let streams = (0..planned.topics).map(|topic| planned.stream(client.index, topic));
        let topic_size = streams.map(|stream| plan.streams.topic(stream).len() as u64);
        if let Some(topic_size) = topic_size.max() {
            let size = publish_size(spec, topic_size);
            if size > u64::from(maximum) {
                return Err(format!(
                    "the broker takes packets of {maximum} bytes at most, and PUBLISH has up to \
                     {size} here; lower `payload`"
                ));
            }
        }
        let mut text = String::new();
        let filters = spec.subscribe.iter().map(|pattern| {
            pattern.fill(self.filling(client), &mut text);
            text.len() as u64 + 3
        });
        let size = framed(3 + filters.sum::<u64>());
        if size > u64::from(maximum) && !spec.subscribe.is_empty() {
            Err(format!(
                "the broker takes packets of {maximum} bytes at most, and SUBSCRIBE has {size} \
                 here; use fewer filters in `subscribe`"
            ))
        } else {
            Ok(())
        }
    }
}

/// What no broker may answer to this CONNECT.
fn check_answer(spec: &Group, connack: &Connack<'_>) -> Result<(), String> {
    let properties = &connack.properties;
    // [MQTT-3.2.2-4] there is no session that the broker could resume.
    if spec.clean && connack.session_present {
        return Err("CONNACK with a session after a clean start".to_owned());
    }
    match (
        spec.client_id.as_str().is_empty(),
        properties.assigned_client_id,
    ) {
        // [MQTT-3.2.2-16]
        (true, None) if spec.protocol == Version::V5 => {
            Err("CONNACK assigns no client identifier, and CONNECT had none".to_owned())
        }
        (false, Some(id)) => Err(format!(
            "CONNACK assigns the client identifier `{}`, and CONNECT had one",
            printable(id)
        )),
        (true, _) | (false, None) => match properties.authentication_method {
            Some(_) => {
                Err("CONNACK with an authentication method, and CONNECT had none".to_owned())
            }
            None => Ok(()),
        },
    }
}

/// A feature that the scenario needs and the broker does not offer.
fn check_abilities(spec: &Group, connack: &Connack<'_>) -> Result<(), String> {
    let properties = &connack.properties;
    // [MQTT-3.2.2-11]
    if let Some(maximum) = properties.maximum_qos
        && spec.publish.is_some()
        && maximum < spec.qos
    {
        return Err(format!(
            "the broker takes QoS {} at most; lower `qos`",
            maximum as u8
        ));
    }
    // [MQTT-3.2.2-14]
    if spec.publish.is_some() && spec.retain && properties.retain_available == Some(false) {
        return Err("the broker keeps no retained messages; leave out `retain`".to_owned());
    }
    let has = |of: fn(&str) -> bool| spec.subscribe.iter().any(|filter| of(filter.as_str()));
    if has(|filter| filter.starts_with("$share/")) && properties.shared_available == Some(false) {
        return Err("the broker has no shared subscriptions; subscribe without $share/".to_owned());
    }
    if has(|filter| filter.contains(['+', '#'])) && properties.wildcard_available == Some(false) {
        return Err(
            "the broker has no wildcard subscriptions; subscribe without + and #".to_owned(),
        );
    }
    // [MQTT-3.2.2.3.2]: the broker's value replaces the one in CONNECT.
    if let Some(expiry_s) = properties.session_expiry_s
        && !spec.clean
        && (expiry_s == 0 || u64::from(expiry_s) < spec.cut_for.as_secs())
    {
        return Err(format!(
            "the broker keeps sessions for {expiry_s} s only; use clean = true, or a shorter \
             `cut_for`"
        ));
    }
    Ok(())
}

/// Bytes of the largest PUBLISH of a group with topics of this size.
fn publish_size(spec: &Group, topic_size: u64) -> u64 {
    let id = if spec.qos > QoS::AtMostOnce { 2 } else { 0 };
    let properties = match (spec.protocol, spec.topic_aliases) {
        (Version::V31 | Version::V311, _) => 0,
        (Version::V5, 0) => 1,
        (Version::V5, _) => 4,
    };
    framed(2 + topic_size + id + properties + u64::from(spec.payload.max()))
}

/// A packet with so many bytes behind its fixed header.
fn framed(remaining: u64) -> u64 {
    let length = match remaining {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    1 + length + remaining
}

/// `NotAuthorized (0x87)`.
pub(super) fn reason_text(reason: ReasonCode) -> String {
    format!("{reason:?} (0x{:02X})", reason.byte())
}

/// Why CONNECT was refused, and what to do about it.
pub(super) fn refusal(connack: &Connack<'_>) -> String {
    let mut why = reason_text(connack.reason);
    if let Some(text) = connack.properties.reason_string {
        why = format!("{why} ({})", printable(text));
    }
    if let Some(elsewhere) = connack.properties.server_reference {
        return format!("{why}; use --target {}", printable(elsewhere));
    }
    let fix = match connack.reason {
        ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
            "check --user and --password-file, and who may connect to the broker"
        }
        ReasonCode::ClientIdentifierNotValid => "change `client_id`",
        ReasonCode::UnsupportedProtocolVersion => "try another --protocol",
        ReasonCode::ServerBusy
        | ReasonCode::ServerUnavailable
        | ReasonCode::QuotaExceeded
        | ReasonCode::ConnectionRateExceeded => {
            "use fewer clients or a lower `connect_rate`, or raise the broker's limits"
        }
        _ => "the broker's log may say more",
    };
    format!("{why}; {fix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_packet_is_exact() {
        use ringmq_core::codec::Publish;
        for (qos, protocol, payload) in [
            (QoS::AtMostOnce, Version::V311, 100),
            (QoS::AtLeastOnce, Version::V5, 112),
            (QoS::AtLeastOnce, Version::V5, 16_400),
        ] {
            let mut spec = Group::default();
            (spec.qos, spec.protocol) = (qos, protocol);
            spec.payload = crate::scenario::payload::Sizes::Fixed(payload);
            let mut bytes = Vec::new();
            let payload = vec![0; payload as usize];
            Publish {
                dup: false,
                qos,
                retain: false,
                topic: b"a/topic",
                packet_id: (qos > QoS::AtMostOnce)
                    .then(|| ringmq_core::ids::PacketId::new(1).unwrap()),
                properties: Default::default(),
                payload: &payload,
            }
            .encode(protocol, &mut bytes);
            assert_eq!(
                publish_size(&spec, 7),
                bytes.len() as u64,
                "{qos:?} {protocol:?}"
            );
        }
    }
}
