//! The engine's second builder, BuildKit: what it prints is told in another form, and it asks back over a session.

use std::collections::{HashMap, HashSet};

use bollard::auth::DockerCredentials;
use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::client::{Client, shortened};
use super::lines::Lines;
use crate::context::Host;
use crate::error::{Error, Result, os_text};

/// Builds an image; `show` gets the lines that the builder prints.
pub(super) async fn build(
    client: &Client,
    host: &Host,
    mut options: BuildImageOptions,
    credentials: HashMap<String, DockerCredentials>,
    body: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    show: impl Fn(&str),
) -> Result<()> {
    options.version = BuilderVersion::BuilderBuildKit;
    options.session = Some(uuid::Uuid::new_v4().simple().to_string());
    // What the session has started ends with the runtime; nothing else ends it.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().thread_name("buildkit").build();
    let runtime = Ending(Some(runtime.map_err(|e| Error::internal(os_text(&e)))?));
    let Some(spawner) = &runtime.0 else { return Ok(()) };
    let (host, address) = (host.clone(), client.address().to_owned());
    let certificates = client.certificates().map(|path| path.display().to_string());
    let (lines, mut printed) = mpsc::channel::<String>(64);
    let mut work = spawner.spawn(async move {
        // Connections belong to the runtime that they were made on.
        let client = Client::connect_to(&host, &address, certificates.as_deref()).await?;
        let body = bollard::body_try_stream(body);
        let (api, pieces) = client.in_pieces()?;
        let mut stream = api.build_image(options, Some(credentials), Some(body));
        let mut told = Told::default();
        let built = async {
            while let Some(info) = stream.next().await {
                let info = pieces.take("the engine", info)?;
                if let Some(failure) = info.error_detail.as_ref().and_then(|detail| detail.message.as_deref())
                {
                    return Err(Error::user(shortened(failure)));
                }
                for line in told.lines(info) {
                    if lines.send(line).await.is_err() {
                        return Err(Error::cancelled());
                    }
                }
            }
            Ok(())
        };
        let built = built.await;
        for line in told.rest() {
            if lines.send(line).await.is_err() {
                break;
            }
        }
        built
    });
    let result = loop {
        tokio::select! {
            Some(line) = printed.recv() => show(&line),
            result = &mut work => break result,
        }
    };
    while let Ok(line) = printed.try_recv() {
        show(&line);
    }
    result.unwrap_or_else(|panic| Err(Error::internal(panic.to_string())))
}

/// A runtime that ends with this value, without waiting for what runs on it.
struct Ending(Option<Runtime>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many steps of a build are told. No build has as many.
const MOST_STEPS: usize = 1 << 16;

/// What has been told of a build.
#[derive(Default)]
struct Told {
    started: HashSet<String>,
    /// The last lines of the steps' commands as far as they came.
    printed: HashMap<String, Lines>,
    /// How many bytes of them wait for their ends.
    held: usize,
}

/// How many bytes of lines may wait for their ends. No build has as many.
const MOST_HELD: usize = 16 << 20;

/// No step has a longer name among the messages.
const LONGEST_NAME: usize = 256;

impl Told {
    /// The lines of a message: the steps that start, and what their commands print.
    fn lines(&mut self, info: BuildInfo) -> Vec<String> {
        let Some(BuildInfoAux::BuildKit(status)) = info.aux else { return Vec::new() };
        let mut lines = Vec::new();
        for step in status.vertexes {
            let room = self.started.len() < MOST_STEPS && step.digest.len() <= LONGEST_NAME;
            if room && (step.started.is_some() || step.cached) && self.started.insert(step.digest) {
                lines.push(step.name);
            }
        }
        for log in status.logs.into_iter().filter(|log| log.vertex.len() <= LONGEST_NAME) {
            if self.printed.len() >= MOST_STEPS && !self.printed.contains_key(&log.vertex) {
                continue;
            }
            let printed = self.printed.entry(log.vertex).or_default();
            self.held -= printed.pending();
            lines.extend(printed.push(&log.msg));
            self.held += printed.pending();
            if self.held > MOST_HELD {
                self.printed.values_mut().filter(|lines| lines.pending() > 0).for_each(Lines::drop_line);
                self.held = 0;
            }
        }
        lines
    }

    /// Lines that did not end.
    fn rest(&mut self) -> Vec<String> {
        self.printed.values_mut().flat_map(Lines::end).collect()
    }
}
