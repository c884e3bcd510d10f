//! `DOCKER_HOST=tcp://…` with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`: the engine itself asks for certificates.

use std::path::{Path, PathBuf};
use std::process::Command;

use packer_core::Host;
use packer_core::communicator::docker::{DockerCommunicator, Options};
use packer_core::docker::Client;
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::{Bench, TempFolder, builder, communicator, require};

use crate::{base, block_on, fails, made, nothing_is_left, registry, shows_its_work};

/// The engine's loopback is its own, so that nobody else has the port.
const ADDRESS: &str = "tcp://127.0.0.1:2376";

/// What certificates are for, as `openssl` wants to be told.
const PURPOSES: &str = "[req]\ndistinguished_name = dn\n[dn]\n\
    [ca]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n\
    [server]\nsubjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth\n\
    [client]\nextendedKeyUsage = clientAuth\n";

/// An authority of a test's own, and the folders with what it gave out.
struct Authority {
    openssl: PathBuf,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf) -> Option<Self> {
        let openssl = require("openssl")?;
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("purposes"), PURPOSES).unwrap();
        let authority = Self { openssl, folder };
        authority.request("ca", &authority.folder, &[]);
        std::fs::rename(authority.folder.join("cert.pem"), authority.folder.join("ca.pem")).unwrap();
        std::fs::rename(authority.folder.join("key.pem"), authority.folder.join("ca.key")).unwrap();
        Some(authority)
    }

    /// A folder with `ca.pem`, `cert.pem` and `key.pem`.
    fn certify(&self, purpose: &str) -> PathBuf {
        let (folder, file) =
            (self.folder.join(purpose), |name: &str| self.folder.join(name).display().to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(self.folder.join("ca.pem"), folder.join("ca.pem")).unwrap();
        self.request(purpose, &folder, &["-CA", &file("ca.pem"), "-CAkey", &file("ca.key")]);
        folder
    }

    fn request(&self, purpose: &str, folder: &Path, more: &[&str]) {
        let subject = format!("/CN={} {purpose}", self.folder.file_name().unwrap().display());
        let made = Command::new(&self.openssl)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &subject, "-extensions", purpose])
            .arg("-config")
            .arg(self.folder.join("purposes"))
            .args(more)
            .arg("-keyout")
            .arg(folder.join("key.pem"))
            .arg("-out")
            .arg(folder.join("cert.pem"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A folder with these files of others.
fn mixed(folder: PathBuf, files: &[(&Path, &str)]) -> PathBuf {
    std::fs::create_dir(&folder).unwrap();
    for (from, name) in files {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    folder
}

fn host(engine: &Dockerd, certificates: &Path) -> Host {
    let mut host = engine.host();
    let certificates = certificates.display().to_string();
    let tls = [("DOCKER_HOST", ADDRESS), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &certificates)];
    for (name, value) in tls {
        host.env.insert(name.to_owned(), value.to_owned());
    }
    host
}

/// Much at once, and in both directions: the end of a stream is another thing in TLS than in a socket.
async fn all_of_a_communicator(engine: &Dockerd, host: &Host) {
    let id = engine.docker(&["run", "-d", "-i", "--network=none", IMAGE]);
    let client = Client::connect(host).await.unwrap();
    let inside = DockerCommunicator::connect(client, &id, Options::default()).await.unwrap();
    communicator::suite(&inside, Bench::with_host(host.clone()).context()).await;
    engine.docker(&["rm", "-f", &id]);
}

#[test]
fn an_engine_behind_tls_asks_who_is_there() {
    let folder = TempFolder::new();
    let Some(authority) = Authority::new(folder.path().join("authority")) else { return };
    let Some(other) = Authority::new(folder.path().join("other")) else { return };
    let (server, client, stranger) =
        (authority.certify("server"), authority.certify("client"), other.certify("client"));
    let file = |name: &str| server.join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let listen =
        ["-H", ADDRESS, "--tlsverify", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key];
    let Some(engine) = Dockerd::with(&listen) else { return };
    let before = engine.inventory();
    let friend = host(&engine, &client);
    let image = engine.inside(|| {
        block_on(async {
            let (artifact, _) = made(&friend, base().commit()).await;
            all_of_a_communicator(&engine, &friend).await;
            // The way is in the ledger, for a later process.
            builder::recovers(|| base().commit(), &registry(), &friend).await;
            artifact.id
        })
    });
    shows_its_work(&engine, &image);

    let wrong_ca = mixed(
        folder.path().join("wrong-ca"),
        &[(&stranger, "ca.pem"), (&client, "cert.pem"), (&client, "key.pem")],
    );
    let no_certificate = mixed(folder.path().join("no-certificate"), &[(&client, "ca.pem")]);
    let strange = mixed(
        folder.path().join("strange"),
        &[(&client, "ca.pem"), (&stranger, "cert.pem"), (&stranger, "key.pem")],
    );
    let broken = mixed(folder.path().join("broken"), &[(&client, "ca.pem"), (&client, "cert.pem")]);
    std::fs::write(broken.join("key.pem"), "no key").unwrap();
    let no_key = format!(
        "{}: holds no private key that can be used without a passphrase",
        broken.join("key.pem").display()
    );
    let nothing_to_show = format!(
        "it asks for a certificate, and {} holds none (cert.pem and key.pem)",
        no_certificate.display()
    );
    for (certificates, reason) in [
        (&wrong_ca, "invalid peer certificate: UnknownIssuer"),
        (&no_certificate, &nothing_to_show),
        (&strange, "received fatal alert: BadCertificate"),
        (&broken, &no_key),
    ] {
        let error = engine.inside(|| block_on(fails(&host(&engine, certificates), base().commit())));
        assert_eq!(error.message(), format!("cannot reach the Docker engine at {ADDRESS}: {reason}"));
    }
    let mut plain = host(&engine, &client);
    plain.env.remove("DOCKER_TLS_VERIFY");
    let error = engine.inside(|| block_on(fails(&plain, base().commit())));
    let told = format!("cannot reach the Docker engine at {ADDRESS}: ");
    assert!(
        error.message().starts_with(&told) && error.message().ends_with("to an HTTPS server."),
        "{error}"
    );
    nothing_is_left(&engine, &before);
}
