//! Answers in XML: of EC2, IAM, STS and S3.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

/// How deep elements may stand in each other. Answers need a dozen.
const DEEPEST: usize = 64;

/// How many elements an answer may have.
const MOST: usize = 1 << 20;

/// An element of an answer: what it is called, its text, and what stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Xml {
    /// Its name, without a namespace.
    pub name: String,
    /// Its text, without spaces around it.
    pub text: String,
    /// The elements in it.
    pub children: Vec<Self>,
}

impl Xml {
    /// Reads an answer; the result is its outermost element.
    ///
    /// # Errors
    /// Where it is no XML, or deeper or longer than any answer is.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let mut reader = Reader::from_str(text);
        // The outermost stands for the answer itself.
        let mut open = vec![Self::default()];
        let mut count = 0;
        loop {
            let event = reader.read_event().map_err(|e| e.to_string())?;
            let empty = matches!(event, Event::Empty(_));
            match event {
                Event::Start(start) | Event::Empty(start) => {
                    count += 1;
                    if open.len() > DEEPEST || count > MOST {
                        return Err(format!("it has more than {DEEPEST} levels or {MOST} elements"));
                    }
                    open.push(Self { name: name_of(&start), ..Self::default() });
                    if empty {
                        close(&mut open);
                    }
                }
                Event::End(_) => close(&mut open),
                Event::Text(part) => append(&mut open, &part.xml10_content()),
                Event::CData(part) => append(&mut open, &part.xml10_content()),
                Event::GeneralRef(part) => match part.resolve_char_ref().map_err(|e| e.to_string())? {
                    Some(char) => append(&mut open, char.encode_utf8(&mut [0; 4])),
                    None => {
                        let entity = resolve_predefined_entity(&part).ok_or("it has an unknown entity")?;
                        append(&mut open, entity);
                    }
                },
                Event::Eof => break,
                _ => {}
            }
        }
        if open.len() > 1 {
            return Err("it breaks off".to_owned());
        }
        open.pop().and_then(|mut all| all.children.pop()).ok_or_else(|| "it is empty".to_owned())
    }

    /// The first element with this name in it.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The element at the end of a way of names with dots between them: `GetCallerIdentityResult.Arn`.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |element, name| element.child(name))
    }

    /// The text of the element there; empty where there is none.
    pub fn text_at(&self, path: &str) -> &str {
        self.at(path).map_or("", |element| &element.text)
    }

    /// All elements with this name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

fn name_of(start: &BytesStart<'_>) -> String {
    start.local_name().as_ref().to_owned()
}

fn append(open: &mut [Xml], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn close(open: &mut Vec<Xml>) {
    if open.len() > 1
        && let Some(mut element) = open.pop()
        && let Some(around) = open.last_mut()
    {
        let text = element.text.trim();
        if text.len() < element.text.len() {
            element.text = text.to_owned();
        }
        around.children.push(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_trees() {
        let xml = Xml::parse(
            b"<?xml version=\"1.0\"?><r xmlns=\"u\"><a> x &amp; &#65;<![CDATA[<]]> </a><b><c>1</c><c>2</c><d/></b></r>",
        )
        .unwrap();
        assert_eq!((xml.name.as_str(), xml.text_at("a")), ("r", "x & A<"));
        let texts: Vec<_> = xml.at("b").unwrap().all("c").map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["1", "2"]);
        assert_eq!(xml.text_at("b.d"), "");
        assert_eq!(xml.at("b.e.f"), None);
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let deep = format!("{}{}", "<a>".repeat(DEEPEST + 1), "</a>".repeat(DEEPEST + 1));
        let bad = ["", "<a>", "<a></b>", "no xml", "<a>&nothing;</a>", &deep];
        for bad in bad {
            assert!(Xml::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Xml::parse(b"<a>\xff</a>").is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_crashes_it(text in "[<>/a-c&;#x!\\[\\]CDATA \"=?-]{0,80}") {
            let _ = Xml::parse(text.as_bytes());
        }
    }
}
