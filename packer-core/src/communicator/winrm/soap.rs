//! Requests and answers of WS-Management shells, as XML.

use std::fmt::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, escape::escape};
use uuid::Uuid;

use super::failure::{Class, Failure};

/// The longest request: what servers take that nobody has told otherwise.
pub(super) const LONGEST_REQUEST: usize = 153_600;
/// What a request has around the bytes that it carries, with room to spare.
const AROUND: usize = 4096;
/// How many bytes of standard input one request carries.
pub(super) const MOST_SENT: usize = (LONGEST_REQUEST - AROUND) / 4 * 3;

/// How deep elements stand in each other. Servers need a dozen.
const DEEPEST: usize = 64;

const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";

/// What is asked of the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// Make a shell: what commands run in.
    Create,
    /// Run a command.
    Command { shell: &'a str, text: &'a str },
    /// Give a command something to read.
    Send { shell: &'a str, command: &'a str, bytes: &'a [u8], last: bool },
    /// What has it printed, and has it ended?
    Receive { shell: &'a str, command: &'a str },
    /// End a command.
    Terminate { shell: &'a str, command: &'a str },
    /// End a shell with all that runs in it.
    Delete { shell: &'a str },
}

impl Request<'_> {
    /// What it does, in messages.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Create => "make a shell",
            Self::Command { .. } => "start a command",
            Self::Send { .. } => "write to a command",
            Self::Receive { .. } => "read from a command",
            Self::Terminate { .. } => "end a command",
            Self::Delete { .. } => "end a shell",
        }
    }

    /// Written out for the server at `to`, which may think so long, under a number of its own.
    pub(super) fn envelope(&self, to: &str, limit: Duration, id: Uuid) -> String {
        let (action, shell) = match self {
            Self::Create => (format!("{TRANSFER}/Create"), None),
            Self::Delete { shell } => (format!("{TRANSFER}/Delete"), Some(*shell)),
            Self::Command { shell, .. } => (format!("{SHELL}/Command"), Some(*shell)),
            Self::Send { shell, .. } => (format!("{SHELL}/Send"), Some(*shell)),
            Self::Receive { shell, .. } => (format!("{SHELL}/Receive"), Some(*shell)),
            Self::Terminate { shell, .. } => (format!("{SHELL}/Signal"), Some(*shell)),
        };
        let options: &[(&str, &str)] = match self {
            Self::Create => &[("WINRS_NOPROFILE", "FALSE"), ("WINRS_CODEPAGE", "65001")],
            Self::Command { .. } => {
                &[("WINRS_CONSOLEMODE_STDIN", "FALSE"), ("WINRS_SKIP_CMD_SHELL", "FALSE")]
            }
            _ => &[],
        };
        let mut xml = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
             xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" xmlns:rsp=\"{SHELL}\"><s:Header>\
             <a:To>{to}</a:To><a:ReplyTo><a:Address s:mustUnderstand=\"true\">\
             http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
             <w:MaxEnvelopeSize s:mustUnderstand=\"true\">{LONGEST_REQUEST}</w:MaxEnvelopeSize>\
             <a:MessageID>uuid:{id}</a:MessageID>\
             <w:Locale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>\
             <p:DataLocale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>\
             <w:OperationTimeout>{limit}</w:OperationTimeout>\
             <w:ResourceURI s:mustUnderstand=\"true\">{SHELL}/cmd</w:ResourceURI>\
             <a:Action s:mustUnderstand=\"true\">{action}</a:Action>",
            to = escape(to),
            limit = iso_8601(limit),
        );
        if !options.is_empty() {
            xml.push_str("<w:OptionSet>");
            for (name, value) in options {
                let _ = write!(xml, "<w:Option Name=\"{name}\">{value}</w:Option>");
            }
            xml.push_str("</w:OptionSet>");
        }
        if let Some(shell) = shell {
            let shell = escape(shell);
            let _ = write!(
                xml,
                "<w:SelectorSet><w:Selector Name=\"ShellId\">{shell}</w:Selector></w:SelectorSet>"
            );
        }
        xml.push_str("</s:Header><s:Body>");
        self.body(&mut xml);
        xml.push_str("</s:Body></s:Envelope>");
        xml
    }

    fn body(&self, xml: &mut String) {
        // Writing into a text cannot fail.
        let _ = match *self {
            Self::Create => write!(
                xml,
                "<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams>\
                 <rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
            ),
            Self::Command { text, .. } => {
                // Ends of lines would become other ones.
                let text = escape(text).replace('\r', "&#13;").replace('\n', "&#10;");
                write!(xml, "<rsp:CommandLine><rsp:Command>{text}</rsp:Command></rsp:CommandLine>")
            }
            Self::Send { command, bytes, last, .. } => {
                let end = if last { " End=\"true\"" } else { "" };
                let id = escape(command);
                let _ = write!(xml, "<rsp:Send><rsp:Stream Name=\"stdin\" CommandId=\"{id}\"{end}>");
                STANDARD.encode_string(bytes, xml);
                write!(xml, "</rsp:Stream></rsp:Send>")
            }
            Self::Receive { command, .. } => {
                let id = escape(command);
                write!(
                    xml,
                    "<rsp:Receive><rsp:DesiredStream CommandId=\"{id}\">stdout stderr</rsp:DesiredStream></rsp:Receive>"
                )
            }
            Self::Terminate { command, .. } => {
                let id = escape(command);
                write!(
                    xml,
                    "<rsp:Signal CommandId=\"{id}\"><rsp:Code>{SHELL}/signal/terminate</rsp:Code></rsp:Signal>"
                )
            }
            Self::Delete { .. } => Ok(()),
        };
    }
}

