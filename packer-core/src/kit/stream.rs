//! Streams of bytes to a peer, whatever they are made of.

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream in both directions. One type for sockets, secured connections, channels and programs: the protocols that are
/// spoken over it are large, and compiled once for each type of stream.
pub(crate) type Stream = Box<dyn TwoWay>;

/// What a [`Stream`] can be made of.
pub(crate) trait TwoWay: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> TwoWay for S {}
