use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::error::{Error, Fault, Result};
use crate::facts::BuildInfo;
use crate::kit::screen::Screen;
use crate::testing::Bench;

/// Writes down what is typed and when; shows pictures one after the other, each so long.
#[derive(Default)]
struct Typist {
    typed: String,
    times: Vec<Instant>,
    shows: VecDeque<(Duration, Screen)>,
}

#[crate::async_trait]
impl KeyDriver for Typist {
    async fn key(&mut self, key: Key, motion: Motion) -> Result<()> {
        let name = match key {
            Key::Char(' ') => "space".to_owned(),
            Key::Char(c) => c.to_string(),
            Key::Special(special) => format!("{special:?}"),
        };
        let sign = if motion == Motion::Down { '+' } else { '-' };
        self.typed.push_str(&format!("{sign}{name} "));
        self.times.push(Instant::now());
        Ok(())
    }

    async fn flush(&mut self, _: &Pace<'_>) -> Result<()> {
        self.typed.push_str("| ");
        Ok(())
    }

    async fn screen(&mut self) -> Result<Option<Screen>> {
        Ok(self.shows.front().map(|(_, screen)| screen.clone()))
    }

    async fn changed(&mut self) -> Result<()> {
        if self.shows.len() < 2 {
            return std::future::pending().await;
        }
        if let Some((time, _)) = self.shows.front() {
            tokio::time::sleep(*time).await;
            self.shows.pop_front();
        }
        Ok(())
    }
}

const KEY: Duration = Duration::from_millis(100);

async fn typed_by(typist: &mut Typist, text: &str, seeing: Option<&mut dyn Seeing>) -> Result<Duration> {
    let (bench, began) = (Bench::new(), Instant::now());
    let command = BootCommand::parse(&[text]).map_err(|e| Error::user(e.to_string()))?;
    type_into(bench.context(), &command, typist, KEY, Duration::ZERO, seeing).await?;
    Ok(began.elapsed())
}

async fn typed(text: &str) -> String {
    let mut typist = Typist::default();
    typed_by(&mut typist, text, None).await.unwrap();
    typist.typed.trim_end_matches("| ").trim_end().to_owned()
}

