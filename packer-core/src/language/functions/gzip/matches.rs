//! Bytes as literals and as references to what stood before, chosen as Go's compressor chooses at its default level: through
//! chains of places with the same four bytes, and one byte later where that gives a longer match.

/// How far back a reference may reach.
const WINDOW: usize = 1 << 15;
/// The shortest match that is used, and the longest there is.
const SHORTEST: usize = 4;
const LONGEST: usize = 258;
/// The bytes that must lie ahead unless the end is near.
const AHEAD: usize = SHORTEST + LONGEST;
/// A match of the shortest length must not lie farther back than this.
const NEAR: usize = 4096;
/// So many tokens fill a block.
const BLOCK: usize = 1 << 14;
/// A match so long is not looked for a better one behind it.
const LAZY: usize = 16;
/// A match so long ends the search.
const NICE: usize = 128;
/// So many places are looked at.
const CHAIN: usize = 128;
const HASH_BITS: u32 = 17;

/// A part of a block.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Literal(u8),
    Match { length: u16, distance: u16 },
}

/// Gives `each` block its tokens, and the bytes that they stand for where the window still has them.
pub(super) fn blocks(bytes: &[u8], mut each: impl FnMut(&[Token], Option<&[u8]>)) {
    let mut window = Window::of(bytes);
    let mut tokens = Vec::with_capacity(BLOCK.min(bytes.len()));
    // Where the block begins; `None` when that place has left the window.
    let mut block_start = Some(0);
    let mut index = 0;
    let mut found: Option<Match> = None;
    // Whether the byte before `index` is in no token yet.
    let mut literal_waits = false;
    loop {
        if window.end < bytes.len() && window.end - index < AHEAD {
            block_start = block_start.filter(|start| *start >= window.start + WINDOW);
            window.slide();
        }
        if index == window.end {
            break;
        }
        window.enter(index);
        let before = found.take();
        if before.is_none_or(|m| m.length < LAZY) {
            found = window.find(index, before.map_or(SHORTEST - 1, |m| m.length));
        }
        // The bytes before this place are in tokens.
        let mut done = index;
        match before {
            Some(best) if found.is_none_or(|m| m.length <= best.length) => {
                // Both fit: 258 and 32,768 at most.
                tokens.push(Token::Match { length: best.length as u16, distance: best.distance as u16 });
                done = index - 1 + best.length;
                (index + 1..done).for_each(|i| window.enter(i));
                index = done;
                found = None;
                literal_waits = false;
            }
            _ => {
                if literal_waits {
                    tokens.push(Token::Literal(bytes[index - 1]));
                }
                literal_waits = true;
                index += 1;
            }
        }
        if tokens.len() == BLOCK {
            each(&tokens, block_start.map(|start| &bytes[start..done]));
            block_start = Some(done);
            tokens.clear();
        }
    }
    if literal_waits {
        tokens.push(Token::Literal(bytes[index - 1]));
    }
    if !tokens.is_empty() {
        each(&tokens, block_start.map(|start| &bytes[start..]));
    }
}

/// What stood before again.
#[derive(Clone, Copy)]
struct Match {
    length: usize,
    distance: usize,
}

/// The part of the bytes that is looked at, and where each four of them stood before.
struct Window<'a> {
    bytes: &'a [u8],
    /// Nothing before this place is known any more.
    start: usize,
    end: usize,
    /// By the hash of four bytes, one more than the last place where they stood; 0 where they did not.
    heads: Vec<u32>,
    /// By the lowest bits of a place, the same of the place before.
    previous: Vec<u32>,
}

impl<'a> Window<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let end = bytes.len().min(2 * WINDOW);
        Self { bytes, start: 0, end, heads: vec![0; 1 << HASH_BITS], previous: vec![0; WINDOW] }
    }

    fn slide(&mut self) {
        self.start += WINDOW;
        self.end = self.bytes.len().min(self.end + WINDOW);
    }

    /// Notes where these four bytes stand.
    fn enter(&mut self, index: usize) {
        let four = self.bytes[..self.end].get(index..).and_then(|rest| rest.first_chunk::<SHORTEST>());
        let Some(four) = four else { return };
        let hash = u32::from_be_bytes(*four).wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS);
        let head = &mut self.heads[hash as usize];
        self.previous[index % WINDOW] = *head;
        *head = index as u32 + 1; // values are far smaller than 4 GiB
    }

    /// The longest match of the bytes at a place, which [`enter`](Self::enter) was the last to note, if more than `above`
    /// bytes lie ahead.
    fn find(&self, index: usize, above: usize) -> Option<Match> {
        let ahead = self.end - index;
        if ahead <= above {
            return None;
        }
        let (longest, nice) = (ahead.min(LONGEST), ahead.min(NICE));
        let here = &self.bytes[index..index + longest];
        let oldest = index.saturating_sub(WINDOW).max(self.start);
        let (mut best, mut length) = (None, SHORTEST - 1);
        let mut at = index;
        for _ in 0..CHAIN {
            at = match (self.previous[at % WINDOW] as usize).checked_sub(1) {
                Some(earlier) if earlier >= oldest => earlier,
                _ => break,
            };
            let there = &self.bytes[at..at + longest];
            if here[length] == there[length] {
                let same = here.iter().zip(there).take_while(|(a, b)| a == b).count();
                if same > length && (same > SHORTEST || index - at <= NEAR) {
                    best = Some(Match { length: same, distance: index - at });
                    length = same;
                    if same >= nice {
                        break;
                    }
                }
            }
            // The place before is no longer known: this one's is in its stead.
            if index - at == WINDOW {
                break;
            }
        }
        best
    }
}
