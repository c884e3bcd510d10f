//! How a tunnel is written: `LISTENPORT:HOST:PORT`.

/// From a port on one side to a host and port on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// Where connections are taken; 0 is any free port.
    pub(super) listen: u16,
    /// Where they lead, as the other side resolves it.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Tunnel {
    /// Reads `LISTENPORT:HOST:PORT`, an IPv6 address in brackets; no host is the other side itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "it must have the form LISTENPORT:HOST:PORT";
        let number =
            |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port (0 to 65535)"));
        let (listen, target) = text.split_once(':').ok_or(FORM)?;
        let listen = number(listen)?;
        let (host, port) = target.rsplit_once(':').ok_or(FORM)?;
        let port = number(port)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) if !address.is_empty() => address,
            None if host.contains(':') => {
                return Err(format!("{host:?} is no host (an IPv6 address stands in brackets)"));
            }
            Some(_) => "localhost",
            None if host.is_empty() => "localhost",
            None => host,
        };
        Ok(Self { listen, host: host.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_port_host_port() {
        for (good, host) in [
            ("8080:localhost:80", "localhost"),
            ("1:[::1]:2", "::1"),
            ("65535:a.b:1", "a.b"),
            ("0::80", "localhost"),
            ("0:[]:80", "localhost"),
        ] {
            assert_eq!(Tunnel::parse(good).map(|t| t.host), Ok(host.to_owned()), "{good}");
        }
        for bad in
            ["", "80", "80:x", "a:b:80", "80:b:c", "80:::1:2", "80:h:5:6", "99999:h:1", "1:h:99999", "-1:h:1"]
        {
            assert!(Tunnel::parse(bad).is_err(), "{bad}");
        }
    }
}