/// Whether XML can carry a text at all.
pub(super) fn is_carried(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

/// A duration as XML has it.
fn iso_8601(duration: Duration) -> String {
    format!("PT{}.{:03}S", duration.as_secs(), duration.subsec_millis())
}

/// What the server answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// To which request, where it says so.
    relates_to: Option<String>,
    pub(super) shell: Option<String>,
    pub(super) command: Option<String>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether the command has ended.
    pub(super) done: bool,
    pub(super) exit_code: Option<i32>,
    fault: Option<Says>,
}

/// What it says where it does not do what it was asked.
#[derive(Debug, Default, PartialEq)]
struct Says {
    code: u32,
    /// Its name for the kind of fault, such as `w:TimedOut`.
    kind: String,
    text: String,
}

impl Answer {
    /// Whether it says nothing about a command.
    pub(super) fn is_empty(&self) -> bool {
        !self.done && self.stdout.is_empty() && self.stderr.is_empty()
    }

    /// Reads an answer to the request of this number, by which something was to be done.
    ///
    /// # Errors
    /// Where it is none; what the server says.
    pub(super) fn read(xml: &str, verb: &str, id: Uuid) -> Result<Self, Failure> {
        let answer = parse(xml).map_err(|why| {
            Failure::new(Class::Http, format!("could not {verb}: the answer is not one of WinRM: {why}"))
        })?;
        let another = |name: &String| {
            let name = name.rsplit(':').next().unwrap_or_default();
            !name.is_empty() && name.parse() != Ok(id)
        };
        if answer.relates_to.as_ref().is_some_and(another) {
            let text =
                format!("could not {verb}: what came answers another request: what is between mixes them up");
            return Err(Failure::new(Class::Http, text));
        }
        match &answer.fault {
            None => Ok(answer),
            Some(says) => {
                let code = match says.code {
                    // Servers of other makes say it in words alone.
                    0 if says.kind.ends_with("TimedOut") => 0x8033_8029,
                    code => code,
                };
                let text = match says.text.trim() {
                    "" => says.kind.trim(),
                    text => text,
                };
                Err(Failure::new(
                    Class::Says(code),
                    format!("could not {verb}: {text} (WinRM code {code:#010X})"),
                ))
            }
        }
    }
}

fn parse(xml: &str) -> Result<Answer, String> {
    let mut reader = Reader::from_str(xml);
    let mut answer = Answer::default();
    // The names of the elements one is in, which say what a text is.
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut seen_envelope = false;
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(start) => {
                let name = name_of(&start);
                seen_envelope |= path.is_empty() && name == "Envelope";
                if !seen_envelope {
                    return Err(format!("it begins with <{name}>"));
                }
                if path.len() >= DEEPEST {
                    return Err(format!("its elements are more than {DEEPEST} deep"));
                }
                enter(&mut answer, &start, &name, path.len());
                path.push(label(&start, name));
                text.clear();
            }
            Event::Empty(empty) => {
                let name = name_of(&empty);
                if !seen_envelope {
                    return Err(format!("it begins with <{name}>"));
                }
                enter(&mut answer, &empty, &name, path.len());
            }
            Event::Text(part) => text.push_str(&part.xml10_content()),
            Event::CData(part) => text.push_str(&part.xml10_content()),
            Event::GeneralRef(part) => match part.resolve_char_ref().map_err(|e| e.to_string())? {
                Some(c) => text.push(c),
                None => match resolve_predefined_entity(&part.xml10_content()) {
                    Some(known) => text.push_str(known),
                    None => return Err("it names something that XML does not know".into()),
                },
            },
            Event::End(_) => {
                let label = path.pop().unwrap_or_default();
                leave(&mut answer, &label, &text, &path)?;
                text.clear();
            }
            Event::Eof if seen_envelope && path.is_empty() => return Ok(answer),
            Event::Eof => return Err("it ends in the middle".into()),
            _ => {}
        }
    }
}

