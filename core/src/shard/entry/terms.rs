//! What a CONNECT asks for, within what the limits allow.

use crate::codec::{Connect, PACKET_SIZE_MAX, Version};

pub(in crate::shard) fn wants_problem_information(connect: &Connect<'_>) -> bool {
    let wanted = connect.properties.request_problem_information;
    wanted.unwrap_or(true)
}

/// Largest packet that the client takes: a message that has got longer on its way (an identifier more, a property section
/// for 5.0) may be larger than any packet.
pub(in crate::shard) fn packet_size_max(connect: &Connect<'_>) -> u32 {
    let stated = connect.properties.maximum_packet_size;
    stated.unwrap_or(u32::MAX).min(PACKET_SIZE_MAX)
}

/// Session Expiry Interval that the client asks for, in seconds. MQTT 3.1.1 sessions that are not
/// clean ask for ever.
pub(in crate::shard) fn wanted_expiry_s(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V31 | Version::V311 => u32::from(!connect.clean_start) * u32::MAX,
        Version::V5 => connect.properties.session_expiry_s.unwrap_or(0),
    }
}

/// The keep alive that holds, in seconds; 0 is "none".
pub(in crate::shard) fn cap_keep_alive(wanted_s: u16, max_s: u16) -> u16 {
    if max_s == 0 {
        return wanted_s;
    }
    if wanted_s == 0 {
        max_s
    } else {
        wanted_s.min(max_s)
    }
}
