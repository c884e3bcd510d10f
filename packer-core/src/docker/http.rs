//! One request over a connection of its own, whatever leads to the engine.

use bollard::BollardRequest;
use bollard::errors::Error as EngineError;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;

use super::way::Counted;

/// Sends a request over a stream that leads to the engine. The stream ends with the response, or with what that became.
pub(super) async fn send(
    stream: Counted,
    request: BollardRequest,
    host: HeaderValue,
) -> Result<Response<Incoming>, EngineError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection.with_upgrades());
    let (mut parts, body) = request.into_parts();
    // The other side wants only the path.
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    parts.headers.insert(HOST, host);
    match sender.send_request(BollardRequest::from_parts(parts, body)).await {
        // It ended before it took the request; why, only the connection has heard.
        Err(error) if error.is_canceled() => match connection.await {
            Ok(Err(reason)) => Err(reason.into()),
            _ => Err(error.into()),
        },
        answer => Ok(answer?),
    }
}
