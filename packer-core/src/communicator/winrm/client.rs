//! Requests to one server, over connections that are kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::failure::{Class, Failure};
use super::http::Connection;
use super::settings::Settings;
use super::soap::{Answer, Request};
use crate::error::Unreachable;

/// How much longer than the server may think about a request an answer is waited for.
const GRACE: Duration = Duration::from_secs(30);

/// How many connections are kept.
const MOST_KEPT: usize = 8;

/// A server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    /// Connections that nobody uses just now.
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings: Arc::new(settings), idle: Mutex::new(Vec::new()) }))
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.0.settings
    }

    /// Asks for something.
    pub(super) async fn call(&self, request: Request<'_>) -> Result<Answer, Failure> {
        self.call_within(request, self.settings().operation + GRACE).await
    }

    /// Asks for something that is to be answered within so long.
    pub(super) async fn call_within(&self, request: Request<'_>, limit: Duration) -> Result<Answer, Failure> {
        // In a box, as what follows on it is large, and it stands in many futures.
        let work = Box::pin(self.ask(request));
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => {
                let Settings { host, port, .. } = &**self.settings();
                let verb = request.verb();
                let text = format!("{host}:{port} was asked to {verb} and said nothing for {limit:?}");
                Err(Failure::network(text).because(Unreachable::Silent))
            }
        }
    }

    async fn ask(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let settings = &self.0.settings;
        let id = uuid::Uuid::new_v4();
        let xml = request.envelope(&settings.address, settings.operation, id);
        let (mut connection, is_fresh) = match self.take() {
            Some(connection) => (connection, false),
            None => (Connection::dial(settings).await?, true),
        };
        let mut answer = connection.post(&xml).await;
        // A server closes a connection that was idle for long without a word. What it may have seen is not sent twice, but
        // for a shell: one too many ends by itself.
        let again = answer.as_ref().err().is_some_and(|failure| {
            failure.is_unsent || failure.is_loss() && matches!(request, Request::Create)
        });
        if again && !is_fresh {
            self.forget();
            connection = Connection::dial(settings).await?;
            answer = connection.post(&xml).await;
        }
        let text = answer?;
        let answer = Answer::read(&text, request.verb(), id)
            .map_err(|failure| failure.at(&settings.host, settings.port));
        if answer.as_ref().err().is_none_or(|failure| matches!(failure.class, Class::Says(_))) {
            self.keep(connection);
        }
        answer
    }

    /// Forgets the connections that nobody uses.
    pub(super) fn forget(&self) {
        self.idle().clear();
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if connection.is_open() && idle.len() < MOST_KEPT {
            idle.push(connection);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
