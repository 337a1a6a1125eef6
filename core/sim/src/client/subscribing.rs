//! SUBSCRIBE and UNSUBSCRIBE, and the promises about their answers.

use super::{Client, Request};
use crate::broken::Broken;
use crate::oracle::Oracle;
use crate::subscription::Subscription;
use crate::wire::{self, SubscribeOptions};

impl Client {
    pub fn subscribe(
        &mut self,
        request: u64,
        subscription_id: u32,
        filters: Vec<(String, SubscribeOptions)>,
        oracle: &mut Oracle,
    ) {
        let packet_id = self.free_packet_id();
        let version = self.traits.version;
        let bytes = wire::subscribe(version, packet_id, subscription_id, &filters);
        self.write(&bytes, oracle.now);
        for (filter, options) in &filters {
            oracle.subscribe_begun(
                self.index,
                Subscription::asked(filter.clone(), *options, subscription_id, request),
            );
        }
        self.requests
            .insert(packet_id, Request::Subscribe { request, filters });
    }

    pub fn unsubscribe(&mut self, filters: Vec<String>, oracle: &mut Oracle) {
        let packet_id = self.free_packet_id();
        let bytes = wire::unsubscribe(self.traits.version, packet_id, &filters);
        self.write(&bytes, oracle.now);
        for filter in &filters {
            oracle.unsubscribe_begun(self.index, filter);
        }
        let begun = oracle.tick;
        self.requests
            .insert(packet_id, Request::Unsubscribe { begun, filters });
    }

    pub(super) fn on_suback(
        &mut self,
        packet_id: u16,
        codes: &[u8],
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        let Some(Request::Subscribe { request, filters }) = self.requests.remove(&packet_id) else {
            return Err(self.broken("SUBACK answers SUBSCRIBE", packet_id));
        };
        let granted: Vec<u8> = filters
            .iter()
            .map(|(_, options)| options.qos as u8)
            .collect();
        if codes != granted {
            return Err(self.broken("the QoS asked for is granted", format!("{codes:?}")));
        }
        for (filter, _) in &filters {
            oracle.subscribed(self.index, request, filter);
        }
        Ok(())
    }

    pub(super) fn on_unsuback(
        &mut self,
        packet_id: u16,
        codes: &[u8],
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        let Some(Request::Unsubscribe { begun, filters }) = self.requests.remove(&packet_id) else {
            return Err(self.broken("UNSUBACK answers UNSUBSCRIBE", packet_id));
        };
        if self.v5() && codes.len() != filters.len() {
            return Err(self.broken("UNSUBACK has a code for each filter", codes.len()));
        }
        for (position, filter) in filters.iter().enumerate() {
            let existed = oracle.unsubscribed(self.index, filter, begun);
            let expected = existed.map(|existed| if existed { 0 } else { 0x11 });
            let code = codes.get(position).copied();
            if self.v5() && expected.is_some() && expected != code {
                let detail = format!("{code:?} for {filter}, expected {expected:?}");
                return Err(self.broken("UNSUBACK tells whether there was one", detail));
            }
        }
        Ok(())
    }
}
