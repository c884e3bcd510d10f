//! The keys of a boot command, independent of how they reach a machine.

/// A key of a keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The key that gives this character, perhaps with shift; see [`needs_shift`](Self::needs_shift).
    Char(char),
    /// A key with a name.
    Special(Special),
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Motion {
    /// It goes down, and stays there.
    Down,
    /// It comes up again.
    Up,
}

impl Key {
    /// Whether the character takes shift on a keyboard of the United States: capital letters (of any script) and the upper
    /// ones of the other keys.
    pub fn needs_shift(self) -> bool {
        match self {
            Self::Char(c) => is_capital(c) || r#"~!@#$%^&*()_+{}|:"<>?"#.contains(c),
            Self::Special(_) => false,
        }
    }
}

/// A letter of the general category Lu: what is upper-case to Rust, less symbols that only look like it.
fn is_capital(c: char) -> bool {
    let symbol = matches!(c, '\u{2160}'..='\u{216f}' | '\u{24b6}'..='\u{24cf}' | '\u{1f130}'..='\u{1f189}');
    c.is_uppercase() && !symbol
}

macro_rules! specials {
    ($($name:literal $variant:ident $keysym:literal $what:literal,)+) => {
        /// A key with a name, as it stands in `<…>`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Special {
            $(#[doc = $what] $variant,)+
        }

        impl Special {
            /// The key of this name, in letters of any size: `enter`, `pageUp`, `F1`.
            pub fn named(name: &str) -> Option<Self> {
                match name.to_ascii_lowercase().as_str() {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its number in X11 and VNC.
            pub fn keysym(self) -> u32 {
                match self {
                    $(Self::$variant => $keysym,)+
                }
            }
        }
    };
}

specials! {
    "bs" Backspace 0xff08 "Backspace.",
    "del" Delete 0xffff "Delete.",
    "enter" Enter 0xff0d "Enter.",
    "return" Return 0xff0d "Return, the same key as Enter.",
    "esc" Escape 0xff1b "Escape.",
    "tab" Tab 0xff09 "Tabulator.",
    "f1" F1 0xffbe "F1.",
    "f2" F2 0xffbf "F2.",
    "f3" F3 0xffc0 "F3.",
    "f4" F4 0xffc1 "F4.",
    "f5" F5 0xffc2 "F5.",
    "f6" F6 0xffc3 "F6.",
    "f7" F7 0xffc4 "F7.",
    "f8" F8 0xffc5 "F8.",
    "f9" F9 0xffc6 "F9.",
    "f10" F10 0xffc7 "F10.",
    "f11" F11 0xffc8 "F11.",
    "f12" F12 0xffc9 "F12.",
    "up" Up 0xff52 "The arrow up.",
    "down" Down 0xff54 "The arrow down.",
    "left" Left 0xff51 "The arrow to the left.",
    "right" Right 0xff53 "The arrow to the right.",
    "spacebar" Space 0x0020 "The space bar.",
    "insert" Insert 0xff63 "Insert.",
    "home" Home 0xff50 "Home.",
    "end" End 0xff57 "End.",
    "pageup" PageUp 0xff55 "Page up.",
    "pagedown" PageDown 0xff56 "Page down.",
    "menu" Menu 0xff67 "The key for the menu of the context.",
    "leftalt" LeftAlt 0xffe9 "Left Alt.",
    "rightalt" RightAlt 0xffea "Right Alt.",
    "leftctrl" LeftCtrl 0xffe3 "Left Control.",
    "rightctrl" RightCtrl 0xffe4 "Right Control.",
    "leftshift" LeftShift 0xffe1 "Left Shift.",
    "rightshift" RightShift 0xffe2 "Right Shift.",
    "leftsuper" LeftSuper 0xffeb "The left key with a logo.",
    "rightsuper" RightSuper 0xffec "The right key with a logo.",
    "leftcommand" LeftCommand 0xffe9 "Left Command of a Mac.",
    "rightcommand" RightCommand 0xffea "Right Command of a Mac.",
    "leftoption" LeftOption 0xffe7 "Left Option of a Mac.",
    "rightoption" RightOption 0xffe8 "Right Option of a Mac.",
}
