//! Huffman codes of limited length. Where several codes are as short, the one that Go's compressor takes.

/// The code of one symbol: its bits as they are written, the lowest first.
#[derive(Clone, Copy, Default)]
pub(super) struct Code {
    pub(super) bits: u16,
    pub(super) length: u8,
}

/// A code for symbols that occur so often, none longer than `most` bits. A symbol that does not occur has none.
pub(super) fn codes(frequencies: &[u32], most: usize) -> Vec<Code> {
    canonical(&lengths(frequencies, most))
}

/// How many bits the symbols take together.
pub(super) fn size(frequencies: &[u32], codes: &[Code]) -> u64 {
    frequencies.iter().zip(codes).map(|(f, code)| u64::from(*f) * u64::from(code.length)).sum()
}

/// The length of each symbol's code, by package-merge: rows of leaves and of pairs from the row below, in the order of their
/// weights; a pair goes before a leaf that is as heavy.
fn lengths(frequencies: &[u32], most: usize) -> Vec<u8> {
    let mut lengths = vec![0; frequencies.len()];
    let mut symbols: Vec<usize> = (0..frequencies.len()).filter(|s| frequencies[*s] > 0).collect();
    if symbols.len() <= 2 {
        symbols.into_iter().for_each(|s| lengths[s] = 1);
        return lengths;
    }
    symbols.sort_by_key(|s| (frequencies[*s], *s));
    let wanted = 2 * symbols.len() - 2;
    let mut rows: Vec<Vec<Item>> = Vec::new();
    for _ in 0..most.min(symbols.len() - 1) {
        let below = rows.last().map_or(&[][..], Vec::as_slice);
        let mut pairs =
            below.chunks_exact(2).map(|pair| pair.iter().map(|item| item.weight).sum()).peekable();
        let mut leaves = symbols.iter().map(|s| u64::from(frequencies[*s])).peekable();
        let mut row = Vec::with_capacity(wanted);
        while row.len() < wanted {
            let leaf = match (leaves.peek(), pairs.peek()) {
                (Some(leaf), Some(pair)) => leaf < pair,
                (leaf, _) => leaf.is_some(),
            };
            let Some(weight) = (if leaf { leaves.next() } else { pairs.next() }) else { break };
            row.push(Item { weight, leaf });
        }
        rows.push(row);
    }
    // From the top row down: each leaf that was taken makes a code longer by one bit, the rarest first.
    let mut taken = wanted;
    for row in rows.iter().rev() {
        let leaves = row.iter().take(taken).filter(|item| item.leaf).count();
        symbols.iter().take(leaves).for_each(|s| lengths[*s] += 1);
        taken = 2 * (taken - leaves);
    }
    lengths
}

struct Item {
    weight: u64,
    leaf: bool,
}

/// The codes of these lengths, counted up from the shortest, and among those of one length from the lowest symbol.
pub(super) fn canonical(lengths: &[u8]) -> Vec<Code> {
    let mut codes = vec![Code::default(); lengths.len()];
    let mut next = 0u16;
    for length in 1..=15 {
        next <<= 1;
        for (code, _) in codes.iter_mut().zip(lengths).filter(|(_, l)| **l == length) {
            *code = Code { bits: next.reverse_bits() >> (16 - length), length };
            next += 1;
        }
    }
    codes
}
