//! Ports that another program takes in the moment in which QEMU starts.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Guest, QEMU, Run, build, disk, during, folder, machine, turn, until};

/// Starts QEMU the third time as it is; before, it shows the arguments and waits until it may go on.
const SLOW: &str = r#"#!/bin/sh
case "$1" in -version) exec QEMU "$@";; esac
for n in 1 2; do
  [ -e FOLDER/asked-$n ] && continue
  echo "$*" >FOLDER/new && mv FOLDER/new FOLDER/asked-$n
  while [ ! -e FOLDER/taken-$n ]; do sleep 0.05; done
  break
done
exec QEMU "$@"
"#;

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).unwrap_or_else(|| panic!("{text}")).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_meanwhile_is_not_insisted_on() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let program = folder.path().join("slow-qemu");
    let script = SLOW.replace("FOLDER", &folder.path().display().to_string()).replace("QEMU", QEMU);
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut vm = machine(&disk, folder.path()).shutdown("poweroff");
    vm.qemu_binary = program.display().to_string();
    let takes = async {
        let asked = async |number: u8| {
            let path = folder.path().join(format!("asked-{number}"));
            until("QEMU is started", || std::fs::read_to_string(&path).ok()).await
        };
        let go_on = |number: u8| std::fs::write(folder.path().join(format!("taken-{number}")), "").unwrap();
        let words = asked(1).await;
        let screen: u16 = between(&words, "-vnc 127.0.0.1:", " ").parse().unwrap();
        let screen = TcpListener::bind(("127.0.0.1", 5900 + screen)).unwrap();
        go_on(1);
        let words = asked(2).await;
        let forwarded: u16 = between(&words, "hostfwd=tcp::", "-:22").parse().unwrap();
        let forwarded = TcpListener::bind(("0.0.0.0", forwarded)).unwrap();
        go_on(2);
        (screen, forwarded)
    };
    let (done, _taken) = during(build(folder.path(), vm, Some(Run("true"))), takes).await;
    done.artifact();
    let again: Vec<String> = done
        .recorder
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("Another program has taken a port"))
        .collect();
    assert_eq!(again.len(), 2, "{:?}", done.recorder.lines());
}
