//! MQTT services of clouds as targets: what they want of a client, and what they refuse.
//!
//! `preset = "aws-iot-core"` in a scenario, or `--preset`, [fills](fill) what the service wants and
//! the scenario leaves open, and [checks](check) the scenario before anything is sent: what the
//! service would refuse or throttle is a problem, what its quotas make slow or dear is a warning.
//!
//! Not here: TLS (`tls`), when clients connect and with what (`fleet`).

pub mod check;
pub mod fill;
pub mod limits;
mod quota;
pub mod sas;

use ringmq_problem::{Complaint, nearest};

/// A service of a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Of Amazon Web Services.
    AwsIotCore,
    /// Of Azure: devices to cloud and back, with fixed topics.
    AzureIotHub,
    /// Of Azure: an MQTT broker, as a namespace of Event Grid.
    AzureEventGrid,
}

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Over WebSocket.
    pub is_websocket: bool,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [
        Service::AwsIotCore,
        Service::AzureIotHub,
        Service::AzureEventGrid,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Service::AwsIotCore => "aws-iot-core",
            Service::AzureIotHub => "azure-iot-hub",
            Service::AzureEventGrid => "azure-event-grid",
        }
    }

    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Service, Complaint> {
        let found = Service::ALL
            .into_iter()
            .find(|service| service.word() == text);
        found.ok_or_else(|| {
            let words = Service::ALL.map(Service::word);
            let fix = match nearest(text, words.into_iter()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("write {}", words.join(", ")),
            };
            Complaint::new(format!("is `{text}`, which is not a preset"), fix)
        })
    }
}
