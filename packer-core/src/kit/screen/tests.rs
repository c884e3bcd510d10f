use super::font::{OTHERS, glyphs};
use super::*;

type Colour = [u8; 3];

fn stamp(screen: &mut Screen, shape: u128, (left, top): (usize, usize), front: Colour) {
    for (y, bits) in shape.to_be_bytes().iter().enumerate() {
        let pixels = screen.part_mut(left, top + y, 8).unwrap();
        for (x, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            if bits >> (7 - x) & 1 == 1 {
                pixel.copy_from_slice(&front);
            }
        }
    }
}

/// Draws a text with the first shape of each character.
fn draw(lines: &[&str], cell: usize, size: (u32, u32), back: Colour, front: Colour) -> Screen {
    let glyphs = glyphs();
    let mut screen = Screen::from_rgb(size.0, size.1, back.repeat((size.0 * size.1) as usize)).unwrap();
    for (row, line) in lines.iter().enumerate() {
        for (column, c) in line.chars().enumerate() {
            let shape = glyphs.iter().find(|g| g.character == c).unwrap().shape;
            stamp(&mut screen, shape, (column * cell, row * 16), front);
        }
    }
    screen
}

const LINES: [&str; 4] = [
    "Debian GNU/Linux 13 tty1",
    "",
    "  host login: _ ┌─┐║ ÄöÜß",
    "!\"#$%&'()*+,-./0123456789:;<=>?@[\\]^`{|}~ OQ0",
];

#[test]
fn the_text_of_consoles_is_read_in_any_colour() {
    for (cell, size) in
        [(9, (720, 400)), (8, (640, 400)), (8, (1024, 768)), (8, (1366, 768)), (8, (1280, 800))]
    {
        for (back, front) in [([0; 3], [170; 3]), ([0, 0, 170], [255, 255, 85]), ([255; 3], [0; 3])] {
            let screen = draw(&LINES, cell, size, back, front);
            assert_eq!(screen.text(), LINES.join("\n"), "{size:?} {back:?}");
        }
    }
}

#[test]
fn every_shape_is_read_as_its_character() {
    let glyphs = glyphs();
    // Code page 437, and the shapes of our own.
    assert_eq!(glyphs.len(), 256 + 38);
    for c in '!'..='~' {
        let line = format!("xyz{c}");
        assert_eq!(draw(&[&line], 8, (640, 400), [0; 3], [9; 3]).text(), line);
    }
    for (c, shape) in OTHERS {
        let mut screen = draw(&["xyz"], 8, (640, 400), [0; 3], [9; 3]);
        stamp(&mut screen, *shape, (24, 0), [9; 3]);
        assert_eq!(screen.text(), format!("xyz{c}"));
    }
}

#[test]
fn a_few_pixels_a_cursor_and_reverse_colours_do_not_matter() {
    let mut screen = draw(&["boot: linux", "ok"], 9, (720, 400), [0; 3], [170; 3]);
    // A cursor behind the text, and one below a letter.
    for (x, row) in [(11 * 9, 0), (0, 0), (2 * 9, 1)] {
        for y in [13, 14] {
            screen.part_mut(x, row * 16 + y, 9).unwrap().fill(170);
        }
    }
    // Some pixels of the next letter.
    for (x, y) in [(9, 0), (10, 1), (16, 15)] {
        screen.part_mut(x, y, 1).unwrap().fill(170);
    }
    // The last line with its colours exchanged.
    for y in 16..32 {
        for value in screen.part_mut(0, y, 18).unwrap() {
            *value = 170 - *value;
        }
    }
    assert_eq!(screen.text(), "boot: linux\nok");
}

#[test]
fn a_logo_beside_the_text_does_not_matter_and_other_pictures_have_no_text() {
    let noise = |x: usize, y: usize, c: usize| (x * 7 + y * 13 + c * 31 + x * y % 11) as u8;
    let mut screen = draw(
        &["", "", "", "", "", "booting the kernel with a line that is long enough"],
        8,
        (640, 480),
        [0; 3],
        [170; 3],
    );
    for y in 0..64 {
        for (i, value) in screen.part_mut(0, y, 64).unwrap().iter_mut().enumerate() {
            *value = noise(i / 3, y, i % 3);
        }
    }
    assert!(screen.text().contains("\nbooting the kernel with a line"), "{}", screen.text());
    let picture =
        (0..768).flat_map(|y| (0..1024).flat_map(move |x| (0..3).map(move |c| noise(x, y, c)))).collect();
    assert_eq!(Screen::from_rgb(1024, 768, picture).unwrap().text(), "");
    assert_eq!(Screen::black(720, 400).unwrap().text(), "");
    // Dots of one colour here and there.
    let mut random = 1_u32;
    let dots = (0..720 * 400).flat_map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        [if random >> 31 == 1 { 255 } else { 0 }; 3]
    });
    assert_eq!(Screen::from_rgb(720, 400, dots.collect()).unwrap().text(), "");
    for (width, height) in [(0, 0), (5, 5), (9, 16), (7, 400), (720, 15)] {
        assert_eq!(Screen::black(width, height).unwrap().text(), "");
    }
}

#[test]
fn pictures_are_written_as_png() {
    let screen = draw(&LINES, 9, (720, 400), [0, 0, 170], [255, 255, 85]);
    let file = screen.png().unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (720, 400));
    assert_eq!(Screen::from_rgb(720, 400, pixels).unwrap(), screen);
    assert!(Screen::black(0, 0).unwrap().png().is_err());
}

#[test]
fn pictures_are_bounded_and_have_all_their_pixels() {
    assert!(Screen::black(16 * 1024 + 1, 1).is_err());
    assert!(Screen::black(16 * 1024, 16 * 1024).is_err());
    assert!(Screen::black(u32::MAX, u32::MAX).is_err());
    assert!(Screen::from_rgb(2, 2, vec![0; 11]).is_err());
}

#[test]
fn a_cursor_is_no_larger_than_a_character() {
    let black = Screen::black(640, 400).unwrap();
    let with = |x: usize, y: usize| {
        let mut screen = black.clone();
        screen.part_mut(100, 100, 8).unwrap().fill(255);
        screen.part_mut(x, y, 1).unwrap().fill(255);
        screen
    };
    assert!(with(100, 101).differs_in_a_cell(&black) && black.differs_in_a_cell(&black));
    assert!(!with(200, 100).differs_in_a_cell(&black) && !with(100, 200).differs_in_a_cell(&black));
    assert!(!Screen::black(640, 480).unwrap().differs_in_a_cell(&black));
    assert!(black.same_as(&black.clone()) && !with(0, 0).same_as(&black));
}
