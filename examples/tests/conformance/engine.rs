//! The engine that the cases of `docker` run against.

#[cfg(target_os = "linux")]
pub(crate) use packer_core::testing::dockerd::Dockerd;

/// An engine with the image and the registry that the cases name; `None` where it cannot be started, which is then said.
#[cfg(target_os = "linux")]
pub(crate) fn start() -> Option<Dockerd> {
    let mut engine = Dockerd::start()?;
    engine.registry(None)?;
    engine.docker(&["tag", packer_core::testing::dockerd::IMAGE, "conform/busybox:1"]);
    engine.docker(&["rmi", packer_core::testing::dockerd::IMAGE]);
    Some(engine)
}

/// Elsewhere there is none.
#[cfg(not(target_os = "linux"))]
pub(crate) struct Dockerd;

#[cfg(not(target_os = "linux"))]
impl Dockerd {
    pub(crate) fn address(&self) -> String {
        String::new()
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn start() -> Option<Dockerd> {
    packer_core::testing::skip("Linux, to start a Docker engine");
    None
}
