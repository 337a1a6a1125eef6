//! The events of a trace as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmq_core::codec::{Direction, PacketKind, Version};
use ringmq_core::loss::Bound;
use ringmq_core::shard::{
    DeliveryStep, RulesStep, TraceEvent, Traced, TracedMessage, TracedPacket, TracedPublish,
};
use serde_json::{Value, json};

/// An event, with at most so many bytes of a payload.
pub(super) fn view(event: &TraceEvent, payload_max: usize) -> Value {
    let mut view = match &event.what {
        Traced::Connected {
            version,
            clean,
            session_present,
            keep_alive_s,
        } => json!({
            "event": "connected",
            "protocol": match version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            },
            "clean": clean,
            "session_present": session_present,
            "keep_alive_s": keep_alive_s,
        }),
        Traced::Refused(refusal) => json!({
            "event": "refused",
            "reason": refusal.name(),
            "why": refusal.text(),
        }),
        Traced::Ended(reason) => json!({"event": "ended", "reason": reason}),
        Traced::Packet(direction, packet) => packet_view(*direction, packet, payload_max),
        Traced::Published(publish) => publish_view(publish, payload_max),
        Traced::Delivery { topic, qos, step } => {
            let mut view = step_view(step);
            view["topic"] = text(topic).into();
            view["qos"] = (*qos as u8).into();
            view
        }
        Traced::Rules(step) => json!({
            "event": "rules",
            "step": match step {
                RulesStep::Asked => "asked",
                RulesStep::Renewed => "renewed",
                RulesStep::Denied => "denied",
                RulesStep::Unavailable => "unavailable",
            },
        }),
        Traced::Stage(stage, took) => json!({
            "event": "stage",
            "stage": stage.name(),
            "took_us": took.as_nanos() as f64 / 1000.0,
        }),
    };
    view["client_id"] = match &*event.client_id {
        "" => Value::Null,
        client_id => client_id.into(),
    };
    view["peer"] = event.peer.map(|peer| peer.to_string()).into();
    view
}

fn packet_view(direction: Direction, packet: &TracedPacket, payload_max: usize) -> Value {
    let reasons = packet.reasons.iter().map(|reason| reason.byte());
    let mut view = json!({
        "event": "packet",
        "direction": match direction {
            Direction::FromClient => "in",
            Direction::FromServer => "out",
        },
        "packet": name_of(packet.kind),
        "bytes": packet.size,
        "packet_id": packet.packet_id.map(|id| id.get()),
    });
    if !packet.reasons.is_empty() {
        view["reasons"] = reasons.collect();
    }
    if !packet.filters.is_empty() {
        view["filters"] = packet.filters.iter().map(|filter| &**filter).collect();
    }
    if let Some(message) = &packet.message {
        add_message(&mut view, message, payload_max);
    }
    view
}

fn publish_view(publish: &TracedPublish, payload_max: usize) -> Value {
    let mut view = json!({
        "event": "published",
        "count": publish.count,
        "reason": publish.refused.map(|refusal| refusal.name()),
        "denied_by": publish.denied_by,
        "subscribers": publish.subscribers,
        "groups": publish.groups,
        "other_shards": publish.shards,
    });
    add_message(&mut view, &publish.message, payload_max);
    view
}

fn step_view(step: &DeliveryStep) -> Value {
    match step {
        DeliveryStep::Sent(count) => json!({"event": "delivery", "step": "sent", "count": count}),
        DeliveryStep::Queued(ahead) => {
            json!({"event": "delivery", "step": "queued", "ahead": ahead})
        }
        DeliveryStep::SentFromQueue => json!({"event": "delivery", "step": "sent_from_queue"}),
        DeliveryStep::Lost(loss, bound) => json!({
            "event": "delivery",
            "step": "lost",
            "reason": loss.name(),
            "bound": bound.map(|Bound { name, max }| json!({"name": name, "max": max})),
        }),
    }
}

fn add_message(view: &mut Value, message: &TracedMessage, payload_max: usize) {
    view["topic"] = text(&message.topic).into();
    if let Some(alias) = message.topic_alias {
        view["topic_alias"] = alias.into();
    }
    view["qos"] = (message.qos as u8).into();
    view["retain"] = message.retain.into();
    view["dup"] = message.dup.into();
    view["payload_bytes"] = message.payload_size.into();
    if payload_max > 0 {
        let payload = &message.payload[..message.payload.len().min(payload_max)];
        let is_cut = payload.len() < message.payload_size;
        match std::str::from_utf8(payload) {
            Ok(text) => view["payload"] = text.into(),
            // The cut went through a character.
            Err(error) if is_cut && error.error_len().is_none() => {
                view["payload"] = text(&payload[..error.valid_up_to()]).into();
            }
            Err(_) => view["payload_base64"] = STANDARD.encode(payload).into(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name_of(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Connect => "CONNECT",
        PacketKind::Connack => "CONNACK",
        PacketKind::Publish => "PUBLISH",
        PacketKind::Puback => "PUBACK",
        PacketKind::Pubrec => "PUBREC",
        PacketKind::Pubrel => "PUBREL",
        PacketKind::Pubcomp => "PUBCOMP",
        PacketKind::Subscribe => "SUBSCRIBE",
        PacketKind::Suback => "SUBACK",
        PacketKind::Unsubscribe => "UNSUBSCRIBE",
        PacketKind::Unsuback => "UNSUBACK",
        PacketKind::Pingreq => "PINGREQ",
        PacketKind::Pingresp => "PINGRESP",
        PacketKind::Disconnect => "DISCONNECT",
        PacketKind::Auth => "AUTH",
    }
}

#[cfg(test)]
mod tests {
    use ringmq_core::codec::QoS;
    use ringmq_core::trace_set::TraceSet;

    use super::*;

    fn event(payload: &[u8]) -> TraceEvent {
        let message = TracedMessage {
            topic: b"a"[..].into(),
            topic_alias: None,
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            payload_size: 100,
            payload: payload.into(),
        };
        let packet = TracedPacket {
            kind: PacketKind::Publish,
            size: 104,
            packet_id: None,
            reasons: Vec::new(),
            filters: Vec::new(),
            message: Some(message),
        };
        TraceEvent {
            ago: Default::default(),
            traces: TraceSet::of(0),
            client_id: "c".into(),
            peer: None,
            what: Traced::Packet(Direction::FromClient, packet),
        }
    }

    #[test]
    fn as_much_of_a_payload_is_shown_as_the_trace_wants() {
        let shown = view(&event(b"abcdef"), 3);
        assert_eq!(
            (&shown["packet"], &shown["payload"], &shown["payload_bytes"]),
            (&json!("PUBLISH"), &json!("abc"), &json!(100))
        );
        assert_eq!(view(&event(b"abcdef"), 0).get("payload"), None);
        assert_eq!(view(&event(b"\xFF\xFE"), 1)["payload_base64"], "/w==");
        assert_eq!(view(&event("aä".as_bytes()), 2)["payload"], "a");
        assert_eq!(view(&event(b"a\xFFb"), 3)["payload_base64"], "Yf9i");
        let mut whole = event(b"a\xC3");
        if let Traced::Packet(_, packet) = &mut whole.what {
            packet.message.as_mut().unwrap().payload_size = 2;
        }
        assert_eq!(view(&whole, 9)["payload_base64"], "YcM=");
    }
}
