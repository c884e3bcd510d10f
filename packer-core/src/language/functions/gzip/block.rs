//! Blocks of a compressed stream: plain, in the fixed code, or in a code of their own, whichever is the shortest.

use std::sync::LazyLock;

use super::bits::Bits;
use super::huffman::{self, Code};
use super::matches::Token;

/// The symbol that ends a block; those of lengths follow.
const END: usize = 256;
const LENGTHS: usize = 257;
const SYMBOLS: usize = 286;
const DISTANCES: usize = 30;
/// The order in which a block's own code tells the lengths of the code for lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// What a plain block can hold.
const MOST_PLAIN: usize = 0xffff;

/// A symbol with further bits behind it.
struct Symbol {
    symbol: usize,
    bits: u32,
    extra: u32,
}

/// The symbol for the length of a match.
fn length_symbol(length: u16) -> Symbol {
    let x = u32::from(length) - 3;
    match x {
        0..=7 => Symbol { symbol: LENGTHS + x as usize, bits: 0, extra: 0 },
        255 => Symbol { symbol: SYMBOLS - 1, bits: 0, extra: 0 },
        _ => {
            let bits = x.ilog2() - 2;
            Symbol { symbol: LENGTHS + (4 * bits + (x >> bits)) as usize, bits, extra: x & ((1 << bits) - 1) }
        }
    }
}

/// The symbol for its distance.
fn distance_symbol(distance: u16) -> Symbol {
    let x = u32::from(distance) - 1;
    if x < 4 {
        return Symbol { symbol: x as usize, bits: 0, extra: 0 };
    }
    let bits = x.ilog2() - 1;
    Symbol { symbol: (2 * bits + (x >> bits)) as usize, bits, extra: x & ((1 << bits) - 1) }
}

/// The codes for symbols and for distances.
struct Codes {
    symbols: Vec<Code>,
    distances: Vec<Code>,
}

static FIXED: LazyLock<Codes> = LazyLock::new(|| {
    let symbols: Vec<u8> = [(8, 144), (9, 112), (7, 24), (8, 8)]
        .into_iter()
        .flat_map(|(length, count)| std::iter::repeat_n(length, count))
        .collect();
    Codes { symbols: huffman::canonical(&symbols), distances: huffman::canonical(&[5; DISTANCES]) }
});

/// Writes a block of tokens. `plain` are the bytes that they stand for, where they are at hand.
pub(super) fn write(out: &mut Bits, tokens: &[Token], plain: Option<&[u8]>) {
    let mut symbols = [0u32; SYMBOLS];
    let mut distances = [0u32; DISTANCES];
    let mut extra = 0u64;
    symbols[END] = 1;
    for token in tokens {
        match *token {
            Token::Literal(byte) => symbols[usize::from(byte)] += 1,
            Token::Match { length, distance } => {
                let (length, distance) = (length_symbol(length), distance_symbol(distance));
                symbols[length.symbol] += 1;
                distances[distance.symbol] += 1;
                extra += u64::from(length.bits + distance.bits);
            }
        }
    }
    // A code for distances needs one at least, which then counts in either code.
    if distances.iter().all(|count| *count == 0) {
        distances[0] = 1;
    }
    let own = Codes { symbols: huffman::codes(&symbols, 15), distances: huffman::codes(&distances, 15) };
    let header = Header::of(&own);
    let size = |codes: &Codes| {
        huffman::size(&symbols, &codes.symbols) + huffman::size(&distances, &codes.distances) + extra
    };
    let fixed_size = 3 + size(&FIXED);
    let own_size = header.size() + size(&own);
    let plain = plain.filter(|plain| plain.len() <= MOST_PLAIN);
    match plain {
        Some(plain) if ((plain.len() as u64) + 5) * 8 < fixed_size.min(own_size) => {
            write_plain(out, plain, false);
        }
        _ if own_size < fixed_size => {
            header.write(out);
            write_tokens(out, tokens, &own);
        }
        _ => {
            out.push(0b010, 3);
            write_tokens(out, tokens, &FIXED);
        }
    }
}

