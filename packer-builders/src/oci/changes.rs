//! The instructions of `changes`: those of a Dockerfile that concern the configuration of an image.

use packer_core::{Error, Result};
use serde_json::Value;

use super::config::RunConfig;

/// Whether the command was set since the base: an entry point takes away one that was not.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) cmd: bool,
}

/// Applies one instruction, as `docker commit --change` does.
///
/// # Errors
/// An instruction that is unknown or malformed.
pub(super) fn apply(text: &str, config: &mut RunConfig, applied: &mut Applied) -> Result<()> {
    let text = text.trim();
    let (instruction, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let wrong = |what: &str| Error::user(format!("changes: {what}: {text:?}"));
    let instruction = instruction.to_ascii_uppercase();
    if rest.is_empty() && !matches!(instruction.as_str(), "CMD" | "ENTRYPOINT") {
        return Err(wrong("the instruction needs an argument"));
    }
    match instruction.as_str() {
        "CMD" => {
            config.cmd = command(rest);
            applied.cmd = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = command(rest);
            if !applied.cmd {
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs(rest, config).ok_or_else(|| wrong("ENV needs NAME=VALUE"))? {
                config.set_env(&name, &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(rest, config).ok_or_else(|| wrong("LABEL needs NAME=VALUE"))?;
            config.labels.extend(pairs);
        }
        "EXPOSE" => {
            for port in words(rest, config).ok_or_else(|| wrong("a quote is not closed"))? {
                for port in ports(&port).ok_or_else(|| wrong("this is no port"))? {
                    config.expose(&port);
                }
            }
        }
        "VOLUME" => {
            let volumes = match json_words(rest) {
                Some(words) => words,
                None => words(rest, config).ok_or_else(|| wrong("a quote is not closed"))?,
            };
            if volumes.iter().any(String::is_empty) {
                return Err(wrong("a volume has no name"));
            }
            config.volumes.extend(volumes.into_iter().map(|volume| (volume, serde_json::Map::new())));
        }
        "USER" | "WORKDIR" | "STOPSIGNAL" => {
            let word = words(rest, config).ok_or_else(|| wrong("a quote is not closed"))?.join(" ");
            match instruction.as_str() {
                "USER" => config.user = word,
                "WORKDIR" => config.working_dir = below(&config.working_dir, &word),
                _ => config.stop_signal = word,
            }
        }
        "ONBUILD" => {
            let Value::Array(triggers) =
                config.other.entry("OnBuild".to_owned()).or_insert_with(|| Value::Array(Vec::new()))
            else {
                return Err(wrong("the base's OnBuild is no list"));
            };
            triggers.push(rest.into());
        }
        _ => {
            return Err(wrong(
                "this instruction is not among CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR",
            ));
        }
    }
    Ok(())
}

/// A path seen from a folder.
pub(super) fn below(folder: &str, path: &str) -> String {
    match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("{}/{path}", if folder.is_empty() { "" } else { folder.trim_end_matches('/') }),
    }
}

/// A list in JSON as it is, other text for the shell; nothing takes a command away.
fn command(text: &str) -> Option<Vec<String>> {
    match json_words(text) {
        Some(words) if words.is_empty() => None,
        Some(words) => Some(words),
        None if text.is_empty() => None,
        None => Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()]),
    }
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The ports of `80`, `80/udp` and `8000-8010/tcp`; `None` where it is none.
pub(super) fn ports(text: &str) -> Option<Vec<String>> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    let good = first > 0 && first <= last && matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    good.then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `NAME=VALUE …`, or `NAME VALUE` in one.
fn pairs(text: &str, config: &RunConfig) -> Option<Vec<(String, String)>> {
    let first = text.split(char::is_whitespace).next().unwrap_or(text);
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), words(value.trim(), config)?.join(" "))]);
    }
    let words = words(text, config)?;
    let pair = |word: String| {
        let (name, value) = word.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    words.into_iter().map(pair).collect()
}

/// Words as a Dockerfile has them: quotes keep spaces, a backslash the next character; variables of the image are
/// replaced, except in single quotes. `None` where a quote is not closed.
fn words(text: &str, config: &RunConfig) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(rest.next()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('$', None | Some('"')) => {
                let mut name = String::new();
                let braces = rest.next_if_eq(&'{').is_some();
                while let Some(c) =
                    rest.next_if(|c| if braces { *c != '}' } else { c.is_alphanumeric() || *c == '_' })
                {
                    name.push(c);
                }
                if braces {
                    rest.next()?;
                }
                let word = word.get_or_insert_default();
                match name.as_str() {
                    "" => word.push('$'),
                    name => word.push_str(&variable(name, config)),
                }
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// `NAME`, `NAME:-instead` and `NAME:+other`.
fn variable(text: &str, config: &RunConfig) -> String {
    let set = |name: &str| config.env(name).filter(|value| !value.is_empty());
    if let Some((name, instead)) = text.split_once(":-") {
        return set(name).unwrap_or(instead).to_owned();
    }
    if let Some((name, other)) = text.split_once(":+") {
        return set(name).map_or("", |_| other).to_owned();
    }
    config.env(text).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<Value> {
        let mut config = RunConfig { cmd: Some(vec!["old".into()]), ..RunConfig::default() };
        config.set_env("PATH", "/bin");
        let mut applied = Applied::default();
        for change in changes {
            apply(change, &mut config, &mut applied)?;
        }
        Ok(serde_json::to_value(config).unwrap())
    }

    #[test]
    fn instructions_say_what_they_say_in_a_dockerfile() {
        let config = applied(&[
            "ENTRYPOINT [\"/app\", \"-x\"]",
            "env A=1 B=\"two words\" C=a\\ b D='$PATH' PATH=/opt:$PATH E=${NONE:-e}",
            "ENV OLD style  value",
            "LABEL maintainer=\"me\" \"quoted name\"=x",
            "EXPOSE 80 53/udp 8000-8001",
            "VOLUME /data /more",
            "VOLUME [\"/json dir\"]",
            "USER app:app",
            "WORKDIR /srv",
            "WORKDIR deeper",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN true",
        ]);
        assert_eq!(
            config.unwrap(),
            serde_json::json!({
                "Entrypoint": ["/app", "-x"],
                "Env": ["PATH=/opt:/bin", "A=1", "B=two words", "C=a b", "D=$PATH", "E=e", "OLD=style value"],
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}},
                "Labels": {"maintainer": "me", "quoted name": "x"},
                "OnBuild": ["RUN true"],
                "StopSignal": "SIGQUIT",
                "User": "app:app",
                "Volumes": {"/data": {}, "/more": {}, "/json dir": {}},
                "WorkingDir": "/srv/deeper",
            })
        );
        assert_eq!(
            applied(&["CMD echo $HOME", "ENTRYPOINT []"]).unwrap()["Cmd"],
            serde_json::json!(["/bin/sh", "-c", "echo $HOME"])
        );
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for wrong in
            ["RUN true", "", "ENV A", "ENV A='1", "EXPOSE x", "EXPOSE 9-1", "USER", "LABEL =x", "EXPOSE 0"]
        {
            assert!(applied(&[wrong]).is_err(), "{wrong}");
        }
    }
}
