//! Whose property uploads become.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::AsyncWrite;

use super::Inner;
use super::download;
use crate::context::Context;
use crate::error::Result;

/// The owner of uploaded files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The one of the local file.
    Local,
    /// Numbers that can be said in the archive.
    Ids(u64, u64),
    /// A user that only the container itself can look up.
    Named(String),
}

/// Finds out who owns what is uploaded.
pub(super) async fn find(inner: &Inner, cx: &Context) -> Owner {
    if inner.options.keep_upload_owner {
        return Owner::Local;
    }
    if let Some(owner) = inner.owner.get() {
        return owner.clone();
    }
    let user = inner.user();
    let owner = match from_numbers(user) {
        Some(owner) => owner,
        None => {
            let passwd = text(inner, cx, "/etc/passwd").await;
            let group = match user.split_once(':') {
                Some(_) => text(inner, cx, "/etc/group").await,
                None => Ok(String::new()),
            };
            let found = passwd.ok().zip(group.ok()).and_then(|(p, g)| from_files(user, &p, &g));
            match found {
                Some(owner) => owner,
                // A user may come into being later, or be known to the container in other ways.
                None => return Owner::Named(user.to_owned()),
            }
        }
    };
    let _ = inner.owner.set(owner.clone());
    owner
}

async fn text(inner: &Inner, cx: &Context, path: &str) -> Result<String> {
    let mut content = Short(Vec::new());
    download::file(inner, cx, path, &mut content).await?;
    Ok(String::from_utf8_lossy(&content.0).into_owned())
}

/// The longest list of users that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// The text of such a list; a longer one is none.
struct Short(Vec<u8>);

impl AsyncWrite for Short {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.len() + bytes.len() > LONGEST {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn from_numbers(user: &str) -> Option<Owner> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let user = if matches!(user, "" | "root") { "0" } else { user };
    let group = if matches!(group, "" | "root") { "0" } else { group };
    Some(Owner::Ids(user.parse().ok()?, group.parse().ok()?))
}

fn from_files(user: &str, passwd: &str, groups: &str) -> Option<Owner> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let find = |file: &str, name: &str| -> Option<Vec<String>> {
        let mut lines = file.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        lines.find(|fields| fields.first().is_some_and(|first| first == name))
    };
    let entry = find(passwd, user);
    let uid = match &entry {
        Some(fields) => fields.get(2)?.parse().ok()?,
        None => user.parse().ok()?,
    };
    let gid = match group {
        "" => entry.and_then(|fields| fields.get(3)?.parse().ok()).unwrap_or(0),
        name => match name.parse() {
            Ok(number) => number,
            Err(_) => find(groups, name)?.get(2)?.parse().ok()?,
        },
    };
    Some(Owner::Ids(uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_become_numbers() {
        for (user, ids) in
            [("", (0, 0)), ("root", (0, 0)), ("7", (7, 0)), ("7:8", (7, 8)), ("root:5", (0, 5))]
        {
            assert_eq!(from_numbers(user), Some(Owner::Ids(ids.0, ids.1)), "{user}");
        }
        assert_eq!(from_numbers("app"), None);
        let (passwd, groups) =
            ("root:x:0:0::/:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", "app:x:1001:\nweb:x:33:\n");
        let found = |user| from_files(user, passwd, groups);
        assert_eq!(found("app"), Some(Owner::Ids(1000, 1001)));
        assert_eq!(found("app:web"), Some(Owner::Ids(1000, 33)));
        assert_eq!(found("12:web"), Some(Owner::Ids(12, 33)));
        assert_eq!(found("nobody"), None);
        assert_eq!(found("app:none"), None);
    }
}
