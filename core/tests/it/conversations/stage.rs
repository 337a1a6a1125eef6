//! The clients of a conversation and the broker they talk to.
//!
//! Whatever a script says, every connection has to keep the rules of `keeps_the_rules`: they hold
//! for all that a broker ever sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::{Access, Verdict};
use ringmq_core::codec::QoS;
use ringmq_core::limits::{Limits, RateExceeded, Redirect, ShareStrategy};
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{
    Answer, Ask, CloseCause, Disconnected, DropReason, Gauges, LeaveOrder, Metrics, Record,
};
use ringmq_core::time::Instant;

use super::access;
use super::lexer::{self, Word};
use super::matching::{self, Variables};
use super::properties::{Value, fit};
use super::script::{Casting, Conversation};
use super::wire::{self, Packet, Version};
use crate::durable::disk;
use crate::world::{Feed, SocketId, World};

pub struct Stage {
    world: World,
    limits: Limits,
    /// Of a CONNECT that names none.
    version: Version,
    start: Instant,
    clients: BTreeMap<String, Client>,
    variables: Variables,
    /// Files of rules, by name.
    acls: BTreeMap<String, String>,
    /// First levels of topics that `#` does not match.
    dollar_levels: BTreeSet<String>,
    is_shut_down: bool,
    /// Records that no line has named yet.
    records: Vec<Record>,
}

/// The connection that a name stands for.
struct Client {
    socket: SocketId,
    version: Version,
    /// Bytes of the connection that were cut into packets.
    parsed_size: usize,
    /// Packets that the script has not expected yet, with their bytes.
    unread: VecDeque<(Packet, Vec<u8>)>,
    /// The script knows that the connection is closed.
    is_over: bool,
    packets_count: usize,
    /// CONNACK has come.
    is_let_in: bool,
    /// Exchanges of QoS 1 and 2 that the broker opened here and the client has not ended.
    open_ids: BTreeSet<u64>,
    receive_maximum: usize,
    packet_size_max: usize,
    alias_max: u64,
    /// Topic aliases that the broker has set.
    aliases: BTreeSet<u64>,
    /// The client has said things that no rule can follow.
    is_wild: bool,
    /// It did not say that it does not want them.
    wants_reasons: bool,
}

impl Stage {
    pub fn new(
        conversation: &Conversation,
        casting: &Casting,
        feed: Feed,
    ) -> Result<Stage, String> {
        let mut limits = Limits::default();
        for (name, value) in &conversation.limits(casting) {
            set_limit(&mut limits, name, value)?;
        }
        let mut items = conversation.access.clone();
        if conversation.acls.contains_key("acl") {
            items.push(("acl".into(), "acl".into()));
        }
        let (access, users) = access::parse(&items, &conversation.acls)?;
        let shared = Arc::new(limits.clone());
        let mut world = World::with_access(casting.shards, &shared, feed, access.clone(), users);
        if conversation.has_disk {
            world.keep_on(disk(), &shared, access);
        }
        Ok(Stage {
            start: world.now(),
            world,
            limits,
            version: casting.version,
            clients: BTreeMap::new(),
            variables: Variables::new(),
            acls: conversation.acls.clone(),
            dollar_levels: BTreeSet::new(),
            is_shut_down: false,
            records: Vec::new(),
        })
    }

    pub fn elapsed(&self) -> Duration {
        self.world.now().saturating_since(self.start)
    }

