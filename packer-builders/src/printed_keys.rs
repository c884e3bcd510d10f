//! The host keys that a machine tells on its console: cloud-init prints them between two lines when the machine has booted (its
//! module `keys_to_console`).

use packer_core::async_trait;
use packer_core::communicator::HostKeySource;
use tokio::sync::watch;

const BEGINS: &str = "-----BEGIN SSH HOST KEY KEYS-----";
const ENDS: &str = "-----END SSH HOST KEY KEYS-----";
/// What cloud-init says first.
const CLOUD_INIT: &str = "Cloud-init v.";
/// The longest line that is read; a key of 16384 bits has 2800 characters.
const LONGEST: usize = 8 * 1024;
/// A machine has so many keys at most.
const MOST_KEYS: usize = 32;

/// The host keys that a machine has printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrintedKeys(watch::Sender<Printed>);

#[derive(Debug, Default)]
struct Printed {
    /// The end of what was printed, which is no whole line yet.
    line: String,
    /// What was printed since the keys began.
    begun: Option<Vec<String>>,
    /// All keys, the last time they were printed.
    keys: Option<Vec<String>>,
    /// Whether they will be printed.
    expected: bool,
}

impl Printed {
    /// Takes a line; whether something is known by it.
    fn read(&mut self, line: &str) -> bool {
        // What the machine's kernel prints may stand before, colours may too.
        if line.contains(BEGINS) {
            self.begun = Some(Vec::new());
        } else if line.contains(ENDS) {
            self.keys = self.begun.take().filter(|keys| !keys.is_empty());
            return self.keys.is_some();
        } else if let Some(begun) = &mut self.begun {
            let line = line.trim();
            if begun.len() < MOST_KEYS && ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| line.starts_with(kind))
            {
                begun.push(line.to_owned());
            }
        } else {
            self.expected |= line.contains(CLOUD_INIT);
        }
        false
    }
}

impl PrintedKeys {
    /// Adds what the machine printed.
    pub(crate) fn push(&self, text: &str) {
        self.0.send_if_modified(|printed| {
            let mut news = false;
            for piece in text.split_inclusive('\n') {
                if printed.line.len() + piece.len() > LONGEST {
                    printed.line.clear();
                }
                printed.line.push_str(piece.split_at(piece.floor_char_boundary(LONGEST)).0);
                if piece.ends_with('\n') {
                    let line = std::mem::take(&mut printed.line);
                    news |= printed.read(&line);
                }
            }
            news
        });
    }
}

impl PrintedKeys {
    /// The keys, where they have been printed; nothing where nobody says that they will be.
    #[cfg(feature = "amazon")]
    pub(crate) fn known(&self) -> Option<Vec<String>> {
        let printed = self.0.borrow();
        let keys = printed.keys.clone();
        if printed.expected { keys } else { keys.or_else(|| Some(Vec::new())) }
    }
}

#[async_trait]
impl HostKeySource for PrintedKeys {
    /// A machine on which cloud-init runs is waited for; of others nobody knows whether they print any.
    async fn host_keys(&self) -> Vec<String> {
        let mut printed = self.0.subscribe();
        let told = printed.wait_for(|printed| printed.keys.is_some() || !printed.expected).await;
        told.ok().and_then(|printed| printed.keys.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(console: &PrintedKeys) -> Option<Vec<String>> {
        tokio::time::timeout(std::time::Duration::from_millis(5), console.host_keys()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_known_when_all_were_printed() {
        let console = PrintedKeys::default();
        assert_eq!(told(&console).await, Some(Vec::new()), "nobody says that they will come");
        console.push("[    1.0] Linux\r\nCloud-init v. 22.4.2 running 'ini");
        console.push("t' at Thu\r\n");
        assert_eq!(told(&console).await, None, "cloud-init will print them");
        console.push("-----BEGIN SSH HOST KEY KEYS-----\r\nssh-ed25519 AAAA");
        console.push("B root@m\r\n[   20.1] a word of the kernel\r\necdsa-sha2-nistp256 CCCC root@m\r\n");
        assert_eq!(told(&console).await, None, "there may be more");
        console.push("-----END SSH HOST KEY KEYS-----\r\n");
        let both = ["ssh-ed25519 AAAAB root@m", "ecdsa-sha2-nistp256 CCCC root@m"].map(str::to_owned);
        assert_eq!(told(&console).await, Some(both.to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_machine_prints_is_bounded() {
        let console = PrintedKeys::default();
        console.push(&format!("x{}", "é".repeat(LONGEST)));
        assert!(console.0.borrow().line.len() <= LONGEST);
        for _ in 0..100 {
            console.push(&"x".repeat(LONGEST - 1));
        }
        assert!(console.0.borrow().line.len() <= LONGEST);
        console.push("\n-----BEGIN SSH HOST KEY KEYS-----\n");
        for _ in 0..2 * MOST_KEYS {
            console.push("ssh-rsa AAAA\n");
        }
        console.push("-----END SSH HOST KEY KEYS-----\n");
        assert_eq!(told(&console).await.map(|keys| keys.len()), Some(MOST_KEYS));
    }
}
