//! The arguments of `docker run` as a request to the engine.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType, PortBinding, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use packer_core::{Error, Result};

/// What the arguments say.
#[derive(Debug)]
pub(super) enum Run {
    /// All of it can be said to the engine.
    Request(Box<Request>),
    /// Only the program knows what this flag means.
    Program { flag: String, name: Option<String> },
}

/// A container to create.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    pub(super) name: Option<String>,
    pub(super) platform: String,
    pub(super) image: String,
    /// Whether to pull the image even where it is there, or not even where it is missing.
    pub(super) pull: Option<bool>,
    pub(super) body: ContainerCreateBody,
}

/// Flags without a value, by their long and short names.
const SWITCHES: [(&str, char); 11] = [
    ("detach", 'd'),
    ("interactive", 'i'),
    ("tty", 't'),
    ("publish-all", 'P'),
    ("quiet", 'q'),
    ("privileged", '\0'),
    ("read-only", '\0'),
    ("rm", '\0'),
    ("init", '\0'),
    ("oom-kill-disable", '\0'),
    ("sig-proxy", '\0'),
];

/// Short names of flags with a value.
const SHORT: [(char, &str); 9] = [
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('e', "env"),
    ('h', "hostname"),
    ('l', "label"),
    ('m', "memory"),
    ('p', "publish"),
    ('u', "user"),
    ('v', "volume"),
];

/// Reads the arguments; `env` are the variables that `-e NAME` passes on.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(arguments: &[String], env: &BTreeMap<String, String>) -> Result<Run> {
    let mut request = Request::default();
    let mut unknown = None;
    let mut words = arguments.iter();
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" || !word.starts_with('-') || word == "-" {
            if word != "--" {
                rest.push(word.clone());
            }
            rest.extend(words.cloned());
            break;
        }
        let flags = match word.strip_prefix("--") {
            Some(long) => long_flag(long, &mut words)?,
            None => short_flags(&word[1..], &mut words)?,
        };
        for (name, value) in flags {
            if !apply(&mut request, &name, &value, env)? {
                unknown.get_or_insert(format!("--{name}"));
            }
        }
    }
    let mut rest = rest.into_iter();
    request.image = rest.next().ok_or_else(|| {
        Error::user("run_command: \"docker run\" requires an image; {{.Image}} stands for it")
    })?;
    let command: Vec<String> = rest.collect();
    request.body.cmd = (!command.is_empty()).then_some(command);
    request.body.image = Some(request.image.clone());
    Ok(match unknown {
        Some(flag) => Run::Program { flag, name: request.name },
        None => Run::Request(Box::new(request)),
    })
}

type Flags = Vec<(String, String)>;

fn long_flag<'a>(flag: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<Flags> {
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (flag, None),
    };
    let switch = SWITCHES.iter().any(|(long, _)| *long == name) || name == "no-healthcheck";
    let value = match value {
        Some(value) => value,
        None if switch => "true".to_owned(),
        None => words.next().cloned().ok_or_else(|| missing(&format!("--{name}")))?,
    };
    Ok(vec![(name.to_owned(), value)])
}

/// `-dit`, `-eNAME=VALUE`, `-e NAME=VALUE`.
fn short_flags<'a>(flags: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<Flags> {
    let mut found = Vec::new();
    for (at, short) in flags.char_indices() {
        if let Some((long, _)) = SWITCHES.iter().find(|(_, own)| *own == short) {
            let rest = &flags[at + short.len_utf8()..];
            if let Some(value) = rest.strip_prefix('=') {
                found.push(((*long).to_owned(), value.to_owned()));
                return Ok(found);
            }
            found.push(((*long).to_owned(), "true".to_owned()));
            continue;
        }
        let long = match short {
            'w' => "workdir",
            _ => SHORT
                .iter()
                .find(|(own, _)| *own == short)
                .map(|(_, long)| *long)
                .ok_or_else(|| Error::user(format!("run_command: unknown shorthand flag: -{short}")))?,
        };
        let rest = &flags[at + short.len_utf8()..];
        let value = match rest.strip_prefix('=').unwrap_or(rest) {
            "" => words.next().cloned().ok_or_else(|| missing(&format!("-{short}")))?,
            value => value.to_owned(),
        };
        found.push((long.to_owned(), value));
        return Ok(found);
    }
    Ok(found)
}

fn missing(flag: &str) -> Error {
    Error::user(format!("run_command: flag needs an argument: {flag}"))
}