#[tokio::test(start_paused = true)]
async fn keys_are_typed_as_packer_types_them() {
    for (text, keys) in [
        ("a>b", "+a -a +LeftShift +> -> -LeftShift +b -b"),
        ("a<", "+a -a +LeftShift +< -< -LeftShift"),
        ("a<b", "+a -a +LeftShift +< -< -LeftShift +b -b"),
        ("-=[]\\;'`,./", "+- -- += -= +[ -[ +] -] +\\ -\\ +; -; +' -' +` -` +, -, +. -. +/ -/"),
        ("\"_", "+LeftShift +\" -\" -LeftShift +LeftShift +_ -_ -LeftShift"),
        (
            "<leftCtrlOn><leftAltOn><del><leftAltOff><leftCtrlOff>",
            "+LeftCtrl +LeftAlt +Delete -Delete -LeftAlt -LeftCtrl",
        ),
        (
            "<leftshifton>a<leftshiftoff><rightCtrlON>b<rightCtrlOFF>",
            "+LeftShift +a -a -LeftShift +RightCtrl +b -b -RightCtrl",
        ),
        ("<leftShiftOn>aB<leftShiftOff>c", "+LeftShift +a -a +LeftShift +B -B -LeftShift -LeftShift +c -c"),
        ("<ENTER><Enter><pageup><F1><f12>", "+Enter -Enter +Enter -Enter +PageUp -PageUp +F1 -F1 +F12 -F12"),
        ("<<On><<Off><>On><>Off>", "+LeftShift +< -< -LeftShift +LeftShift +> -> -LeftShift"),
        (
            "<enterOn><enterOff><leftOption><leftOptionOn>",
            "+Enter -Enter +LeftOption -LeftOption +LeftOption",
        ),
        (
            "é ß Ω 字 😀Ⓐ",
            "+é -é +space -space +ß -ß +space -space +LeftShift +Ω -Ω -LeftShift +space -space +字 -字 +space -space +😀 -😀 +Ⓐ -Ⓐ",
        ),
        ("a\nb", "+a -a +\n -\n +b -b"),
        ("<foo>", "+LeftShift +< -< -LeftShift +f -f +o -o +o -o +LeftShift +> -> -LeftShift"),
    ] {
        assert_eq!(typed(text).await, keys, "{text}");
    }
    // What Packer types as it is, letter by letter.
    for text in [
        "<enter2>",
        "< enter>",
        "<ente>",
        "<waits>",
        "<wait 5>",
        "<wait5x>",
        "<wait1.5>",
        "<wait007>",
        "<wait01s>",
        "<Wait>",
        "<WAIT5>",
        "<wait.5s>",
        "<wait1.s>",
        "<wait+5s>",
        "<wait-5>",
        "<wait5 >",
        "<on>",
        "<enter",
        "<wait",
        "<wait5",
        // Waits of our own that are not quite.
        "<wait \"\">",
        "<wait \" \">",
        "<wait \"a>",
        "<wait \"a\" >",
        "<wait \"a\" 5>",
        "<wait \"a\" 5s 5s>",
        "<wait\"a\">",
        "<wait 'a'>",
        "<wait still5s>",
        "<wait stillness>",
        "<wait Still>",
        "<wait still 1s 1s 1s>",
        "<wait \"a\"5s>",
    ] {
        let parsed = BootCommand::parse(&[text]).unwrap();
        assert!(parsed.items.len() >= text.chars().count() && !parsed.uses_extensions(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_a_pause_behind_each_event_and_what_is_collected_goes_before_a_wait() {
    let mut typist = Typist::default();
    let took = typed_by(&mut typist, "Ab<wait1.5s>c", None).await.unwrap();
    assert_eq!(typist.typed, "+LeftShift +A -A -LeftShift +b -b | +c -c | ");
    let gaps: Vec<_> = typist.times.windows(2).map(|t| (t[1] - t[0]).as_millis()).collect();
    assert_eq!(gaps, [100, 100, 100, 100, 100, 1600, 100]);
    assert_eq!(took.as_millis(), 2300);
    for (text, millis) in [
        ("<wait>", 1000),
        ("<wait4>", 4000),
        ("<wait0>", 1000),
        ("<wait1m30s>", 90_000),
        ("<wait10ms>", 10),
        ("<wait1.25s>", 1250),
    ] {
        assert_eq!(typed_by(&mut Typist::default(), text, None).await.unwrap().as_millis(), millis, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_packers_words_and_where() {
    for (texts, message, place) in [
        (&["<wait-5s>"][..], "Expecting a positive wait value. Got -5s", (0, 1)),
        (&["a", "", "é<wait0s>"], "Expecting a positive wait value. Got 0s", (2, 2)),
        // It begins in one text and ends in the next.
        (&["ab<wa", "it0s>"], "Expecting a positive wait value. Got 0s", (0, 3)),
        (
            &["<wait99999999999999999999>"],
            "1:6 (5): rule Integer: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            (0, 1),
        ),
        (&["a\n<wait \"a\" 0s>"], "Expecting a positive wait value. Got 0s", (0, 3)),
    ] {
        let error = BootCommand::parse(texts).unwrap_err();
        assert_eq!((error.message.as_str(), (error.text_index, error.column)), (message, place), "{texts:?}");
    }
}

fn config(texts: &[&str]) -> BootConfig {
    BootConfig {
        boot_command: texts.iter().map(|text| GoTemplate::new(*text)).collect(),
        ..BootConfig::default()
    }
}

#[test]
fn options_are_checked_before_anything_runs() {
    let cx = PrepareContext::new(Arc::new(BuildInfo::default()), crate::Host::new());
    for texts in [&[][..], &[""], &["{{ .Nope }}<wait{{ `0s` }}>"], &["<wait0>"]] {
        assert!(config(texts).prepare(&cx).is_empty(), "{texts:?}");
    }
    let found = config(&["a", "{{ .HTTPIP"]).prepare(&cx);
    let found: Vec<_> = found.iter().map(|d| d.summary.as_str()).collect();
    let unclosed = "invalid 'boot_command': template: root:1: unclosed action in:\n\n{{ .HTTPIP";
    assert_eq!(found, [unclosed]);
    let found = config(&["a", "bc<wait0s>"]).prepare(&cx);
    let found = found.iter().next().unwrap();
    assert_eq!(found.summary, "Expecting a positive wait value. Got 0s");
    assert_eq!(found.detail, "It begins at character 3 of text 2.");
}

#[test]
fn pauses_have_their_defaults() {
    let mut config = BootConfig::default();
    assert_eq!(config.boot_wait(), Some(Duration::from_secs(10)));
    config.boot_wait = GoDuration::from_secs(-1);
    assert_eq!(config.boot_wait(), None);
    config.boot_wait = GoDuration::from_secs(3);
    assert_eq!(config.boot_wait(), Some(Duration::from_secs(3)));
    let interval = |config: &BootConfig, lent: Option<&str>| {
        let lent = lent.map(|text| ("PACKER_KEY_INTERVAL".to_owned(), text.to_owned()));
        let bench = Bench::with_host(crate::Host::from_env(lent.into_iter().collect()));
        config.key_interval(bench.context()).as_millis()
    };
    assert_eq!(interval(&config, None), 100);
    assert_eq!(interval(&config, Some("400ms")), 400);
    assert_eq!(interval(&config, Some("fast")), 100);
    config.boot_key_interval = GoDuration::from_nanos(5_000_000);
    assert_eq!(interval(&config, Some("400ms")), 5);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_text_sees_the_serial_line() {
    let serial = Transcript::new();
    let printing = serial.clone();
    let machine = tokio::spawn(async move {
        for text in
            ["log", "in: \x1b[1;32mok\x1b[0m\r\n\x1b[2J", "lo", "gin:\n", "pass", "word \n\t for x\x07"]
        {
            tokio::time::sleep(Duration::from_secs(10)).await;
            printing.push(text);
        }
    });
    let (mut typist, mut seeing) = (Typist::default(), serial.clone());
    let took = typed_by(
        &mut typist,
        "<wait \"login: ok\">a<wait \"login:\">b<wait \"password for\" 1m>c",
        Some(&mut seeing),
    );
    assert_eq!(took.await.unwrap().as_secs(), 60);
    assert_eq!(typist.typed, "| +a -a | +b -b | +c -c | ");
    machine.await.unwrap();
    // What was found is not found again.
    let error =
        typed_by(&mut typist, "<wait \"x\"><wait \"password\" 90s>", Some(&mut seeing)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Guest);
    assert!(error.message().starts_with("\"x\" did not show within 5m0s. Nothing was seen"), "{error}");
    serial.push("one\r\ntwo \\\"\n");
    let error =
        typed_by(&mut typist, r#"<wait "two \\\""><wait "three" 90s>"#, Some(&mut seeing)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "\"three\" did not show within 1m30s. The last that was seen:\none\ntwo \\\""
    );
    let not_seen = NotSeen::of(&error).unwrap();
    assert_eq!((not_seen.wanted.as_deref(), not_seen.text.as_str()), (Some("three"), "one\ntwo \\\""));
    assert!(not_seen.screen.is_none());
}

#[test]
fn what_is_printed_and_not_looked_at_is_bounded() {
    let serial = Transcript::new();
    for _ in 0..10_000 {
        serial.push("éééééééééééééééé\n");
    }
    let kept = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(serial.clone().more())
        .unwrap();
    assert!(kept.len() <= 128 * 1024 && kept.ends_with("éé\n"), "{}", kept.len());
}

fn grey(level: u8, dot: Option<(usize, usize)>) -> Screen {
    let mut pixels = vec![level; 64 * 64 * 3];
    if let Some((x, y)) = dot {
        pixels[(y * 64 + x) * 3] ^= 0xff;
    }
    Screen::from_rgb(64, 64, pixels).unwrap()
}

fn showing(pictures: impl IntoIterator<Item = (u64, Screen)>) -> Typist {
    let shows =
        pictures.into_iter().map(|(seconds, picture)| (Duration::from_secs(seconds), picture)).collect();
    Typist { shows, ..Typist::default() }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_still_screen_sees_through_a_cursor_that_blinks() {
    let blink = |n: usize| (1, grey(0, n.is_multiple_of(2).then_some((3, 3))));
    let mut typist = showing([(4, grey(1, None)), (4, grey(2, None))].into_iter().chain((0..60).map(blink)));
    let took = typed_by(&mut typist, "<wait still 10s>", None).await.unwrap().as_secs();
    assert!((18..20).contains(&took), "{took}");
    // A dot that walks is no cursor.
    let walk = |n: usize| (1, grey(0, Some((n % 60, 3))));
    let mut typist = showing((0..300).map(walk));
    let error = typed_by(&mut typist, "<wait still 10s 1m>", None).await.unwrap_err();
    let message =
        "the screen was not still for 10s at any time within 1m0s. The screen (64x64) shows no text";
    assert_eq!(error.message(), message);
    assert!(NotSeen::of(&error).is_some_and(|e| e.screen.is_some() && e.wanted.is_none()));
    let took = typed_by(&mut showing([(1, grey(0, None))]), "<wait still>", None).await.unwrap();
    assert_eq!(took.as_secs(), 5);
    // Without a picture it is the serial line that is still.
    let serial = Transcript::new();
    let printing = serial.clone();
    tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            printing.push("x");
        }
    });
    let took = typed_by(&mut Typist::default(), "<wait still>", Some(&mut serial.clone())).await.unwrap();
    assert_eq!(took.as_secs(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_what_nobody_can_see_is_a_mistake() {
    let error = typed_by(&mut Typist::default(), "a<wait \"x\">", None).await.unwrap_err();
    assert_eq!(error.fault(), Fault::User);
    assert!(error.message().contains("neither a serial line nor a picture"), "{error}");
}

#[tokio::test]
async fn cancellation_ends_waits_and_pauses() {
    for text in ["<wait1h>", "<wait \"never\" 1h>", "a"] {
        let bench = Bench::new();
        let command = BootCommand::parse(&[text]).unwrap();
        let (mut typist, mut seeing) = (Typist::default(), Transcript::new());
        let pause = Duration::from_secs(3600);
        let typing = type_into(bench.context(), &command, &mut typist, pause, pause, Some(&mut seeing));
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            bench.cancel();
        };
        let (result, ()) = tokio::join!(typing, cancel);
        assert!(result.unwrap_err().is_cancelled(), "{text}");
    }
}

/// Hears of whole keys only.
#[derive(Default)]
struct Codes(Vec<(Key, bool)>);

#[crate::async_trait]
impl KeyDriver for Codes {
    async fn key(&mut self, key: Key, motion: Motion) -> Result<()> {
        self.0.push((key, motion == Motion::Down));
        Ok(())
    }

    async fn press(&mut self, key: Key, pace: &Pace<'_>) -> Result<()> {
        self.0.push((key, key.needs_shift()));
        pace.key().await
    }

    fn shifts(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_may_take_keys_as_a_whole() {
    let (bench, mut codes) = (Bench::new(), Codes::default());
    let command = BootCommand::parse(&["aB<enter><leftAltOn><AOff>"]).unwrap();
    type_into(bench.context(), &command, &mut codes, KEY, KEY, None).await.unwrap();
    let (enter, alt) = (Key::Special(Special::Enter), Key::Special(Special::LeftAlt));
    let expected = [
        (Key::Char('a'), false),
        (Key::Char('B'), true),
        (enter, false),
        (alt, true),
        (Key::Char('A'), false),
    ];
    assert_eq!(codes.0, expected);
}

proptest! {
    #[test]
    fn reading_never_panics(texts in proptest::collection::vec("(<|>|wait|still|\"|\\\\| |on|Off|enter|[0-9]|-|\\.|s|ms|\\PC|\n){0,12}", 0..4)) {
        let parsed = BootCommand::parse(&texts);
        let joined = BootCommand::parse(&[texts.concat()]);
        match (parsed, joined) {
            (Ok(parsed), Ok(joined)) => prop_assert_eq!(parsed, joined),
            (Err(parsed), Err(joined)) => {
                prop_assert_eq!(&parsed.message, &joined.message);
                let text: Vec<char> = texts[parsed.text_index].chars().collect();
                prop_assert_eq!(text[parsed.column - 1], '<');
            }
            (parsed, joined) => prop_assert!(false, "{parsed:?} {joined:?}"),
        }
    }

    #[test]
    fn what_holds_no_bracket_is_typed_as_it_is(text in "[^<]{0,40}") {
        let parsed = BootCommand::parse(&[&text]).unwrap();
        let expected: Vec<_> = text.chars().map(|c| parse::Item::Press(Key::Char(c))).collect();
        prop_assert_eq!(parsed.items, expected);
    }
}
