//! Flags as Packer takes them, which is Go's way: `-f=v`, `-f v` or `--f v`, before the first argument.

/// Where the value of a flag goes.
pub(crate) enum Flag<'a> {
    /// On or off: `-f`, `-f=false`. The value never is the next argument.
    Switch(&'a mut bool),
    /// A whole number, the last one given.
    Number(&'a mut i64),
    /// A text, the last one given.
    Text(&'a mut String),
    /// Every value given, in order.
    Each(&'a mut Vec<String>),
    /// The parts between commas of every value given, in order.
    List(&'a mut Vec<String>),
    /// Every `NAME=VALUE` given, in order.
    Pairs(&'a mut Vec<(String, String)>),
    /// One of these words, in any case.
    Word(&'a mut String, &'static [&'static str]),
}

/// Why parsing ended without arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `-h` or `-help` was given.
    Help,
    /// A flag is unknown or its value wrong.
    Wrong(String),
}

/// Puts the flags before the first argument where they go and returns the arguments behind them.
pub(crate) fn parse<'b>(args: &'b [String], flags: &mut [(&str, Flag<'_>)]) -> Result<&'b [String], Stop> {
    let mut rest = args;
    while let Some((word, behind)) = rest.split_first() {
        let Some(dashed) = word.strip_prefix('-').filter(|d| !d.is_empty()) else { break };
        rest = behind;
        if dashed == "-" {
            break;
        }
        let dashed = dashed.strip_prefix('-').unwrap_or(dashed);
        if dashed.starts_with(['-', '=']) {
            return Err(Stop::Wrong(format!("bad flag syntax: {word}")));
        }
        let (name, value) = match dashed.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (dashed, None),
        };
        let Some((_, flag)) = flags.iter_mut().find(|(n, _)| *n == name) else {
            if matches!(name, "h" | "help") {
                return Err(Stop::Help);
            }
            return Err(Stop::Wrong(format!("flag provided but not defined: -{name}")));
        };
        if let Flag::Switch(on) = flag {
            **on = match value {
                None => true,
                Some(text) => bool_value(text).ok_or_else(|| {
                    Stop::Wrong(format!("invalid boolean value {text:?} for -{name}: parse error"))
                })?,
            };
            continue;
        }
        let value = match (value, rest.split_first()) {
            (Some(value), _) => value,
            (None, Some((next, behind))) => {
                rest = behind;
                next
            }
            (None, None) => return Err(Stop::Wrong(format!("flag needs an argument: -{name}"))),
        };
        flag.set(value)
            .map_err(|why| Stop::Wrong(format!("invalid value {value:?} for flag -{name}: {why}")))?;
    }
    Ok(rest)
}

impl Flag<'_> {
    fn set(&mut self, value: &str) -> Result<(), String> {
        match self {
            Flag::Switch(_) => {}
            Flag::Number(number) => **number = value.parse().map_err(|_| "parse error")?,
            Flag::Text(text) => value.clone_into(text),
            Flag::Each(values) => values.push(value.to_owned()),
            Flag::List(values) => values.extend(value.split(',').map(str::to_owned)),
            Flag::Pairs(pairs) => {
                let (name, value) =
                    value.split_once('=').ok_or_else(|| format!("No '=' value in arg: {value}"))?;
                pairs.push((name.to_owned(), value.to_owned()));
            }
            Flag::Word(word, words) => {
                let Some(known) = words.iter().find(|w| w.eq_ignore_ascii_case(value)) else {
                    return Err(format!("expected one of {}", words.join(", ")));
                };
                (*known).clone_into(word);
            }
        }
        Ok(())
    }
}

fn bool_value(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        force: bool,
        color: bool,
        parallel: i64,
        files: Vec<String>,
        only: Vec<String>,
        vars: Vec<(String, String)>,
        on_error: String,
    }

    fn seen(line: &str) -> (Seen, Result<Vec<String>, Stop>) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut s = Seen { color: true, ..Seen::default() };
        let result = parse(
            &args,
            &mut [
                ("force", Flag::Switch(&mut s.force)),
                ("color", Flag::Switch(&mut s.color)),
                ("parallel-builds", Flag::Number(&mut s.parallel)),
                ("var-file", Flag::Each(&mut s.files)),
                ("only", Flag::List(&mut s.only)),
                ("var", Flag::Pairs(&mut s.vars)),
                ("on-error", Flag::Word(&mut s.on_error, &["cleanup", "abort"])),
            ],
        )
        .map(<[String]>::to_vec);
        (s, result)
    }

    #[test]
    fn every_kind_of_flag_in_every_spelling() {
        let (s, rest) = seen(
            "-force --color=false -parallel-builds=-2 -var-file a -var-file=b -only x,y -only=z \
             -var k=v=w -var=k= -on-error Abort t.json -force=false",
        );
        assert_eq!(rest.unwrap(), ["t.json", "-force=false"]);
        let strings = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let expected = Seen {
            force: true,
            color: false,
            parallel: -2,
            files: strings(&["a", "b"]),
            only: strings(&["x", "y", "z"]),
            vars: vec![("k".into(), "v=w".into()), ("k".into(), String::new())],
            on_error: "abort".into(),
        };
        assert_eq!(s, expected);
    }

    #[test]
    fn arguments_begin_at_the_first_word_without_a_dash_or_behind_two() {
        for (line, arguments) in
            [("", vec![]), ("- -force", vec!["-", "-force"]), ("-force -- -x", vec!["-x"]), ("a", vec!["a"])]
        {
            assert_eq!(seen(line).1.unwrap(), arguments, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, message) in [
            ("-nope", "flag provided but not defined: -nope"),
            ("-nope=1", "flag provided but not defined: -nope"),
            ("---force", "bad flag syntax: ---force"),
            ("-=x", "bad flag syntax: -=x"),
            ("-var", "flag needs an argument: -var"),
            ("-force=maybe", r#"invalid boolean value "maybe" for -force: parse error"#),
            ("-parallel-builds=some", r#"invalid value "some" for flag -parallel-builds: parse error"#),
            ("-var name", r#"invalid value "name" for flag -var: No '=' value in arg: name"#),
            ("-on-error=x", r#"invalid value "x" for flag -on-error: expected one of cleanup, abort"#),
        ] {
            assert_eq!(seen(line).1, Err(Stop::Wrong(message.to_owned())), "{line}");
        }
        assert_eq!(seen("-force -help").1, Err(Stop::Help));
        assert_eq!(seen("--h").1, Err(Stop::Help));
    }
}