    pub fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }

    /// Everything that the broker sent on each connection.
    pub fn transcript(&self) -> Vec<Vec<u8>> {
        let received = |socket| self.world.received(socket).to_vec();
        self.world.sockets().map(received).collect()
    }

    pub fn wait(&mut self, span: Duration) -> Result<(), String> {
        self.world.wait(span);
        self.listen()
    }

    /// Time passes, and no shard is told before the next event.
    pub fn oversleep(&mut self, span: Duration) {
        self.world.oversleep(span);
    }

    /// Other users and rules.
    pub fn replace_access(&mut self, items: &[(String, String)]) -> Result<(), String> {
        let (access, users) = access::parse(items, &self.acls)?;
        self.world.users.file = users.file;
        self.world.users.tokens = users.tokens;
        self.world.users.rules = users.rules;
        self.world.replace_access(access);
        self.listen()
    }

    /// The shell gives other rules to whom it is asked about from here on.
    pub fn set_rules(&mut self, items: &[&str]) {
        self.world.users.rules = Some(access::leases(items));
    }

    /// The shell answers at once or not, until it is told to.
    pub fn set_slow(&mut self, is_slow: bool) {
        self.world.users.is_slow = is_slow;
    }

    /// The shell answers all that it was asked; `None`: as it knows it.
    pub fn answer(&mut self, verdict: Option<Verdict>) -> Result<(), String> {
        self.world.answer(verdict.as_ref());
        self.listen()
    }

    /// The shell has looked at the free space of the disk.
    pub fn tell_space(&mut self, is_scarce: bool) -> Result<(), String> {
        self.world.tell_space(is_scarce);
        self.listen()
    }

    pub fn shut_down(&mut self) -> Result<(), String> {
        self.is_shut_down = true;
        self.world.shut_down();
        self.listen()
    }

    /// An operator disconnects a client, wherever it is.
    pub fn disconnect(&mut self, client_id: &str, with_will: bool) -> Result<(), String> {
        let shards = self.world.gauges().len();
        let done = (0..shards).any(|shard| {
            let ask = Ask::Disconnect {
                client_id: client_id.into(),
                with_will,
            };
            let answer = self.world.ask(shard, ask);
            matches!(answer, Answer::Disconnect(Disconnected::Done))
        });
        self.listen()?;
        match done {
            true => Ok(()),
            false => Err(format!(
                "no shard has a client {client_id} that is connected"
            )),
        }
    }

    /// An operator ends a session.
    pub fn end_session(&mut self, client_id: &str) -> Result<(), String> {
        let client_id: Box<str> = client_id.into();
        let ask = Ask::EndSession { client_id };
        let answers = self.ask_all(&ask);
        let is_done = |answer: &Answer| matches!(answer, Answer::EndSession(true));
        self.listen()?;
        match answers.iter().any(is_done) {
            true => Ok(()),
            false => Err("no shard has such a session".into()),
        }
    }

    /// An operator deletes a retained message.
    pub fn unretain(&mut self, topic: &str) -> Result<(), String> {
        let topic: Box<str> = topic.into();
        let answers = self.ask_all(&Ask::Unretain { topic });
        let is_done = |answer: &Answer| matches!(answer, Answer::Unretain(true));
        match answers.iter().any(is_done) {
            true => Ok(()),
            false => Err("no shard has such a message".into()),
        }
    }

    /// An operator has everybody leave.
    pub fn drain(&mut self, redirect: Option<&str>) -> Result<(), String> {
        let order = LeaveOrder {
            from: 0,
            idle_min: Duration::ZERO,
            count_max: u32::MAX,
            redirect: redirect.map(Box::from),
        };
        self.ask_all(&Ask::Leave(order));
        self.listen()
    }

    fn ask_all(&mut self, ask: &Ask) -> Vec<Answer> {
        let shards = self.world.gauges().len();
        (0..shards)
            .map(|shard| self.world.ask(shard, ask.clone()))
            .collect()
    }

    /// What a client has lost for a reason.
    pub fn expect_loss(
        &mut self,
        client_id: &str,
        reason: &str,
        expected: u64,
    ) -> Result<(), String> {
        let client_id: Box<str> = client_id.into();
        let answers = self.ask_all(&Ask::LossesOf { client_id });
        let mut count = 0;
        for answer in answers {
            let Answer::LossesOf(losses) = answer else {
                return Err(format!("{answer:?}"));
            };
            let tallies = losses.into_iter().flat_map(|losses| losses.tallies);
            let of_reason = tallies.filter(|tally| tally.loss.name() == reason);
            count += of_reason.map(|tally| tally.count).sum::<u64>();
        }
        match count == expected {
            true => Ok(()),
            false => Err(format!("{count} are lost")),
        }
    }

    /// A connection without a word on it.
    pub fn open(&mut self, name: &str) -> Result<(), String> {
        if let Some(old) = self.clients.get(name) {
            if !old.is_over {
                return Err(format!("{name} is connected"));
            }
            self.expect_nothing(name)?;
        }
        let client = Client {
            socket: self.world.open(),
            version: self.version,
            parsed_size: 0,
            unread: VecDeque::new(),
            is_over: false,
            packets_count: 0,
            is_let_in: false,
            open_ids: BTreeSet::new(),
            receive_maximum: usize::from(u16::MAX),
            packet_size_max: usize::MAX,
            alias_max: 0,
            aliases: BTreeSet::new(),
            is_wild: false,
            wants_reasons: true,
        };
        self.clients.insert(name.into(), client);
        Ok(())
    }

    /// A client says packets in one go. Its first words open its connection.
    pub fn say(&mut self, name: &str, packets: &[Vec<Word>]) -> Result<(), String> {
        if self.clients.get(name).is_none_or(|client| client.is_over) {
            self.open(name)?;
        }
        let mut bytes = Vec::new();
        for words in packets {
            let client = self.clients.get_mut(name).expect("just opened");
            client.note(words)?;
            bytes.extend(wire::encode(words, client.version, name)?);
            note_dollar_level(&mut self.dollar_levels, words);
        }
        let socket = self.clients[name].socket;
        self.world.send(socket, &bytes);
        self.listen()
    }

    /// The connection is lost, or closed by the client without a word.
    pub fn cut(&mut self, name: &str, is_failure: bool) -> Result<(), String> {
        const CONNECTION_RESET: i32 = 104;
        let client = self
            .clients
            .get_mut(name)
            .ok_or(format!("who is {name}?"))?;
        client.is_over = true;
        let why = match is_failure {
            true => CloseCause::Failed(CONNECTION_RESET),
            false => CloseCause::PeerClosed,
        };
        self.world.cut(client.socket, why);
        self.listen()
    }

    pub fn stall(&mut self, name: &str, is_stalled: bool) -> Result<(), String> {
        let socket = self.client(name)?.socket;
        self.world.stall(socket, is_stalled);
        self.listen()
    }

    /// The next packet; with `any_order` the first that fits.
    pub fn expect(&mut self, name: &str, expected: &Packet, any_order: bool) -> Result<(), String> {
        let announced = announced(&self.limits, self.client(name)?.version);
        let variables = &mut self.variables;
        let client = self.clients.get_mut(name).expect("just looked up");
        let candidates = if any_order { client.unread.len() } else { 1 };
        let mut errors = Vec::new();
        for index in 0..candidates {
            let Some((packet, _)) = client.unread.get(index) else {
                return Err(format!("{name} got nothing"));
            };
            match matching::check(expected, packet, &announced, variables) {
                Ok(()) => {
                    client.unread.remove(index);
                    return Ok(());
                }
                Err(error) => {
                    errors.push(format!("{name} got {}: {error}", matching::show(packet)))
                }
            }
        }
        match errors.is_empty() {
            true => Err(format!("{name} got nothing")),
            false => Err(errors.join("\n    ")),
        }
    }

    /// The next packet, byte for byte.
    pub fn expect_raw(&mut self, name: &str, expected: &[u8]) -> Result<(), String> {
        self.client(name)?;
        let client = self.clients.get_mut(name).expect("just looked up");
        match client.unread.pop_front() {
            Some((_, bytes)) if bytes == expected => Ok(()),
            Some((packet, bytes)) => Err(format!(
                "{name} got {bytes:02x?}: {}",
                matching::show(&packet)
            )),
            None => Err(format!("{name} got nothing")),
        }
    }

    /// Whatever came, it does not matter.
    pub fn forget(&mut self, name: &str) -> Result<(), String> {
        self.client(name)?;
        let client = self.clients.get_mut(name).expect("just looked up");
        client.unread.clear();
        Ok(())
    }

    pub fn expect_closed(&mut self, name: &str) -> Result<(), String> {
        self.expect_no_packet(name)?;
        let client = self.clients.get_mut(name).expect("just looked up");
        if !self.world.is_closed(client.socket) {
            return Err(format!("the connection of {name} is open"));
        }
        client.is_over = true;
        Ok(())
    }

    pub fn expect_nothing(&mut self, name: &str) -> Result<(), String> {
        self.expect_no_packet(name)?;
        let client = self.client(name)?;
        match !client.is_over && self.world.is_closed(client.socket) {
            true => Err(format!("the connection of {name} is closed")),
            false => Ok(()),
        }
    }

    pub fn expect_nothing_for_anybody(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        names.iter().try_for_each(|name| self.expect_nothing(name))
    }

    fn expect_no_packet(&self, name: &str) -> Result<(), String> {
        match self.client(name)?.unread.front() {
            Some((packet, _)) => Err(format!("{name} got {}", matching::show(packet))),
            None => Ok(()),
        }
    }

    /// A counter, summed up over the shards.
    pub fn expect_count(&self, name: &str, expected: u64) -> Result<(), String> {
        let mut sum = 0;
        for metrics in self.world.metrics() {
            sum += count(metrics, name)?;
        }
        match sum == expected {
            true => Ok(()),
            false => Err(format!("{name} is {sum}")),
        }
    }

    /// One of the records that were made and that no line has named yet.
    pub fn expect_record(&mut self, reason: &str, fields: &[(&str, &str)]) -> Result<(), String> {
        self.records.extend(self.world.take_records());
        let fits = |record: &Record| {
            let value_of = |field: &str| match field {
                "client" => record.client.to_string(),
                "user" => record.user.to_string(),
                "topic" => String::from_utf8_lossy(&record.topic).into_owned(),
                "count" => record.count.to_string(),
                other => format!("there is no {other}"),
            };
            record.loss.name() == reason && fields.iter().all(|(name, v)| value_of(name) == *v)
        };
        match self.records.iter().position(fits) {
            Some(index) => {
                self.records.remove(index);
                Ok(())
            }
            None => Err(format!("there are {:?}", self.records)),
        }
    }

    fn client(&self, name: &str) -> Result<&Client, String> {
        self.clients.get(name).ok_or(format!("who is {name}?"))
    }

    /// Cuts what came in into packets.
    fn listen(&mut self) -> Result<(), String> {
        for (name, client) in &mut self.clients {
            let received = self.world.received(client.socket);
            while let Some(size) = wire::packet_size(&received[client.parsed_size..]) {
                let bytes = &received[client.parsed_size..client.parsed_size + size];
                client.parsed_size += size;
                let packet = wire::decode(bytes, client.version)
                    .map_err(|error| format!("{name} got {bytes:02x?}: {error}"))?;
                client
                    .check(&packet, size)
                    .map_err(|error| format!("{name} got {}: {error}", matching::show(&packet)))?;
                client.unread.push_back((packet, bytes.to_vec()));
            }
        }
        Ok(())
    }

    /// What has to hold between any two lines.
    pub fn keeps_the_rules(&self) -> Result<(), String> {
        for (name, client) in &self.clients {
            let rest = self.world.received(client.socket).len() - client.parsed_size;
            if rest > 0 && !self.world.is_closed(client.socket) {
                return Err(format!("{name} got {rest} bytes that are no whole packet"));
            }
        }
        Ok(())
    }

    /// All clients go, all sessions run out, and nothing may be left.
    pub fn finish(&mut self) -> Result<(), String> {
        self.expect_nothing_for_anybody()?;
        for socket in self.world.sockets() {
            self.world.cut(socket, CloseCause::PeerClosed);
        }
        self.world.replace_access(Access::default());
        let longest = Duration::from_secs(u64::from(self.limits.session_expiry_max_s) + 1);
        self.world.wait(longest);
        if !self.is_shut_down {
            self.delete_retained()?;
        }
        for mut gauges in self.world.gauges() {
            if self.is_shut_down {
                gauges.retained = 0; // Nobody is let in any more who could delete them.
            }
            if gauges != Gauges::default() {
                return Err(format!("something is left: {gauges:?}"));
            }
        }
        Ok(())
    }

    fn delete_retained(&mut self) -> Result<(), String> {
        const CLEANER: &str = "cleaner";
        let mut subscribe = vec!["SUBSCRIBE".to_string(), "1".into(), "#".into()];
        subscribe.extend(self.dollar_levels.iter().map(|level| format!("{level}/#")));
        let connect = vec!["CONNECT".to_string(), "v5".into()];
        self.version = Version::V5;
        self.say(CLEANER, &[connect, subscribe])?;
        let unread = std::mem::take(&mut self.clients.get_mut(CLEANER).expect("it said so").unread);
        let socket = self.clients[CLEANER].socket;
        for (packet, _) in unread {
            for (name, value) in packet.fields {
                if let ("topic", Value::Text(topic)) = (name, value) {
                    let size = u16::try_from(topic.len()).expect("topics are bounded");
                    let mut bytes = vec![0x31];
                    lexer::put_varint(&mut bytes, topic.len() + 3);
                    bytes.extend(size.to_be_bytes());
                    bytes.extend(topic);
                    bytes.push(0);
                    self.world.send(socket, &bytes);
                }
            }
        }
        self.world.cut(socket, CloseCause::PeerClosed);
        Ok(())
    }
}

