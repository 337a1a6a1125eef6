//! Messages on their way to the broker, and the promises about their acknowledgements.

use ringmq_core::codec::QoS;

use super::Client;
use super::session::Outgoing;
use crate::broken::Broken;
use crate::message::MessageIndex;
use crate::oracle::Oracle;
use crate::wire::{self, Ack};

/// Whether a PUBLISH uses a topic alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasWish {
    None,
    Use,
    /// An alias that is in use gets another topic.
    Replace,
}

impl Client {
    /// Writes a message. At QoS 1 and 2 it stays in `outgoing` until it is settled.
    pub fn publish(&mut self, message: MessageIndex, alias: AliasWish, oracle: &Oracle) {
        let mut packet_id = 0;
        if oracle.message(message).qos == QoS::AtMostOnce {
            self.unconfirmed.push_back(message);
        } else {
            packet_id = self.free_packet_id();
            self.session.outgoing.push_back(Outgoing {
                packet_id,
                message,
                released: false,
            });
        }
        self.write_publish(message, packet_id, false, alias, oracle);
    }

    /// Whether the broker's Receive Maximum allows one more. Before CONNACK tells it, one is safe.
    pub fn may_publish(&self) -> bool {
        let known = if self.is_open() { OUTGOING_MAX } else { 1 };
        self.session.outgoing.len() < usize::from(self.receive_maximum_out.min(known))
    }

    /// Whether a message on this topic is still on its way.
    pub fn is_publishing_to(&self, topic: &str, oracle: &Oracle) -> bool {
        let mut outgoing = self.session.outgoing.iter();
        outgoing.any(|outgoing| oracle.message(outgoing.message).topic == topic)
    }

    fn write_publish(
        &mut self,
        message: MessageIndex,
        packet_id: u16,
        dup: bool,
        wish: AliasWish,
        oracle: &Oracle,
    ) {
        let message = oracle.message(message);
        let mut topic = message.topic.as_str();
        let mut alias = None;
        let known = self.aliases_out.get(topic).copied();
        let has_free = self.aliases_out.len() < usize::from(self.alias_out_max);
        match (wish, known) {
            (AliasWish::None, _) => {}
            (AliasWish::Use, Some(known)) => {
                alias = Some(known);
                topic = "";
            }
            (AliasWish::Use, None) if has_free => {
                let taken = |alias: &u16| self.aliases_out.values().any(|other| other == alias);
                alias = (1..=self.alias_out_max).find(|alias| !taken(alias));
            }
            // [MQTT-3.3.2-12] An alias that had another topic, or this one.
            (AliasWish::Use, None) | (AliasWish::Replace, _) => {
                alias = self.aliases_out.pop_first().map(|(_, alias)| alias);
            }
        }
        if let Some(alias) = alias.filter(|_| !topic.is_empty()) {
            self.aliases_out.insert(topic.to_owned(), alias);
        }
        let bytes = wire::publish(
            self.traits.version,
            &wire::Publish {
                topic,
                payload: &message.payload,
                qos: message.qos,
                dup,
                retain: message.version.is_some(),
                packet_id,
                alias,
                expiry_s: message.expiry_s,
                label: message.label.as_deref(),
            },
        );
        self.write(&bytes, oracle.now);
    }

    /// [MQTT-4.4.0-1] What is not settled is sent again, in order.
    pub(super) fn resend(&mut self, oracle: &mut Oracle) {
        for outgoing in self.session.outgoing.clone() {
            if outgoing.released {
                self.write(&wire::ack(Ack::Pubrel, outgoing.packet_id), oracle.now);
            } else {
                oracle.resent(outgoing.message);
                let packet_id = outgoing.packet_id;
                self.write_publish(outgoing.message, packet_id, true, AliasWish::None, oracle);
            }
        }
    }

    /// Any acknowledgement but PUBREL, which concerns what the broker sends.
    pub(super) fn on_ack(
        &mut self,
        ack: Ack,
        packet_id: u16,
        reason: u8,
        put_off: bool,
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        let outgoing = &mut self.session.outgoing;
        let position = outgoing.iter().position(|o| o.packet_id == packet_id);
        let Some(position) = position else {
            return Err(self.broken("acknowledgements match", format!("{ack:?} {packet_id}")));
        };
        let message = outgoing[position].message;
        let matches = match ack {
            Ack::Puback => oracle.message(message).qos == QoS::AtLeastOnce,
            Ack::Pubrec => {
                oracle.message(message).qos == QoS::ExactlyOnce && !outgoing[position].released
            }
            Ack::Pubcomp => outgoing[position].released,
            Ack::Pubrel => unreachable!("that is `on_pubrel`"),
        };
        // 0x92: the broker had forgotten the exchange, because the last PUBCOMP was lost.
        let forgotten = ack == Ack::Pubcomp && self.resumed && reason == 0x92;
        if !matches || reason >= 0x80 && !forgotten {
            let detail = format!("{ack:?} {packet_id} with reason {reason:#x}");
            return Err(self.broken("acknowledgements match", detail));
        }
        if ack == Ack::Pubrec {
            outgoing[position].released = true;
            self.acknowledge(Ack::Pubrel, packet_id, put_off, oracle.now);
        } else {
            outgoing.remove(position);
            oracle.settled(message);
        }
        Ok(())
    }
}

/// Open exchanges of one client: enough for every order of things, few enough to settle soon.
const OUTGOING_MAX: u16 = 20;
