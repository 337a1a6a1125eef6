//! Random valid packets: what is encoded decodes to the same, and cut or changed it never panics.

use super::*;
use crate::ids::PacketId;
use Direction::{FromClient, FromServer};
use Version::{V5, V31, V311};

/// A seeded source of packets.
pub(super) struct Random {
    chance: fastrand::Rng,
    pool: &'static Pool,
}

/// What packets borrow from.
struct Pool {
    strings: Vec<String>,
    topics: Vec<String>,
    payloads: Vec<Vec<u8>>,
    user_sections: Vec<Vec<u8>>,
    subscription_ids: Vec<Vec<u32>>,
    filters: Vec<Vec<&'static str>>,
    subscriptions: Vec<Vec<Subscription<'static>>>,
}

fn pool() -> &'static Pool {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    static FILTERS: [&str; 7] = ["a", "a/+", "#", "$share/g/a/#", "ä/b", "", "a//b"];
    POOL.get_or_init(|| {
        let long = "x".repeat(300);
        let user_section = |pairs: &[(&str, &str)]| {
            let mut section = Vec::new();
            for &pair in pairs {
                UserProperties::push(&mut section, pair);
            }
            section
        };
        let mut subscriptions = vec![Vec::new(); 12];
        for (index, list) in subscriptions.iter_mut().enumerate() {
            for line in 0..=index {
                let no_local = (index + line) % 3 == 0 && line % 7 != 3;
                list.push(Subscription {
                    filter: FILTERS[line % 7],
                    options: SubscribeOptions {
                        qos: QoS::from_bits((line % 3) as u8).unwrap(),
                        no_local,
                        retain_as_published: index % 2 == 0,
                        retain_handling: [
                            RetainHandling::Send,
                            RetainHandling::SendIfNew,
                            RetainHandling::DoNotSend,
                        ][index % 3],
                    },
                });
            }
        }
        Pool {
            strings: ["", "a", "client-1", "ünïcödé", "\u{FEFF}", "😀", &long]
                .map(str::to_owned)
                .into(),
            topics: ["t", "a/b/c", "$SYS/x", "/", "ä", &long]
                .map(str::to_owned)
                .into(),
            payloads: vec![
                vec![],
                vec![0],
                vec![0xFF; 5],
                vec![7; 200],
                vec![1; 20_000],
            ],
            user_sections: vec![
                Vec::new(),
                Vec::new(),
                user_section(&[("k", "v")]),
                user_section(&[("b", "1"), ("a", "2"), ("b", "1"), ("", "")]),
                user_section(&vec![("key", "value"); 40]),
            ],
            subscription_ids: vec![vec![], vec![1], vec![127, 128, 16_384, 268_435_455, 1]],
            filters: (1..=7).map(|count| FILTERS[..count].to_vec()).collect(),
            subscriptions,
        }
    })
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random {
            chance: fastrand::Rng::with_seed(seed),
            pool: pool(),
        }
    }

    fn next(&mut self) -> u64 {
        self.chance.u64(..)
    }

    /// `bound > 0`
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.chance.usize(..bound)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn of<T: std::ops::Deref>(&mut self, from: &'static [T]) -> &'static T::Target {
        &from[self.below(from.len())]
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Random) -> T) -> Option<T> {
        if self.flip() { Some(value(self)) } else { None }
    }

    fn u16(&mut self) -> u16 {
        let any = self.next() as u16;
        self.pick(&[0, 1, 32_767, 32_768, 65_535, any])
    }

    fn nonzero_u16(&mut self) -> u16 {
        self.u16().max(1)
    }

    fn u32(&mut self) -> u32 {
        let any = self.next() as u32;
        self.pick(&[0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, any])
    }

    fn packet_id(&mut self) -> PacketId {
        PacketId::new(self.nonzero_u16()).unwrap()
    }

    fn string(&mut self) -> &'static str {
        self.of(&self.pool.strings)
    }

    fn topic(&mut self) -> &'static str {
        self.of(&self.pool.topics)
    }

    fn payload(&mut self) -> &'static [u8] {
        self.of(&self.pool.payloads)
    }

    /// Binary data of at most 65,535 bytes.
    fn binary(&mut self) -> &'static [u8] {
        self.payload()
    }

    fn qos(&mut self) -> QoS {
        self.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn user(&mut self) -> UserProperties<'static> {
        UserProperties::parse(self.of(&self.pool.user_sections)).unwrap()
    }

    fn reason(&mut self, kind: PacketKind, direction: Direction) -> ReasonCode {
        loop {
            let reason = self.pick(&ReasonCode::ALL);
            if reason.allowed_in(kind, direction) {
                return reason;
            }
        }
    }

    fn reason_properties(&mut self) -> ReasonProperties<'static> {
        ReasonProperties {
            reason_string: self.maybe(Random::string),
            user_properties: self.user(),
        }
    }

    /// A packet that this side may send in this version.
    pub(super) fn packet(&mut self, version: Version, direction: Direction) -> Packet<'static> {
        loop {
            let kind = self.pick(&PacketKind::ALL);
            let exists = match (kind, version) {
                (PacketKind::Auth, V31 | V311) => false,
                (PacketKind::Disconnect, V31 | V311) => direction == FromClient,
                _ => true,
            };
            if exists && kind.sent_by(direction) {
                return self.packet_of(kind, version, direction);
            }
        }
    }

    fn packet_of(
        &mut self,
        kind: PacketKind,
        version: Version,
        direction: Direction,
    ) -> Packet<'static> {
        let is_v5 = version == V5;
        match kind {
            PacketKind::Connect => Packet::Connect(self.connect(version)),
            PacketKind::Connack => Packet::Connack(self.connack(version)),
            PacketKind::Publish => Packet::Publish(self.publish(version, direction)),
            PacketKind::Puback => Packet::Puback(self.ack(kind, version, direction)),
            PacketKind::Pubrec => Packet::Pubrec(self.ack(kind, version, direction)),
            PacketKind::Pubrel => Packet::Pubrel(self.ack(kind, version, direction)),
            PacketKind::Pubcomp => Packet::Pubcomp(self.ack(kind, version, direction)),
            PacketKind::Subscribe => Packet::Subscribe(self.subscribe(version)),
            PacketKind::Suback => Packet::Suback(Suback {
                packet_id: self.packet_id(),
                reasons: self.reasons(kind, version),
                properties: self.for_v5(is_v5, Random::reason_properties),
            }),
            PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe {
                packet_id: self.packet_id(),
                filters: Filters::listed(self.of(&self.pool.filters)),
                user_properties: self.for_v5(is_v5, Random::user),
            }),
            PacketKind::Unsuback => Packet::Unsuback(Unsuback {
                packet_id: self.packet_id(),
                reasons: self.reasons(kind, version),
                properties: self.for_v5(is_v5, Random::reason_properties),
            }),
            PacketKind::Pingreq => Packet::Pingreq,
            PacketKind::Pingresp => Packet::Pingresp,
            PacketKind::Disconnect => Packet::Disconnect(self.disconnect(version, direction)),
            PacketKind::Auth => Packet::Auth(Auth {
                reason: self.reason(kind, direction),
                properties: AuthProperties {
                    authentication_method: Some(self.string()),
                    authentication_data: self.maybe(Random::binary),
                    reason_string: self.maybe(Random::string),
                    user_properties: self.user(),
                },
            }),
        }
    }

    fn for_v5<T: Default>(&mut self, is_v5: bool, value: impl FnOnce(&mut Random) -> T) -> T {
        if is_v5 { value(self) } else { T::default() }
    }

    fn connect(&mut self, version: Version) -> Connect<'static> {
        let is_v5 = version == V5;
        let user_name = self.maybe(Random::string);
        let password = if is_v5 || user_name.is_some() {
            self.maybe(Random::binary)
        } else {
            None
        };
        Connect {
            is_bridge: false,
            version,
            clean_start: self.flip(),
            keep_alive: self.u16(),
            client_id: self.string(),
            will: self.maybe(|random| random.will(is_v5)),
            user_name,
            password,
            properties: self.for_v5(is_v5, Random::connect_properties),
        }
    }

    fn will(&mut self, is_v5: bool) -> Will<'static> {
        Will {
            qos: self.qos(),
            retain: self.flip(),
            topic: self.topic(),
            payload: self.binary(),
            properties: self.for_v5(is_v5, |random| WillProperties {
                delay_s: random.maybe(Random::u32),
                payload_format: random.maybe(Random::flip),
                message_expiry_s: random.maybe(Random::u32),
                content_type: random.maybe(Random::string),
                response_topic: random.maybe(Random::topic),
                correlation_data: random.maybe(Random::binary),
                user_properties: random.user(),
                raw: &[],
            }),
        }
    }

    fn connect_properties(&mut self) -> ConnectProperties<'static> {
        let authentication_method = self.maybe(Random::string);
        ConnectProperties {
            session_expiry_s: self.maybe(Random::u32),
            receive_maximum: self.maybe(Random::nonzero_u16),
            maximum_packet_size: self.maybe(|random| random.u32().max(1)),
            topic_alias_maximum: self.maybe(Random::u16),
            request_response_information: self.maybe(Random::flip),
            request_problem_information: self.maybe(Random::flip),
            authentication_method,
            authentication_data: authentication_method.and(self.maybe(Random::binary)),
            user_properties: self.user(),
        }
    }

    fn connack(&mut self, version: Version) -> Connack<'static> {
        let reason = match version {
            V31 | V311 => ReasonCode::from_v3_connack(self.below(6) as u8).unwrap(),
            V5 => self.reason(PacketKind::Connack, FromServer),
        };
        Connack {
            session_present: !reason.is_error() && version != V31 && self.flip(),
            reason,
            properties: self.for_v5(version == V5, Random::connack_properties),
        }
    }

    fn connack_properties(&mut self) -> ConnackProperties<'static> {
        let authentication_method = self.maybe(Random::string);
        ConnackProperties {
            session_expiry_s: self.maybe(Random::u32),
            receive_maximum: self.maybe(Random::nonzero_u16),
            maximum_qos: self.maybe(|random| random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce])),
            retain_available: self.maybe(Random::flip),
            maximum_packet_size: self.maybe(|random| random.u32().max(1)),
            assigned_client_id: self.maybe(Random::string),
            topic_alias_maximum: self.maybe(Random::u16),
            reason_string: self.maybe(Random::string),
            user_properties: self.user(),
            wildcard_available: self.maybe(Random::flip),
            subscription_ids_available: self.maybe(Random::flip),
            shared_available: self.maybe(Random::flip),
            server_keep_alive: self.maybe(Random::u16),
            response_information: self.maybe(Random::string),
            server_reference: self.maybe(Random::string),
            authentication_method,
            authentication_data: authentication_method.and(self.maybe(Random::binary)),
        }
    }

    fn publish(&mut self, version: Version, direction: Direction) -> Publish<'static> {
        let qos = self.qos();
        let has_id = qos != QoS::AtMostOnce;
        let properties = self.for_v5(version == V5, |random| PublishProperties {
            payload_format: random.maybe(Random::flip),
            message_expiry_s: random.maybe(Random::u32),
            topic_alias: random.maybe(Random::nonzero_u16),
            response_topic: random.maybe(Random::topic),
            correlation_data: random.maybe(Random::binary),
            content_type: random.maybe(Random::string),
            subscription_ids: match direction {
                FromClient => SubscriptionIds::NONE,
                FromServer => SubscriptionIds::listed(random.of(&random.pool.subscription_ids)),
            },
            user_properties: random.user(),
            raw: &[],
        });
        let topic = if properties.topic_alias.is_some() && self.flip() {
            ""
        } else {
            self.topic()
        };
        Publish {
            dup: has_id && self.flip(),
            qos,
            retain: self.flip(),
            topic: topic.as_bytes(),
            packet_id: has_id.then(|| self.packet_id()),
            properties,
            payload: self.payload(),
        }
    }

    fn ack(&mut self, kind: PacketKind, version: Version, direction: Direction) -> Ack<'static> {
        let packet_id = self.packet_id();
        match version {
            V31 | V311 => Ack::success(packet_id),
            V5 => Ack {
                packet_id,
                reason: self.reason(kind, direction),
                properties: self.reason_properties(),
            },
        }
    }

    fn subscribe(&mut self, version: Version) -> Subscribe<'static> {
        let lines: &'static [Subscription<'static>] = self.of(&self.pool.subscriptions);
        let filters = match version {
            V5 => lines,
            V31 | V311 => lines
                .iter()
                .map(|line| Subscription {
                    options: SubscribeOptions::with_qos(line.options.qos),
                    ..*line
                })
                .collect::<Vec<_>>()
                .leak(),
        };
        Subscribe {
            packet_id: self.packet_id(),
            subscription_id: self.for_v5(version == V5, |random| {
                random.maybe(|random| random.pick(&[1, 127, 128, 268_435_455]))
            }),
            filters: Subscriptions::listed(filters),
            user_properties: self.for_v5(version == V5, Random::user),
        }
    }

    fn reasons(&mut self, kind: PacketKind, version: Version) -> Reasons<'static> {
        let count = match (kind, version) {
            (PacketKind::Unsuback, V31 | V311) => 0,
            _ => 1 + self.below(5),
        };
        let reasons: Vec<ReasonCode> = (0..count)
            .map(|_| match version {
                V31 | V311 => self.pick(&[
                    ReasonCode::GrantedQos0,
                    ReasonCode::GrantedQos1,
                    ReasonCode::GrantedQos2,
                    ReasonCode::UnspecifiedError,
                ]),
                V5 => self.reason(kind, FromServer),
            })
            .collect();
        Reasons::listed(reasons.leak())
    }

    fn disconnect(&mut self, version: Version, direction: Direction) -> Disconnect<'static> {
        match version {
            V31 | V311 => Disconnect::new(ReasonCode::NormalDisconnection),
            V5 => Disconnect {
                reason: self.reason(PacketKind::Disconnect, direction),
                properties: DisconnectProperties {
                    session_expiry_s: match direction {
                        FromClient => self.maybe(Random::u32),
                        FromServer => None,
                    },
                    reason_string: self.maybe(Random::string),
                    user_properties: self.user(),
                    server_reference: match direction {
                        FromClient => None,
                        FromServer => self.maybe(Random::string),
                    },
                },
            },
        }
    }
}