/// Writes a plain block of no more than 65,535 bytes.
pub(super) fn write_plain(out: &mut Bits, bytes: &[u8], last: bool) {
    out.push(last.into(), 3);
    out.align();
    let length = bytes.len() as u32 & 0xffff;
    out.push(length, 16);
    out.push(!length & 0xffff, 16);
    out.extend(bytes);
}

fn write_tokens(out: &mut Bits, tokens: &[Token], codes: &Codes) {
    let mut put = |code: Code| out.push(code.bits.into(), code.length.into());
    let extra = |symbol: &Symbol| Code { bits: symbol.extra as u16, length: symbol.bits as u8 }; // 13 bits at most
    for token in tokens {
        match *token {
            Token::Literal(byte) => put(codes.symbols[usize::from(byte)]),
            Token::Match { length, distance } => {
                let (length, distance) = (length_symbol(length), distance_symbol(distance));
                put(codes.symbols[length.symbol]);
                put(extra(&length));
                put(codes.distances[distance.symbol]);
                put(extra(&distance));
            }
        }
    }
    put(codes.symbols[END]);
}

/// What tells a block's own codes: their lengths, runs of equal ones shortened, in a code for that.
struct Header {
    symbols: usize,
    distances: usize,
    runs: Vec<Symbol>,
    codes: Vec<Code>,
    /// How many lengths of `codes` are told.
    told: usize,
}

impl Header {
    fn of(own: &Codes) -> Self {
        let used = |codes: &[Code]| codes.iter().rposition(|code| code.length > 0).map_or(1, |last| last + 1);
        let (symbols, distances) = (used(&own.symbols), used(&own.distances));
        let lengths: Vec<u8> = own.symbols[..symbols]
            .iter()
            .chain(&own.distances[..distances])
            .map(|code| code.length)
            .collect();
        let runs: Vec<Symbol> = lengths.chunk_by(|a, b| a == b).flat_map(run).collect();
        let mut frequencies = [0u32; ORDER.len()];
        runs.iter().for_each(|run| frequencies[run.symbol] += 1);
        let codes = huffman::codes(&frequencies, 7);
        let told =
            ORDER.iter().rposition(|symbol| codes[*symbol].length > 0).map_or(0, |last| last + 1).max(4);
        Self { symbols, distances, runs, codes, told }
    }

    fn size(&self) -> u64 {
        let runs: u64 =
            self.runs.iter().map(|run| u64::from(run.bits) + u64::from(self.codes[run.symbol].length)).sum();
        3 + 5 + 5 + 4 + 3 * self.told as u64 + runs
    }

    fn write(&self, out: &mut Bits) {
        out.push(0b100, 3);
        // 286, 30 and 19 at most.
        out.push((self.symbols - LENGTHS) as u32, 5);
        out.push((self.distances - 1) as u32, 5);
        out.push((self.told - 4) as u32, 4);
        for symbol in &ORDER[..self.told] {
            out.push(self.codes[*symbol].length.into(), 3);
        }
        for run in &self.runs {
            let code = self.codes[run.symbol];
            out.push(code.bits.into(), code.length.into());
            out.push(run.extra, run.bits);
        }
    }
}

/// A run of equal lengths: the length itself, or a symbol that stands for several zeros or for the one before again.
fn run(lengths: &[u8]) -> Vec<Symbol> {
    let length = lengths.first().copied().unwrap_or_default();
    let single = || Symbol { symbol: length.into(), bits: 0, extra: 0 };
    let mut symbols = Vec::new();
    let mut left = lengths.len();
    if length > 0 {
        symbols.push(single());
        left -= 1;
        while left >= 3 {
            let count = left.min(6);
            symbols.push(Symbol { symbol: 16, bits: 2, extra: count as u32 - 3 });
            left -= count;
        }
    } else {
        while left >= 11 {
            let count = left.min(138);
            symbols.push(Symbol { symbol: 18, bits: 7, extra: count as u32 - 11 });
            left -= count;
        }
        if left >= 3 {
            symbols.push(Symbol { symbol: 17, bits: 3, extra: left as u32 - 3 });
            left = 0;
        }
    }
    symbols.extend((0..left).map(|_| single()));
    symbols
}