/// Puts a flag into the request. `false` where it has no place there.
fn apply(request: &mut Request, name: &str, value: &str, env: &BTreeMap<String, String>) -> Result<bool> {
    let body = &mut request.body;
    let text = || Some(value.to_owned());
    let host = body.host_config.get_or_insert_with(HostConfig::default);
    match name {
        // The container runs by itself in any case, and nobody is attached to it.
        "detach" | "attach" | "detach-keys" | "quiet" | "sig-proxy" | "disable-content-trust" => {}
        "interactive" => body.open_stdin = Some(switch(name, value)?),
        "tty" => body.tty = Some(switch(name, value)?),
        "publish-all" => host.publish_all_ports = Some(switch(name, value)?),
        "privileged" => host.privileged = Some(switch(name, value)?),
        "read-only" => host.readonly_rootfs = Some(switch(name, value)?),
        "rm" => host.auto_remove = Some(switch(name, value)?),
        "init" => host.init = Some(switch(name, value)?),
        "oom-kill-disable" => host.oom_kill_disable = Some(switch(name, value)?),
        "name" => request.name = text(),
        "platform" => value.clone_into(&mut request.platform),
        "pull" => match value {
            "always" => request.pull = Some(true),
            "never" => request.pull = Some(false),
            _ => {}
        },
        "entrypoint" => body.entrypoint = Some(vec![value.to_owned()]),
        "hostname" => body.hostname = text(),
        "domainname" => body.domainname = text(),
        "user" => body.user = text(),
        "workdir" => body.working_dir = text(),
        "stop-signal" => body.stop_signal = text(),
        "stop-timeout" => body.stop_timeout = Some(number(name, value)?),
        "env" => push(&mut body.env, variable(value, env)),
        "env-file" => env_file(&mut body.env, value, env)?,
        "label" => pair(&mut body.labels, value),
        "expose" if value.contains('-') => return Ok(false),
        "expose" => push(&mut body.exposed_ports, Some(with_protocol(value))),
        "publish" => return publish(body, value),
        "volume" => volume(body, value)?,
        "mount" => return mount(host, value),
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            host.tmpfs.get_or_insert_default().insert(path.to_owned(), options.to_owned());
        }
        "device" if value.contains('=') => return Ok(false),
        "device" => push(&mut host.devices, Some(device(value))),
        "device-cgroup-rule" => push(&mut host.device_cgroup_rules, text()),
        "cap-add" => push(&mut host.cap_add, text()),
        "cap-drop" => push(&mut host.cap_drop, text()),
        "group-add" => push(&mut host.group_add, text()),
        "dns" => push(&mut host.dns, text()),
        "dns-search" => push(&mut host.dns_search, text()),
        "dns-option" | "dns-opt" => push(&mut host.dns_options, text()),
        "add-host" => push(&mut host.extra_hosts, Some(value.replacen('=', ":", 1))),
        "volumes-from" => push(&mut host.volumes_from, text()),
        "volume-driver" => host.volume_driver = text(),
        // A profile of one's own is a file that the program reads.
        "security-opt" if value.starts_with("seccomp") && !value.ends_with("unconfined") => return Ok(false),
        "security-opt" => push(&mut host.security_opt, text()),
        // With more than a name it is several settings in one.
        "network" | "net" if value.contains('=') => return Ok(false),
        "network" | "net" => host.network_mode = text(),
        "ipc" => host.ipc_mode = text(),
        "pid" => host.pid_mode = text(),
        "uts" => host.uts_mode = text(),
        "userns" => host.userns_mode = text(),
        "cgroupns" => {
            host.cgroupns_mode = Some(match value {
                "host" => HostConfigCgroupnsModeEnum::HOST,
                "private" => HostConfigCgroupnsModeEnum::PRIVATE,
                _ => return Err(wrong(name, value)),
            });
        }
        "cgroup-parent" => host.cgroup_parent = text(),
        "runtime" => host.runtime = text(),
        "sysctl" => pair(&mut host.sysctls, value),
        "storage-opt" => pair(&mut host.storage_opt, value),
        "annotation" => pair(&mut host.annotations, value),
        "memory" => host.memory = Some(size(name, value)?),
        "memory-reservation" => host.memory_reservation = Some(size(name, value)?),
        "memory-swap" if value == "-1" => host.memory_swap = Some(-1),
        "memory-swap" => host.memory_swap = Some(size(name, value)?),
        "memory-swappiness" => host.memory_swappiness = Some(number(name, value)?),
        "shm-size" => host.shm_size = Some(size(name, value)?),
        "cpus" => {
            let cpus: f64 = value.parse().map_err(|_| wrong(name, value))?;
            host.nano_cpus = Some((cpus * 1e9).round() as i64);
        }
        "cpu-shares" => host.cpu_shares = Some(number(name, value)?),
        "cpu-period" => host.cpu_period = Some(number(name, value)?),
        "cpu-quota" => host.cpu_quota = Some(number(name, value)?),
        "cpuset-cpus" => host.cpuset_cpus = text(),
        "cpuset-mems" => host.cpuset_mems = text(),
        "pids-limit" => host.pids_limit = Some(number(name, value)?),
        "oom-score-adj" => host.oom_score_adj = Some(number(name, value)?),
        "ulimit" => push(&mut host.ulimits, Some(ulimit(value)?)),
        "log-driver" => host.log_config.get_or_insert_with(HostConfigLogConfig::default).typ = text(),
        "log-opt" => {
            pair(&mut host.log_config.get_or_insert_with(HostConfigLogConfig::default).config, value);
        }
        "restart" => host.restart_policy = Some(restart(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn wrong(name: &str, value: &str) -> Error {
    Error::user(format!("run_command: invalid argument {value:?} for --{name}"))
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(wrong(name, value)),
    }
}

fn number(name: &str, value: &str) -> Result<i64> {
    value.parse().map_err(|_| wrong(name, value))
}

/// `64m` in bytes.
fn size(name: &str, value: &str) -> Result<i64> {
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong(name, value)),
    };
    let count: f64 = digits.trim().parse().map_err(|_| wrong(name, value))?;
    Ok((count * (1_i64 << unit) as f64) as i64)
}