#[test]
fn decoding_an_encoded_packet_gives_the_same_packet() {
    let mut random = Random::new(0x5EED);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..30_000 {
        let version = random.pick(&VERSIONS);
        let direction = random.pick(&DIRECTIONS);
        let packet = random.packet(version, direction);
        seen.insert((version, direction, packet.kind()));
        let mut encoded = Vec::new();
        packet.encode(version, &mut encoded);
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &encoded, &rules(version, direction)).unwrap();
        let decoded = decode(&frame, version, direction);
        assert_eq!(decoded, Ok(packet), "round {round}");
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        assert_eq!(again, encoded);
    }
    // Clients send 10 kinds and with 5.0 AUTH, servers 9 and with 5.0 DISCONNECT and AUTH.
    assert_eq!(seen.len(), (10 + 10 + 11) + (9 + 9 + 11));
}

/// Whether a packet may end inside of its body and be another valid packet.
fn may_end_early(kind: PacketKind, version: Version, cut_size: usize) -> bool {
    match kind {
        // The payload, or list, goes to the end of the packet.
        PacketKind::Publish | PacketKind::Subscribe | PacketKind::Unsubscribe => true,
        PacketKind::Suback => true,
        PacketKind::Unsuback => version == V5,
        PacketKind::Puback | PacketKind::Pubrec | PacketKind::Pubrel | PacketKind::Pubcomp => {
            version == V5 && matches!(cut_size, 2 | 3)
        }
        PacketKind::Disconnect => version == V5 && cut_size <= 1,
        PacketKind::Auth => cut_size == 0,
        PacketKind::Connect => version == V31,
        PacketKind::Connack | PacketKind::Pingreq | PacketKind::Pingresp => false,
    }
}

