//! A TCP connection between a client and a shard, as two queues of bytes that can be cut.

use std::collections::VecDeque;

use ringmq_core::time::Instant;

use crate::message::MessageIndex;
use crate::pipe::{self, Pipe};

/// Position of a link in the world's table; never used twice.
pub type LinkIndex = usize;

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub client: usize,
    /// Bytes on their way to the broker.
    pub up: VecDeque<u8>,
    /// Bytes on their way to the client, `down.len() <= socket_size`.
    pub down: Pipe,
    pub socket_size: usize,
    /// The client writes nothing more: after `up` the broker sees the end.
    pub client_done: bool,
    /// The broker writes nothing more: after `down` the client sees the end.
    pub broker_done: bool,
    /// Reset: what was under way is lost, both sides see an error.
    pub cut: bool,
    /// The client is gone, and the broker is not told.
    pub half_open: bool,
    /// The client's side takes no bytes.
    pub stalled: bool,
    /// The shard read everything up to DISCONNECT before it closed the connection.
    pub goodbye_read: bool,
    /// The DISCONNECT that was written.
    pub goodbye: Option<Goodbye>,
    /// Keep alive of CONNECT in seconds; 0: none.
    pub keep_alive_s: u16,
    /// The client got CONNACK.
    pub confirmed: bool,
    pub accepted_at: Instant,
    /// When the broker last read bytes, or began to listen again; and when it last had read all of
    /// them.
    pub read_at: Instant,
    pub all_read_at: Instant,
    /// Not later than the arrival of the first byte that the broker has not read; `None`: it has
    /// read all.
    pub unread_since: Option<Instant>,
    /// When the shard asked to close it.
    pub closed_at: Option<Instant>,
    /// When the shard was told that it ended.
    pub ended_at: Option<Instant>,
    /// The will that CONNECT left.
    pub will: Option<ArmedWill>,
}

/// A will that CONNECT carried.
#[derive(Clone, Copy, Debug)]
pub struct ArmedWill {
    pub message: MessageIndex,
    pub delay_s: u32,
}

/// DISCONNECT as a client says it.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye {
    /// 0: no will; 4: publish the will.
    pub reason: u8,
    /// MQTT 5: replaces the session expiry.
    pub session_expiry_s: Option<u32>,
}

impl Link {
    pub fn new(client: usize, socket_size: usize, now: Instant) -> Link {
        Link {
            client,
            up: VecDeque::new(),
            down: Pipe::default(),
            socket_size,
            client_done: false,
            broker_done: false,
            cut: false,
            half_open: false,
            stalled: false,
            goodbye_read: false,
            goodbye: None,
            keep_alive_s: 0,
            confirmed: false,
            accepted_at: now,
            read_at: now,
            all_read_at: now,
            unread_since: None,
            closed_at: None,
            ended_at: None,
            will: None,
        }
    }

    /// Bytes of the client have arrived at the broker's side.
    pub fn arrive(&mut self, bytes: &[u8], now: Instant) {
        self.up.extend(bytes);
        self.unread_since.get_or_insert(now);
    }

    /// The broker reads a piece.
    pub fn read(&mut self, size: usize, now: Instant) -> Vec<u8> {
        let bytes = pipe::take_front(&mut self.up, size);
        self.read_at = now;
        if self.up.is_empty() {
            self.all_read_at = now;
            self.unread_since = None;
        }
        bytes
    }

    /// What the broker has not read is lost.
    pub fn forget_unread(&mut self) {
        self.up.clear();
        self.unread_since = None;
    }

    /// Whether input that came by then is still unread.
    pub fn has_unread_of(&self, deadline: Instant) -> bool {
        self.unread_since.is_some_and(|since| since <= deadline)
    }

    /// Loses everything under way.
    pub fn cut(&mut self) {
        self.cut = true;
        self.forget_unread();
        self.down.clear();
    }

    /// Bytes that the broker can still write.
    pub fn room(&self) -> usize {
        if self.stalled || self.half_open || self.cut {
            return 0;
        }
        self.socket_size.saturating_sub(self.down.len())
    }

    /// The client can tell that the broker's side has ended.
    pub fn ended_for_client(&self) -> bool {
        self.cut || self.broker_done && self.down.is_empty()
    }
}
