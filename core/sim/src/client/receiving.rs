//! Messages from the broker: the promises about packet identifiers, Receive Maximum and aliases.

use ringmq_core::codec::QoS;
use ringmq_core::time::Instant;

use super::Client;
use crate::broken::Broken;
use crate::oracle::Oracle;
use crate::wire::{self, Ack, Delivery};

impl Client {
    pub(super) fn on_publish(
        &mut self,
        mut delivery: Delivery,
        put_off: bool,
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        self.resolve_alias(&mut delivery)?;
        let packet_id = delivery.packet_id;
        if delivery.qos == QoS::AtMostOnce {
            oracle.delivered(self.index, &delivery)?;
            return Ok(());
        }
        if !self.unsettled.insert(packet_id) {
            return Err(self.broken("a packet identifier is free when it is used", delivery));
        }
        if self.unsettled.len() > usize::from(self.traits.inflight_max) {
            return Err(self.broken("the Receive Maximum holds", delivery));
        }
        if delivery.qos == QoS::AtLeastOnce {
            oracle.delivered(self.index, &delivery)?;
            self.acknowledge(Ack::Puback, packet_id, put_off, oracle.now);
            return Ok(());
        }
        match self.session.received.get(&packet_id) {
            None => {
                let message = oracle.delivered(self.index, &delivery)?;
                self.session.received.insert(packet_id, message);
            }
            Some(&known) => {
                let message = oracle.identify(self.index, &delivery)?;
                let deletion = delivery.payload.is_empty();
                if !delivery.dup || message != known && !deletion {
                    return Err(self.broken("a packet identifier keeps its message", delivery));
                }
            }
        }
        self.acknowledge(Ack::Pubrec, packet_id, put_off, oracle.now);
        Ok(())
    }

    pub(super) fn on_pubrel(
        &mut self,
        packet_id: u16,
        put_off: bool,
        oracle: &Oracle,
    ) -> Result<(), Broken> {
        // After a resume PUBREL may come for what was settled on the old connection; it does not
        // count against the Receive Maximum of the new one [MQTT-4.9.0-2].
        if !self.unsettled.contains(&packet_id) && !self.resumed {
            return Err(self.broken("PUBREL answers PUBREC", packet_id));
        }
        self.acknowledge(Ack::Pubcomp, packet_id, put_off, oracle.now);
        Ok(())
    }

    fn resolve_alias(&mut self, delivery: &mut Delivery) -> Result<(), Broken> {
        let Some(alias) = delivery.alias else {
            return Ok(());
        };
        if alias == 0 || alias > self.traits.topic_alias_max {
            return Err(self.broken("topic aliases keep within the maximum", alias));
        }
        if delivery.topic.is_empty() {
            let Some(topic) = self.aliases_in.get(&alias) else {
                return Err(self.broken("a topic alias is introduced first", alias));
            };
            delivery.topic.clone_from(topic);
        } else {
            self.aliases_in.insert(alias, delivery.topic.clone());
        }
        Ok(())
    }

    /// Sends the oldest acknowledgement that was put off.
    pub fn acknowledge_one(&mut self, now: Instant) {
        if let Some((ack, packet_id)) = self.later.pop_front() {
            self.write_ack(ack, packet_id, now);
        }
    }

    pub(super) fn acknowledge(&mut self, ack: Ack, packet_id: u16, put_off: bool, now: Instant) {
        // Acknowledgements keep their order [MQTT-4.6.0-2]: none overtakes one that waits.
        if put_off || !self.later.is_empty() {
            self.later.push_back((ack, packet_id));
        } else {
            self.write_ack(ack, packet_id, now);
        }
    }

    fn write_ack(&mut self, ack: Ack, packet_id: u16, now: Instant) {
        match ack {
            Ack::Puback => {
                self.unsettled.remove(&packet_id);
            }
            Ack::Pubcomp => {
                self.unsettled.remove(&packet_id);
                self.session.received.remove(&packet_id);
            }
            Ack::Pubrec | Ack::Pubrel => {}
        }
        self.write(&wire::ack(ack, packet_id), now);
    }
}