// Rows 3, 14 and 16 of the threat list: lengths that lie, packets cut at every offset.
#[test]
fn a_packet_cut_anywhere_is_malformed_or_another_valid_packet() {
    let mut random = Random::new(0xC07);
    for _ in 0..3_000 {
        let version = random.pick(&VERSIONS);
        let direction = random.pick(&DIRECTIONS);
        let mut encoded = Vec::new();
        random
            .packet(version, direction)
            .encode(version, &mut encoded);
        if encoded.len() > 2_000 {
            continue;
        }
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &encoded, &rules(version, direction)).unwrap();
        for size in 0..frame.body.len() {
            let cut = Frame {
                body: &frame.body[..size],
                ..frame
            };
            match decode(&cut, version, direction) {
                Ok(packet) => {
                    assert!(
                        may_end_early(frame.kind, version, size),
                        "{packet:?} out of {size} bytes of {:x?}",
                        frame.body
                    );
                }
                Err(error) => assert!(
                    matches!(
                        error.reason(),
                        ReasonCode::MalformedPacket | ReasonCode::ProtocolError
                    ),
                    "{error}"
                ),
            }
            // Cut off by the network instead: not there yet.
            let mut framer = Framer::default();
            let header_size = encoded.len() - frame.body.len();
            let mut input = &encoded[..header_size + size];
            assert_eq!(
                framer.next(&mut input, &rules(version, direction)),
                Ok(None)
            );
        }
        // One byte more than the fields, where the end of the packet ends no list or payload.
        let extended = [frame.body, &[0]].concat();
        let longer = Frame {
            body: &extended,
            ..frame
        };
        match frame.kind {
            PacketKind::Publish => assert!(decode(&longer, version, direction).is_ok()),
            PacketKind::Suback | PacketKind::Unsuback => {}
            PacketKind::Puback | PacketKind::Pubrec | PacketKind::Pubrel | PacketKind::Pubcomp
                if version == V5 => {}
            PacketKind::Disconnect if version == V5 => {}
            _ => assert!(decode(&longer, version, direction).is_err()),
        }
    }
}

#[test]
fn changed_packets_never_panic_and_stay_fixpoints() {
    let mut random = Random::new(0xF11B);
    for _ in 0..60_000 {
        let version = random.pick(&VERSIONS);
        let direction = random.pick(&DIRECTIONS);
        let mut encoded = Vec::new();
        random
            .packet(version, direction)
            .encode(version, &mut encoded);
        for _ in 0..=random.below(3) {
            let at = random.below(encoded.len().min(60));
            encoded[at] = random.next() as u8;
        }
        let mut framer = Framer::default();
        let mut input = &encoded[..];
        let Ok(Some(frame)) = framer.next(&mut input, &rules(version, direction)) else {
            continue;
        };
        let Ok(packet) = decode(&frame, version, direction) else {
            continue;
        };
        let version = match packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &again, &rules(version, direction)).unwrap();
        assert_eq!(decode(&frame, version, direction), Ok(packet));
    }
}
