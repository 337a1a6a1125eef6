//! MQTT 3.1, 3.1.1 and 5.0 on the wire: frames, packets, properties, reason codes.

mod basics;

pub use basics::{QoS, Version};
