//! AUTH packets: what each has to be, and how the broker writes its own (MQTT 5.0, 3.15).

use crate::auth::{Exchange, Identity, METHOD};
use crate::codec::{Auth, AuthProperties, ReasonCode};
use crate::refusal::Violation;
use crate::time::Instant;

/// Whether an AUTH is the one that has to come: of that kind, with the method of CONNECT
/// [MQTT-4.12.0-3] [MQTT-4.12.0-5].
pub(super) fn goes_on(auth: &Auth<'_>, reason: ReasonCode) -> bool {
    auth.reason == reason && auth.properties.authentication_method == Some(METHOD)
}

/// What a client shows by an authentication method, if it named one.
pub(super) fn exchange_of(method: Option<&str>, data: Option<&[u8]>) -> Option<Exchange> {
    method.map(|method| Exchange {
        method: method.into(),
        data: data.unwrap_or_default().into(),
    })
}

/// What has been proven holds no longer.
pub(super) fn is_over(identity: &Identity, now: Instant) -> bool {
    identity.expires_at.is_some_and(|at| at <= now)
}

/// Without data there is no property for it.
pub(super) fn auth_packet<'a>(method: &'a str, reason: ReasonCode, data: &'a [u8]) -> Auth<'a> {
    Auth {
        reason,
        properties: AuthProperties {
            authentication_method: Some(method), // [MQTT-4.12.0-5]
            authentication_data: Some(data).filter(|data| !data.is_empty()),
            ..AuthProperties::default()
        },
    }
}

pub(super) const OTHER_EXCHANGE: Violation =
    Violation::Protocol("AUTH out of turn, or with another authentication method");