impl Client {
    /// Takes notice of what the client says, for the rules that its broker has to keep.
    fn note(&mut self, words: &[Word]) -> Result<(), String> {
        let Some((kind, words)) = words.split_first() else {
            return Ok(());
        };
        let plain = |index: usize| {
            words
                .iter()
                .filter(|word| lexer::key_value(word).is_none())
                .nth(index)
        };
        match kind.as_str() {
            "CONNECT" if self.packets_count == 0 => {
                if let Some(version) = plain(0) {
                    self.version = Version::named(version).ok_or("no such version")?;
                }
                for word in words {
                    match lexer::key_value(word) {
                        Some(("rm", value)) => self.receive_maximum = fit(lexer::number(value)?)?,
                        Some(("alias_max", value)) => self.alias_max = lexer::number(value)?,
                        // 0 is a violation, and its answer needs some bytes.
                        Some(("max", "0")) => {}
                        Some(("max", value)) => self.packet_size_max = fit(lexer::number(value)?)?,
                        Some(("problem", value)) => self.wants_reasons = value != "0",
                        Some(("will", _)) => break,
                        Some(_) | None => {}
                    }
                }
            }
            "PUBACK" | "PUBCOMP" => {
                let id = plain(0).ok_or("an acknowledgement has an id")?;
                self.open_ids.remove(&lexer::number(id)?);
            }
            "PUBREC" if plain(1).is_some() => {
                let id = plain(0).ok_or("an acknowledgement has an id")?;
                self.open_ids.remove(&lexer::number(id)?);
            }
            "raw" => self.is_wild = true,
            _ => {}
        }
        Ok(())
    }