fn push<T>(list: &mut Option<Vec<T>>, value: Option<T>) {
    list.get_or_insert_default().extend(value);
}

fn pair(map: &mut Option<HashMap<String, String>>, value: &str) {
    let (name, value) = value.split_once('=').unwrap_or((value, ""));
    map.get_or_insert_default().insert(name.to_owned(), value.to_owned());
}

/// `NAME=VALUE`, or `NAME` for the value that it has here; nothing where it has none.
fn variable(value: &str, env: &BTreeMap<String, String>) -> Option<String> {
    match value.contains('=') {
        true => Some(value.to_owned()),
        false => env.get(value).map(|found| format!("{value}={found}")),
    }
}

fn env_file(list: &mut Option<Vec<String>>, path: &str, env: &BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("open", path, e))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        push(list, variable(line, env));
    }
    Ok(())
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// `[[IP:]HOSTPORT:]PORT[/PROTOCOL]`; ranges are left to the program.
fn publish(body: &mut ContainerCreateBody, value: &str) -> Result<bool> {
    if value.contains('-') || value.contains('[') {
        return Ok(false);
    }
    let mut parts = value.rsplitn(3, ':');
    let port = with_protocol(parts.next().unwrap_or_default());
    let host_port = parts.next().map(str::to_owned);
    let host_ip = parts.next().map(str::to_owned);
    push(&mut body.exposed_ports, Some(port.clone()));
    let host = body.host_config.get_or_insert_with(HostConfig::default);
    let bindings = host.port_bindings.get_or_insert_default().entry(port).or_default();
    bindings.get_or_insert_default().push(PortBinding { host_ip, host_port });
    Ok(true)
}

/// `/IN`, `NAME:/IN`, `/HERE:/IN`, with options behind another colon. A path on this computer that is not absolute
/// starts at the working folder.
fn volume(body: &mut ContainerCreateBody, value: &str) -> Result<()> {
    let windows = value.as_bytes().get(1) == Some(&b':');
    let rest = if windows { &value[2..] } else { value };
    let Some(colon) = rest.find(':') else {
        push(&mut body.volumes, Some(value.to_owned()));
        return Ok(());
    };
    let (source, target) = value.split_at(colon + value.len() - rest.len());
    let source = match source.starts_with('.') {
        true => {
            let path = std::path::absolute(source).map_err(|e| Error::io("find", source, e))?;
            path.to_string_lossy().into_owned()
        }
        false => source.to_owned(),
    };
    let host = body.host_config.get_or_insert_with(HostConfig::default);
    push(&mut host.binds, Some(format!("{source}{target}")));
    Ok(())
}

/// `type=bind,source=/HERE,target=/IN,readonly`; what says more is left to the program.
fn mount(host: &mut HostConfig, value: &str) -> Result<bool> {
    let mut found = Mount { typ: Some(MountType::VOLUME), ..Mount::default() };
    for part in value.split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, "true"));
        match name {
            "type" => {
                found.typ = Some(match value {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    _ => return Ok(false),
                });
            }
            "source" | "src" => found.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => found.target = Some(value.to_owned()),
            "readonly" | "ro" => found.read_only = Some(switch("mount", value)?),
            _ => return Ok(false),
        }
    }
    push(&mut host.mounts, Some(found));
    Ok(true)
}

/// `/HERE[:/IN][:PERMISSIONS]`.
fn device(value: &str) -> DeviceMapping {
    let parts: Vec<&str> = value.split(':').collect();
    let permissions = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (inside, rights) = match parts.as_slice() {
        [here] => (*here, "rwm"),
        [here, rights] if permissions(rights) => (*here, *rights),
        [_, inside] => (*inside, "rwm"),
        [_, inside, rights, ..] => (*inside, *rights),
        [] => ("", "rwm"),
    };
    DeviceMapping {
        path_on_host: parts.first().map(|here| (*here).to_owned()),
        path_in_container: Some(inside.to_owned()),
        cgroup_permissions: Some(rights.to_owned()),
    }
}

