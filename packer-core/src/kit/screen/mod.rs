//! A picture of a machine's screen: as a file, beside another one, and the text on it.

mod font;
mod text;

use std::sync::Arc;

use base64::Engine;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::EventKind;

/// The longest side of a picture, in pixels.
const MOST_SIDE: u32 = 16 * 1024;
/// The most pixels of a picture: 48 MiB.
const MOST_PIXELS: usize = 16 * 1024 * 1024;

/// A picture of a machine's screen. Cheap to clone.
///
/// ```
/// use packer_core::kit::screen::Screen;
/// let screen = Screen::from_rgb(2, 1, vec![0, 0, 0, 255, 255, 255])?;
/// assert!(screen.same_as(&screen.clone()));
/// assert_eq!(screen.text(), "");
/// assert!(screen.png()?.starts_with(b"\x89PNG"));
/// # Ok::<(), packer_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Screen {
    width: u32,
    height: u32,
    pixels: Arc<Vec<u8>>,
}

impl Screen {
    /// From its pixels, line by line, each of three bytes: red, green, blue.
    ///
    /// # Errors
    /// Where that is not as many bytes as there should be, or the picture too large: more than 16384 pixels wide or high, or
    /// 48 MiB.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        if pixels.len() != Self::bytes(width, height)? {
            return Err(Error::internal(format!(
                "{} bytes are no picture of {width}x{height}",
                pixels.len()
            )));
        }
        Ok(Self { width, height, pixels: Arc::new(pixels) })
    }

    /// A black one.
    ///
    /// # Errors
    /// Where it is too large, as for [`from_rgb`](Self::from_rgb).
    pub fn black(width: u32, height: u32) -> Result<Self> {
        let pixels = vec![0; Self::bytes(width, height)?];
        Ok(Self { width, height, pixels: Arc::new(pixels) })
    }

    fn bytes(width: u32, height: u32) -> Result<usize> {
        let pixels = (width as usize).saturating_mul(height as usize);
        if width > MOST_SIDE || height > MOST_SIDE || pixels > MOST_PIXELS {
            return Err(Error::provider(format!("a screen of {width}x{height} is too large")));
        }
        Ok(pixels * 3)
    }

    /// How many pixels wide it is.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// How many pixels high it is.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, line by line, each of three bytes: red, green, blue.
    pub fn rgb(&self) -> &[u8] {
        &self.pixels
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// A picture of no pixels.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        written.map_err(|e| Error::provider(format!("a picture as PNG: {e}")).with_source(e))?;
        Ok(file)
    }

    /// The event that tells of it.
    pub fn shown(&self, title: impl Into<String>) -> EventKind {
        // A screen that cannot be written as PNG is told by its text.
        let png = self.png().unwrap_or_default();
        EventKind::Screen {
            title: title.into(),
            png: base64::engine::general_purpose::STANDARD.encode(png),
            text: self.text(),
        }
    }

    /// The text on it, where it is a text console: of the VGA's text mode, or drawn with its font of 8x16 pixels as Linux
    /// does without a graphical surface. Lines without the spaces at their ends; empty lines at the end are left out. A
    /// sign that is not known is `�`. Empty for any other picture.
    pub fn text(&self) -> String {
        text::of(self)
    }

    /// Whether both show the same, pixel by pixel.
    pub fn same_as(&self, other: &Self) -> bool {
        self == other
    }

    /// Whether they differ in no more than one character has room for, as where a cursor blinks.
    pub(super) fn differs_in_a_cell(&self, other: &Self) -> bool {
        const CELL: (usize, usize) = (16, 32);
        if (self.width, self.height) != (other.width, other.height) {
            return false;
        }
        let lines = self.lines().zip(other.lines()).enumerate().filter(|(_, (one, other))| one != other);
        let (mut rows, mut columns) = (None::<(usize, usize)>, None::<(usize, usize)>);
        let grow = |range: &mut Option<(usize, usize)>, at: usize| {
            let (low, high) = range.unwrap_or((at, at));
            *range = Some((low.min(at), high.max(at)));
        };
        for (y, (one, other)) in lines {
            let pixels = one.chunks_exact(3).zip(other.chunks_exact(3)).enumerate();
            for (x, _) in pixels.filter(|(_, (one, other))| one != other) {
                grow(&mut rows, y);
                grow(&mut columns, x);
            }
        }
        let within = |range: Option<(usize, usize)>, most| range.is_none_or(|(low, high)| high - low < most);
        within(columns, CELL.0) && within(rows, CELL.1)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact((self.width as usize * 3).max(1))
    }

    /// The pixels of a part of a line, to be changed; `None` where it is not in the picture.
    pub(super) fn part_mut(&mut self, x: usize, y: usize, width: usize) -> Option<&mut [u8]> {
        let (line, left) = (self.width as usize * 3, x * 3);
        let start = y.checked_mul(line)?;
        if left + width * 3 > line {
            return None;
        }
        Arc::make_mut(&mut self.pixels).get_mut(start + left..start + left + width * 3)
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Screen({}x{})", self.width, self.height)
    }
}

impl Context {
    /// Tells what a machine's screen shows, as an [event](crate::EventKind::Screen): the timeline page of the run has the
    /// picture.
    pub fn show_screen(&self, title: impl Into<String>, screen: &Screen) {
        self.emit(screen.shown(title));
    }
}

#[cfg(test)]
mod tests;
