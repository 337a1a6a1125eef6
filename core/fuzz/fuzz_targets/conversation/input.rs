//! What the fuzzer says, byte by byte.

use ringmq_core::codec::QoS;
use ringmq_core::ids::PacketId;

/// The rest of the input; zeros when it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// As many as the first says.
    pub fn bytes(&mut self) -> &'a [u8] {
        let size = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(size);
        self.0 = rest;
        bytes
    }

    pub fn qos(&mut self) -> QoS {
        QoS::from_bits(self.byte() % 3).expect("below three")
    }

    pub fn packet_id(&mut self) -> PacketId {
        PacketId::new(u16::from(self.byte() % 6) + 1).expect("not zero")
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}