/// `nofile=SOFT[:HARD]`.
fn ulimit(value: &str) -> Result<ResourcesUlimits> {
    let fail = || wrong("ulimit", value);
    let (name, limits) = value.split_once('=').ok_or_else(fail)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| text.parse::<i64>().map_err(|_| fail());
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(limit(soft)?), hard: Some(limit(hard)?) })
}

fn restart(value: &str) -> Result<RestartPolicy> {
    let (name, count) = value.split_once(':').unwrap_or((value, ""));
    let policy = match name {
        "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => return Err(wrong("restart", value)),
    };
    let maximum_retry_count = if count.is_empty() { None } else { Some(number("restart", count)?) };
    Ok(RestartPolicy { name: Some(policy), maximum_retry_count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let env = BTreeMap::from([("HERE".to_owned(), "yes".to_owned())]);
        match parse(&words, &env).unwrap() {
            Run::Request(request) => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_usual_command() {
        let found = request("-v /t:/packer-files -d -i -t --entrypoint=/bin/sh -- img");
        assert_eq!((found.image.as_str(), found.name), ("img", None));
        assert_eq!(found.body.entrypoint, Some(vec!["/bin/sh".into()]));
        assert_eq!((found.body.tty, found.body.open_stdin, found.body.cmd), (Some(true), Some(true), None));
        let host = found.body.host_config.unwrap();
        assert_eq!(host.binds, Some(vec!["/t:/packer-files".into()]));
    }

    #[test]
    fn flags_in_every_spelling() {
        let found = request("-dit -eA=1 -e B=2 -e=C=3 -e HERE -e GONE --name=n -w /w -u 1:2 img sh -c x");
        let env = ["A=1", "B=2", "C=3", "HERE=yes"].map(str::to_owned).to_vec();
        assert_eq!(found.body.env, Some(env));
        assert_eq!((found.name.as_deref(), found.body.working_dir.as_deref()), (Some("n"), Some("/w")));
        assert_eq!(found.body.cmd, Some(vec!["sh".into(), "-c".into(), "x".into()]));
        let found = request(
            "--privileged --rm=false -m 64m --cpus 0.5 --shm-size 1gb -p 127.0.0.1:80:8080 -p 53/udp img",
        );
        let host = found.body.host_config.unwrap();
        assert_eq!((host.privileged, host.auto_remove), (Some(true), Some(false)));
        assert_eq!(
            (host.memory, host.nano_cpus, host.shm_size),
            (Some(64 << 20), Some(500_000_000), Some(1 << 30))
        );
        let ports = host.port_bindings.unwrap();
        assert_eq!(ports["8080/tcp"].as_ref().unwrap()[0].host_ip.as_deref(), Some("127.0.0.1"));
        assert!(ports.contains_key("53/udp"));
    }

    #[test]
    fn devices_volumes_and_limits() {
        let host = request(
            "--device /dev/null:/dev/n --device /dev/zero --device /dev/x:r --tmpfs /s:size=1m --tmpfs /r -v ./a:/a:ro -v /anon --ulimit nofile=1:2 --mount type=bind,src=/a,dst=/b,readonly img",
        );
        let volumes = host.body.volumes.clone();
        let host = host.body.host_config.unwrap();
        let devices = host.devices.unwrap();
        assert_eq!(devices[0].path_in_container.as_deref(), Some("/dev/n"));
        assert_eq!(devices[1].path_in_container.as_deref(), Some("/dev/zero"));
        assert_eq!(devices[2].cgroup_permissions.as_deref(), Some("r"));
        assert_eq!(host.tmpfs.unwrap()["/s"], "size=1m");
        let bind = host.binds.unwrap().remove(0);
        assert!(bind.starts_with('/') && bind.ends_with("/a:/a:ro"), "{bind}");
        assert_eq!(volumes, Some(vec!["/anon".to_owned()]));
        assert_eq!(host.ulimits.unwrap()[0].hard, Some(2));
        assert_eq!(host.mounts.unwrap()[0].read_only, Some(true));
    }

    #[test]
    fn what_only_the_program_knows_and_what_nobody_does() {
        for line in
            ["--gpus all img", "--health-cmd x img", "-p 1-2:3-4 img", "--network name=x,ip=1.2.3.4 img"]
        {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(matches!(parse(&words, &BTreeMap::new()), Ok(Run::Program { .. })), "{line}");
        }
        for line in ["-d", "--name", "-Z img", "-m lots img", "--restart maybe img"] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let error = parse(&words, &BTreeMap::new()).unwrap_err();
            assert!(error.message().starts_with("run_command: "), "{line}: {error}");
        }
    }
}
