//! Bytes that are written bit by bit, the lowest first.

pub(super) struct Bits {
    bytes: Vec<u8>,
    /// What does not fill a byte yet, and how many bits that is.
    waiting: u64,
    count: u32,
}

impl Bits {
    /// Goes on after these bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, waiting: 0, count: 0 }
    }

    /// Adds the lowest bits of a number, no more than 32.
    pub(super) fn push(&mut self, bits: u32, count: u32) {
        self.waiting |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.waiting as u8); // the lowest eight
            self.waiting >>= 8;
            self.count -= 8;
        }
    }

    /// Fills up the last byte with zeros.
    pub(super) fn align(&mut self) {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
    }

    /// Adds whole bytes; the last one must be full.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// All bytes.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}