fn name_of(element: &BytesStart<'_>) -> String {
    element.local_name().as_ref().to_owned()
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.try_get_attribute(name).ok().flatten()?;
    Some(found.value.to_string())
}

/// What an element is called here: some say only in an attribute what they are.
fn label(element: &BytesStart<'_>, name: String) -> String {
    match name.as_str() {
        "Stream" | "Selector" => format!("{name} {}", attribute(element, "Name").unwrap_or_default()),
        _ => name,
    }
}

fn enter(answer: &mut Answer, element: &BytesStart<'_>, name: &str, depth: usize) {
    match name {
        "Fault" if depth == 2 => answer.fault = Some(Says::default()),
        "CommandState" => {
            answer.done |= attribute(element, "State").is_some_and(|state| state.ends_with("/Done"));
        }
        "WSManFault" => {
            let code = attribute(element, "Code").and_then(|code| code.parse().ok());
            if let (Some(code), Some(says)) = (code, &mut answer.fault) {
                says.code = code;
            }
        }
        _ => {}
    }
}

fn leave(answer: &mut Answer, label: &str, text: &str, path: &[String]) -> Result<(), String> {
    let inside = |name: &str| path.last().is_some_and(|last| last == name);
    match label {
        "ShellId" | "Selector ShellId" => answer.shell = Some(text.trim().to_owned()),
        "RelatesTo" if inside("Header") => answer.relates_to = Some(text.trim().to_owned()),
        "CommandId" => answer.command = Some(text.trim().to_owned()),
        "Stream stdout" => decode(text, &mut answer.stdout)?,
        "Stream stderr" => decode(text, &mut answer.stderr)?,
        "ExitCode" => {
            let code: i64 = text.trim().parse().map_err(|_| "an exit code is no number".to_owned())?;
            // Windows counts in 32 bits without a sign; templates write negative numbers too.
            #[allow(clippy::cast_possible_truncation, reason = "the lower 32 bits are the code")]
            let code = code as i32;
            answer.exit_code = Some(code);
        }
        "Value" if inside("Subcode") => {
            if let Some(says) = &mut answer.fault {
                says.kind = text.trim().to_owned();
            }
        }
        "Text" if inside("Reason") => {
            if let Some(says) = &mut answer.fault {
                says.text = one_line(text);
            }
        }
        _ => {}
    }
    Ok(())
}

fn decode(text: &str, into: &mut Vec<u8>) -> Result<(), String> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD
        .decode_vec(&text, into)
        .map_err(|e| format!("what a command printed is not encoded as it should be: {e}"))
}

