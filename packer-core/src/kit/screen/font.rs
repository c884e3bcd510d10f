//! The letters of text consoles: bitmaps of 8x16 pixels, and the characters that they stand for.
//!
//! `vga8x16.bin` is the font of the crate `vga` 0.2.9 (MIT or Apache-2.0), in the order of code page 437. Consoles draw some
//! letters a little otherwise: the shapes that differ by more than a few pixels stand here.

/// The bitmaps of code page 437: of each character 16 lines of 8 pixels, the leftmost in the highest bit.
const BITMAPS: &[u8] = include_bytes!("vga8x16.bin");

/// The characters below the space, those of ASCII, and those behind it.
const CONTROLS: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const BEHIND: &str = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

/// Other shapes: those of the VGA's text mode, and of Linux' console.
pub(super) const OTHERS: &[(char, u128)] = &[
    ('$', 0x18187cc6_c2c07c06_0686c67c_18180000),
    ('0', 0x00003c66_c3c3dbdb_c3c3663c_00000000),
    ('0', 0x0000386c_c6c6d6d6_c6c66c38_00000000),
    ('=', 0x00000000_007e0000_7e000000_00000000),
    ('M', 0x0000c3e7_ffffdbc3_c3c3c3c3_00000000),
    ('O', 0x00007cc6_c6c6c6c6_c6c6c67c_00000000),
    ('T', 0x0000ffdb_99181818_1818183c_00000000),
    ('V', 0x0000c3c3_c3c3c3c3_c3663c18_00000000),
    ('W', 0x0000c3c3_c3c3c3db_dbff6666_00000000),
    ('W', 0x0000c6c6_c6c6d6d6_d6feee6c_00000000),
    ('X', 0x0000c3c3_663c1818_3c66c3c3_00000000),
    ('Y', 0x0000c3c3_c3663c18_1818183c_00000000),
    ('Z', 0x0000ffc3_860c1830_60c1c3ff_00000000),
    ('f', 0x00001c36_32307830_30303078_00000000),
    ('m', 0x00000000_00e6ffdb_dbdbdbdb_00000000),
    ('v', 0x00000000_00c3c3c3_c3663c18_00000000),
    ('v', 0x00000000_00c6c6c6_c6c66c38_00000000),
    ('w', 0x00000000_00c3c3c3_dbdbff66_00000000),
    ('x', 0x00000000_00c3663c_183c66c3_00000000),
    ('~', 0x0076dc00_00000000_00000000_00000000),
    ('ü', 0x0000cc00_00cccccc_cccccc76_00000000),
    ('ä', 0x0000cc00_00780c7c_cccccc76_00000000),
    ('ë', 0x0000c600_007cc6fe_c0c0c67c_00000000),
    ('ï', 0x00006600_00381818_1818183c_00000000),
    ('Ä', 0x00c60010_386cc6c6_fec6c6c6_00000000),
    ('æ', 0x00000000_006e3b1b_7ed8dc77_00000000),
    ('ö', 0x0000c600_007cc6c6_c6c6c67c_00000000),
    ('ÿ', 0x0000c600_00c6c6c6_c6c6c67e_060c7800),
    ('Ö', 0x00c6007c_c6c6c6c6_c6c6c67c_00000000),
    ('Ü', 0x00c600c6_c6c6c6c6_c6c6c67c_00000000),
    ('¢', 0x0018187e_c3c0c0c0_c37e1818_00000000),
    ('¥', 0x0000c366_3c18ff18_ff181818_00000000),
    ('₧', 0x00fc6666_7c62666f_666666f3_00000000),
    ('¼', 0x00c0c0c2_c6cc1830_66ce963e_06060000),
    ('«', 0x00000000_00366cd8_6c360000_00000000),
    ('»', 0x00000000_00d86c36_6cd80000_00000000),
    ('ß', 0x000078cc_ccccd8cc_c6c6c6cc_00000000),
    ('π', 0x00000000_fe6c6c6c_6c6c6c6c_00000000),
];

/// A shape and its character.
pub(super) struct Glyph {
    /// 16 lines of 8 pixels, the first line in the highest bits.
    pub(super) shape: u128,
    pub(super) character: char,
}

/// All shapes, those of ASCII first: of several that are equally near the first one is meant.
pub(super) fn glyphs() -> Vec<Glyph> {
    let shapes = BITMAPS.as_chunks::<16>().0.iter().map(|shape| u128::from_be_bytes(*shape));
    let ascii = (' '..='~').chain(BEHIND.chars());
    let characters = CONTROLS.chars().chain(ascii);
    let all: Vec<Glyph> =
        characters.zip(shapes).map(|(character, shape)| Glyph { shape, character }).collect();
    let (ascii, rest): (Vec<Glyph>, Vec<Glyph>) = all.into_iter().partition(|g| g.character.is_ascii());
    let others = OTHERS.iter().map(|(character, shape)| Glyph { shape: *shape, character: *character });
    ascii.into_iter().chain(others).chain(rest).collect()
}
