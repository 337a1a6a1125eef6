//! What a service wants of its clients, where a scenario leaves it open.

use ringmq_core::codec::Version;

use super::{Endpoint, Service};
use crate::scenario::pattern::Pattern;
use crate::scenario::{Group, Scenario};

/// Fills what the scenario leaves open; nothing without a preset.
pub fn fill(scenario: &mut Scenario, endpoint: &Endpoint) {
    let Some(service) = scenario.preset else {
        return;
    };
    for group in &mut scenario.groups {
        group.fill(service, endpoint);
    }
}

impl Group {
    fn fill(&mut self, service: Service, endpoint: &Endpoint) {
        let limits = service.limits();
        if !self.is_set("tls") {
            self.tls = true;
        }
        if !self.is_set("inflight_max")
            && let Some(most) = limits.inflight_max
        {
            self.inflight_max = self.inflight_max.min(most);
        }
        if !self.is_set("protocol") {
            // Where a service knows it, it says with MQTT 5.0 why it refuses something.
            let knows = limits.versions.contains(&Version::V5);
            self.protocol = if knows { Version::V5 } else { Version::V311 };
        }
        match service {
            Service::AwsIotCore => self.fill_alpn(endpoint),
            Service::AzureIotHub => self.fill_hub(endpoint),
            Service::AzureEventGrid => {
                if self.tls_cert.is_some() && self.user.is_none() {
                    // The authentication name: that in the certificate.
                    self.user = Some(self.client_id.clone());
                }
            }
        }
    }

    /// Port 443 is for HTTP as well.
    fn fill_alpn(&mut self, endpoint: &Endpoint) {
        if endpoint.port == HTTPS && !endpoint.is_websocket && !self.is_set("tls_alpn") {
            let has_authorizer = self.user.is_some() && self.tls_cert.is_none();
            let alpn = if has_authorizer {
                ALPN_AUTHORIZER
            } else {
                ALPN_CERTIFICATE
            };
            self.tls_alpn = Some(alpn.to_owned());
        }
    }

    fn fill_hub(&mut self, endpoint: &Endpoint) {
        if !self.is_set("keep_alive") {
            // What most of its own libraries have.
            self.keep_alive_s = 240;
        }
        if self.user.is_none() {
            let host = self.tls_name.as_deref().unwrap_or(&endpoint.host);
            let device = self.client_id.as_str();
            let user = format!("{host}/{device}/?api-version={HUB_VERSION}");
            // Both parts are patterns.
            self.user = Pattern::parse(&user).ok();
        }
    }
}

/// ALPN for clients with certificates.
pub const ALPN_CERTIFICATE: &str = "x-amzn-mqtt-ca";
/// ALPN for clients that an authorizer of the account decides on.
pub const ALPN_AUTHORIZER: &str = "mqtt";
const HTTPS: u16 = 443;
const HUB_VERSION: &str = "2021-04-12";
