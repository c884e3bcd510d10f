//! Reads the text of a console: finds the grid of its characters and compares each with the shapes of the font.

use std::collections::HashMap;

use super::Screen;
use super::font::{Glyph, glyphs};

/// The width and height of a character's place. Nine pixels are the VGA's own: the ninth only joins lines of tables.
const GRIDS: [(usize, usize); 2] = [(9, 16), (8, 16)];
/// So many pixels of a character may be other than in the font.
const TOLERANCE: u32 = 5;
/// The lines of a character in which a cursor blinks.
const CURSOR: u128 = 0xffff_ffff;
/// What stands for a sign that is not known.
const UNKNOWN: char = '\u{fffd}';

/// The text of a picture; empty where it is no text console.
pub(super) fn of(screen: &Screen) -> String {
    let mut font = Font { glyphs: glyphs(), known: HashMap::new() };
    let pages = GRIDS.iter().map(|(width, height)| Page::read(screen, &mut font, *width, *height));
    let best = pages.filter(Page::is_text).max_by_key(|page| page.known);
    best.map(|page| page.text.trim_end().to_owned()).unwrap_or_default()
}

/// What was read by one grid.
struct Page {
    text: String,
    /// How many signs are known, how many of them are letters and digits, and how many are not known.
    known: usize,
    letters: usize,
    unknown: usize,
}

impl Page {
    fn read(screen: &Screen, font: &mut Font, width: usize, height: usize) -> Self {
        let mut page = Self { text: String::new(), known: 0, letters: 0, unknown: 0 };
        let line = screen.width as usize * 3;
        // Another width cannot be of the VGA's text mode.
        if line == 0 || (width == 9 && !(screen.width as usize).is_multiple_of(9)) {
            return page;
        }
        for row in screen.rgb().chunks_exact(line * height) {
            for column in 0..screen.width as usize / width {
                let read = shape(row, line, column * width).map_or(Some(UNKNOWN), |shape| font.find(shape));
                let character = read.unwrap_or(UNKNOWN);
                match character {
                    UNKNOWN => page.unknown += 1,
                    c if c.is_whitespace() => {}
                    c => {
                        page.known += 1;
                        page.letters += usize::from(c.is_alphanumeric());
                    }
                }
                page.text.push(character);
            }
            page.text.truncate(page.text.trim_end_matches(' ').len());
            page.text.push('\n');
        }
        page
    }

    /// Whether that is a text: most signs are known, and some are letters. A picture may stand beside it.
    fn is_text(&self) -> bool {
        self.letters >= 2 && self.known * 2 > self.known + self.unknown
    }
}

/// The shape at a place in a row of characters: which pixels have the rarer of two colours. `None` where there are more.
fn shape(row: &[u8], line: usize, x: usize) -> Option<u128> {
    let mut first: Option<&[u8]> = None;
    let mut other: Option<&[u8]> = None;
    let mut shape = 0_u128;
    for pixels in row.chunks_exact(line) {
        for pixel in pixels.get(x * 3..(x + 8) * 3)?.chunks_exact(3) {
            let is_first = pixel == *first.get_or_insert(pixel);
            if !is_first && pixel != *other.get_or_insert(pixel) {
                return None;
            }
            shape = (shape << 1) | u128::from(!is_first);
        }
    }
    Some(if shape.count_ones() > 64 { !shape } else { shape })
}

struct Font {
    glyphs: Vec<Glyph>,
    /// What was found already: most places of a screen look alike.
    known: HashMap<u128, Option<char>>,
}

impl Font {
    fn find(&mut self, shape: u128) -> Option<char> {
        if shape == 0 {
            return Some(' ');
        }
        if let Some(known) = self.known.get(&shape) {
            return *known;
        }
        // White on black, and black on white.
        let mut found = self.nearest(shape, u128::MAX).or_else(|| self.nearest(!shape, u128::MAX));
        if found.is_none() && shape & 0x00ff_ff00 == 0x00ff_ff00 {
            found = self.nearest(shape, !CURSOR);
        }
        self.known.insert(shape, found);
        found
    }

    /// The character that is nearest in the lines that count, if it is near enough.
    fn nearest(&self, shape: u128, lines: u128) -> Option<char> {
        let distance = |glyph: &&Glyph| ((glyph.shape ^ shape) & lines).count_ones();
        let nearest = self.glyphs.iter().min_by_key(distance)?;
        (distance(&nearest) <= TOLERANCE).then_some(nearest.character)
    }
}