/// Servers break their sentences into lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(body: &str) -> String {
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>{body}</s:Body></s:Envelope>"
        )
    }

    #[test]
    fn a_request_holds_what_it_is_about_and_nothing_breaks_out_of_it() {
        let limit = Duration::from_millis(90_500);
        let xml = Request::Command { shell: "S<1>", text: "echo \"a\" && type <b>\r\nx" }.envelope(
            "http://h/w?a&b",
            limit,
            Uuid::nil(),
        );
        for part in [
            "<a:To>http://h/w?a&amp;b</a:To>",
            "<w:Selector Name=\"ShellId\">S&lt;1&gt;</w:Selector>",
            "<rsp:Command>echo &quot;a&quot; &amp;&amp; type &lt;b&gt;&#13;&#10;x</rsp:Command>",
            "<w:OperationTimeout>PT90.500S</w:OperationTimeout>",
            "windows/shell/Command</a:Action>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
        let bytes = vec![0xff; MOST_SENT];
        let send = Request::Send { shell: "S", command: "C", bytes: &bytes, last: true };
        let length = send.envelope("http://[2001:db8::1]:5985/wsman", limit, Uuid::nil()).len();
        assert!(length <= LONGEST_REQUEST && length > LONGEST_REQUEST - AROUND, "{length}");
        assert!(is_carried("grüße \u{1f600}\t\r\n") && !is_carried("\u{1b}[1m") && !is_carried("\0"));
    }

    #[test]
    fn answers_are_read() {
        let read = |body: &str| Answer::read(&wrapped(body), "look", Uuid::nil());
        let shell = "<x:ResourceCreated><a:ReferenceParameters><w:SelectorSet><w:Selector Name=\"ShellId\"> A-1 \
                     </w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>";
        assert_eq!(read(shell).unwrap().shell.as_deref(), Some("A-1"));
        let printed = "<r:ReceiveResponse><r:Stream Name=\"stdout\" CommandId=\"C\">b25l\r\nIA==</r:Stream>\
                       <r:Stream Name=\"stderr\" CommandId=\"C\">ZXJy</r:Stream><r:Stream Name=\"stdout\">dHdv</r:Stream>\
                       <r:Stream Name=\"stdout\" End=\"true\"/><r:CommandState State=\"http://x/CommandState/Done\">\
                       <r:ExitCode>4294967295</r:ExitCode></r:CommandState></r:ReceiveResponse>";
        let answer = read(printed).unwrap();
        assert_eq!((answer.stdout.as_slice(), answer.stderr.as_slice()), (&b"one two"[..], &b"err"[..]));
        assert_eq!((answer.done, answer.exit_code), (true, Some(-1)));
        let running = "<r:ReceiveResponse><r:CommandState State=\"http://x/CommandState/Running\"/></r:ReceiveResponse>";
        assert!(!read(running).unwrap().done);
    }

    #[test]
    fn what_the_server_says_is_told_with_its_number() {
        let fault = |code: &str, kind: &str| {
            wrapped(&format!(
                "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{kind}</s:Value></s:Subcode></s:Code>\
                 <s:Reason><s:Text>no shell is\r\n to be had &amp; so on</s:Text></s:Reason><s:Detail>{code}</s:Detail></s:Fault>"
            ))
        };
        let quota = fault("<f:WSManFault Code=\"2144108120\"/>", "w:QuotaLimit");
        let failure = Answer::read(&quota, "make a shell", Uuid::nil()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "could not make a shell: no shell is to be had & so on (WinRM code 0x7FCC7E58)"
        );
        for timeout in [fault("<f:WSManFault Code=\"2150858793\"/>", ""), fault("", "w:TimedOut")] {
            assert!(Answer::read(&timeout, "look", Uuid::nil()).unwrap_err().is_patience());
        }
    }

    #[test]
    fn anything_else_is_no_answer() {
        let whole = wrapped("<r:Stream Name=\"stdout\">b25l</r:Stream>");
        for text in
            ["", "<html><body>hello</body></html>", "hello", "{}", &whole[..whole.len() - 12], "<a><b></a>"]
        {
            let failure = Answer::read(text, "look", Uuid::nil()).unwrap_err();
            assert_eq!(failure.class, Class::Http, "{text}");
        }
        let bad = wrapped("<r:Stream Name=\"stdout\">no base64!</r:Stream>");
        assert!(Answer::read(&bad, "look", Uuid::nil()).unwrap_err().to_string().contains("not encoded"));
    }

    #[test]
    fn an_answer_to_another_request_is_none_and_neither_is_one_without_a_floor() {
        let id = Uuid::new_v4();
        let read = |header: &str, body: &str| {
            let xml = format!(
                "<s:Envelope xmlns:s=\"s\"><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
            );
            Answer::read(&xml, "look", id)
        };
        let relates = |to: &str| format!("<a:RelatesTo>{to}</a:RelatesTo>");
        for mine in
            [String::new(), relates(""), relates(&format!("uuid:{id}")), relates(&format!("UUID:{id:X}"))]
        {
            assert!(read(&mine, "").is_ok(), "{mine}");
        }
        for other in [relates(&format!("uuid:{}", Uuid::new_v4())), relates("uuid:7")] {
            let failure = read(&other, "").unwrap_err();
            assert_eq!(failure.class, Class::Http);
            assert!(
                failure.to_string().starts_with("could not look: what came answers another"),
                "{failure}"
            );
        }
        let deep = "<a>".repeat(1_000_000);
        let failure = read("", &deep).unwrap_err();
        assert!(failure.to_string().ends_with("its elements are more than 64 deep"), "{failure}");
        assert!(read("", &format!("{}{}", "<a>".repeat(60), "</a>".repeat(60))).is_ok());
    }
}