    /// The rules for every packet that a broker sends.
    fn check(&mut self, packet: &Packet, size: usize) -> Result<(), String> {
        self.packets_count += 1;
        let is_connack = packet.kind == "CONNACK";
        if is_connack == self.is_let_in && packet.kind != "AUTH" {
            return Err("CONNACK is the first packet but for AUTH, and comes once".into());
        }
        self.is_let_in |= is_connack;
        if size > self.packet_size_max {
            return Err(format!("it has {size} bytes, more than the client takes"));
        }
        if let Some(alias) = packet.number("alias") {
            if alias == 0 || alias > self.alias_max {
                return Err("it has a topic alias that the client does not allow".into());
            }
            let names_topic = packet.fields.iter().any(|(field, value)| {
                *field == "topic" && matches!(value, Value::Text(topic) if !topic.is_empty())
            });
            if names_topic {
                self.aliases.insert(alias);
            } else if !self.aliases.contains(&alias) {
                return Err("its topic alias was never set".into());
            }
        }
        self.check_reason_string(packet)?;
        let Some(id) = packet.number("id").filter(|_| packet.kind == "PUBLISH") else {
            return Ok(());
        };
        if self.is_wild {
            return Ok(());
        }
        if !self.open_ids.insert(id) {
            return Err(format!("the identifier {id} is in use"));
        }
        if self.open_ids.len() > self.receive_maximum {
            return Err("it exceeds the Receive Maximum of the client".into());
        }
        Ok(())
    }
}

