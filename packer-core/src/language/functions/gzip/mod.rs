//! Gzip as Go's compressor writes it at its default level, byte for byte. What `base64gzip` gives becomes user data and
//! digests of it, which must not change because another program renders the template.

mod bits;
mod block;
mod huffman;
mod matches;

use bits::Bits;

/// The bytes in gzip's form, flushed before it is closed.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    // Deflate, no name and no time, no word on the level, from an unknown system.
    let mut out = Bits::after(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    matches::blocks(bytes, |tokens, plain| block::write(&mut out, tokens, plain));
    // The flush, and the end.
    block::write_plain(&mut out, &[], false);
    block::write_plain(&mut out, &[], true);
    let mut gzip = out.into_bytes();
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    gzip.extend(sum.sum().to_le_bytes());
    gzip.extend(sum.amount().to_le_bytes());
    gzip
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Numbers that look random and are always the same.
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }

        /// Bytes of so many kinds, and what stood before again now and then.
        fn bytes(&mut self, length: usize, kinds: u64, again: u64) -> Vec<u8> {
            let mut bytes: Vec<u8> = Vec::with_capacity(length + 600);
            while bytes.len() < length {
                if bytes.len() > 8 && again > 0 && self.below(again) == 0 {
                    let count = 1 + self.below(600) as usize;
                    let from = self.below(bytes.len() as u64) as usize;
                    for i in from..from + count {
                        bytes.push(bytes[i]);
                    }
                } else {
                    bytes.push(self.below(kinds) as u8);
                }
            }
            bytes.truncate(length);
            bytes
        }
    }

    /// Which bytes are right is Go's to say: the sums are those of what its `compress/gzip` makes of the same.
    #[test]
    fn the_bytes_are_those_of_go() {
        for (length, kinds, again, size, sum) in CASES {
            let bytes = Noise(length as u64).bytes(length, kinds, again);
            let gzip = compress(&bytes);
            let mut crc = flate2::Crc::new();
            crc.update(&gzip);
            assert_eq!((gzip.len(), crc.sum()), (size, sum), "{length} {kinds} {again}");
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{length} {kinds} {again}");
        }
    }

    const CASES: [(usize, u64, u64, usize, u32); 16] = [
        (0, 1, 0, 28, 0xdf85_d7b5),
        (1, 256, 0, 30, 0x1103_6171),
        (7, 2, 0, 34, 0x1910_9027),
        (40, 256, 0, 70, 0x85d7_c57b),
        (300, 3, 0, 124, 0x592f_2817),
        (300, 256, 9, 58, 0xa56_ccb1),
        (5_000, 4, 0, 1647, 0x2bf1_450b),
        (5_000, 256, 0, 5033, 0x46b3_9687),
        (20_000, 200, 30, 2339, 0xb706_0006),
        (66_000, 256, 0, 66053, 0x8f7c_2392),
        (66_000, 1, 0, 107, 0x7f26_0a23),
        (70_001, 26, 40, 6199, 0x5bba_d717),
        (131_072, 256, 200, 69845, 0x7bc7_5ef9),
        (150_000, 90, 0, 123299, 0x74ce_135c),
        (400_000, 250, 100, 180118, 0xfe79_d4b8),
        (1_000_000, 40, 20, 139819, 0x5e7f_6bb4),
    ];
}