impl Client {
    /// Reason strings explain refusals, to clients that want them.
    fn check_reason_string(&self, packet: &Packet) -> Result<(), String> {
        let has_one = packet.fields.iter().any(|(name, _)| *name == "reason");
        // A CONNECT that cannot be read says nothing about it.
        if has_one && !self.wants_reasons && packet.kind != "CONNACK" {
            return Err("it has a reason string that the client does not want".into());
        }
        let is_refusal = packet.fields.iter().any(|(name, value)| match value {
            Value::Number(code) => *name == "code" && *code >= 0x80,
            Value::Numbers(codes) => codes.iter().any(|code| *code >= 0x80),
            Value::Text(_)
            | Value::Pair(_, _)
            | Value::Variable(_)
            | Value::NonZero
            | Value::OneOf(_)
            | Value::Absent => false,
        });
        if has_one && !is_refusal {
            return Err("it has a reason string and refuses nothing".into());
        }
        Ok(())
    }
}

fn note_dollar_level(levels: &mut BTreeSet<String>, words: &[Word]) {
    if let [kind, topic, ..] = words
        && kind == "PUBLISH"
        && topic.starts_with('$')
    {
        levels.extend(topic.split('/').next().map(String::from));
    }
}

/// What CONNACK says of these bounds to a client of 5.0.
fn announced(limits: &Limits, version: Version) -> Vec<(&'static str, Value)> {
    if version < Version::V5 {
        return Vec::new();
    }
    let mut announced = vec![("max", Value::Number(limits.packet_size_max.into()))];
    if !limits.share_available {
        announced.push(("shared_ok", Value::Number(0)));
    }
    if limits.qos_max < QoS::ExactlyOnce {
        announced.push(("max_qos", Value::Number(limits.qos_max as u64)));
    }
    if !limits.retain_available {
        announced.push(("retain_ok", Value::Number(0)));
    }
    if !limits.wildcards_available {
        announced.push(("wildcard_ok", Value::Number(0)));
    }
    if limits.receive_maximum < u16::MAX {
        announced.push(("rm", Value::Number(limits.receive_maximum.into())));
    }
    if limits.topic_alias_max > 0 {
        announced.push(("alias_max", Value::Number(limits.topic_alias_max.into())));
    }
    announced
}

fn set_limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let number = lexer::number(value);
    match name {
        "connect_deadline" => limits.connect_deadline = lexer::span(value)?,
        "connect_size_max" => limits.connect_size_max = fit(number?)?,
        "packet_size_max" => limits.packet_size_max = fit(number?)?,
        "client_id_size_max" => limits.client_id_size_max = fit(number?)?,
        "topic_size_max" => limits.topic_size_max = fit(number?)?,
        "topic_levels_max" => limits.topic_levels_max = fit(number?)?,
        "subscriptions_max" => limits.subscriptions_max = fit(number?)?,
        "keep_alive_max_s" => limits.keep_alive_max_s = fit(number?)?,
        "session_expiry_max_s" => limits.session_expiry_max_s = fit(number?)?,
        "inflight_messages_max" => limits.inflight_messages_max = fit(number?)?,
        "receive_maximum" => limits.receive_maximum = fit(number?)?,
        "receive_maximum_enforced" => limits.receive_maximum_enforced = number? == 1,
        "inflight_bytes_max" => limits.inflight_bytes_max = fit(number?)?,
        "total_queued_messages_max" => limits.total_queued_messages_max = fit(number?)?,
        "total_queued_bytes_max" => limits.total_queued_bytes_max = fit(number?)?,
        "queued_messages_max" => limits.queued_messages_max = fit(number?)?,
        "queued_bytes_max" => limits.queued_bytes_max = fit(number?)?,
        "partial_bytes_max" => limits.partial_bytes_max = fit(number?)?,
        "total_unsent_bytes_max" => limits.total_unsent_bytes_max = fit(number?)?,
        "unsent_bytes_max" => limits.unsent_bytes_max = fit(number?)?,
        "topic_alias_max" => limits.topic_alias_max = fit(number?)?,
        "payload_format_checked" => limits.payload_format_checked = number? == 1,
        "topic_alias_outbound_max" => limits.topic_alias_outbound_max = fit(number?)?,
        "retained_messages_max" => limits.retained_messages_max = fit(number?)?,
        "retained_bytes_max" => limits.retained_bytes_max = fit(number?)?,
        "retained_page_max" => limits.retained_page_max = fit(number?)?,
        "sessions_max" => limits.sessions_max = fit(number?)?,
        "share_available" => limits.share_available = number? == 1,
        "share_queued_while_away" => limits.share_queued_while_away = number? == 1,
        "share_strategy" => {
            let named = ShareStrategy::ALL.iter().find(|s| s.name() == value);
            limits.share_strategy = *named.ok_or_else(|| format!("no strategy {value}"))?;
        }
        "message_rate_max" => limits.message_rate_max = fit(number?)?,
        "byte_rate_max" => limits.byte_rate_max = fit(number?)?,
        "rate_exceeded" => {
            let named = RateExceeded::ALL
                .into_iter()
                .find(|one| one.name() == value);
            limits.rate_exceeded = named.ok_or("no such answer")?;
        }
        "user_properties_max" => limits.user_properties_max = fit(number?)?,
        "qos_max" => {
            limits.qos_max = match number? {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            }
        }
        "retain_available" => limits.retain_available = number? == 1,
        "wildcards_available" => limits.wildcards_available = number? == 1,
        "response_information" => limits.response_information = value.into(),
        "server_reference" => limits.server_reference = value.into(),
        "server_redirect" => {
            let named = Redirect::ALL.into_iter().find(|one| one.name() == value);
            limits.server_redirect = named.ok_or("no such redirect")?;
        }
        _ => return Err(format!("no limit {name}")),
    }
    Ok(())
}

fn count(metrics: &Metrics, name: &str) -> Result<u64, String> {
    Ok(match name {
        "connects" => metrics.connects,
        "connects_refused" => metrics.connects_refused,
        "violations" => metrics.violations,
        "takeovers" => metrics.takeovers,
        "keep_alive_timeouts" => metrics.keep_alive_timeouts,
        "wills_published" => metrics.wills_published,
        "sessions_expired" => metrics.sessions_expired,
        _ => return named_count(metrics, name).ok_or(format!("no counter {name}")),
    })
}

/// `dropped_REASON` and `refused_REASON`.
fn named_count(metrics: &Metrics, name: &str) -> Option<u64> {
    if let Some(name) = name.strip_prefix("dropped_") {
        let mut reasons = DropReason::ALL.into_iter();
        let reason = reasons.find(|reason| reason.name() == name)?;
        return Some(metrics.dropped[reason as usize]);
    }
    let name = name.strip_prefix("refused_")?;
    let mut refusals = Refusal::ALL.into_iter();
    let refusal = refusals.find(|refusal| refusal.name() == name)?;
    Some(metrics.refused.0[refusal as usize])
}
