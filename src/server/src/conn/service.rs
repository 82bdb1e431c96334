//! What answers the calls of a connection.

use std::future::Future;

use bytes::Bytes;
use plinth_rpc::{Method, Replies, Reply, RequestMeta, Requests, Status};

/// The API behind the connections of one executor.
///
/// A future returned here is dropped when its client goes away, resets the call or runs out of time: whatever must go on then
/// has to be a task of its own.
pub trait Service: 'static {
    /// Whether there is such a method here. A call of any other is answered like one of an unknown path: at once, and without being counted.
    fn implements(&self, method: Method) -> bool;

    /// Answers a unary call. Only methods of kind unary come here; time limits of the caller are kept by the connection.
    ///
    /// `request` is the encoded message. It often is a slice of the read buffer: who keeps a part of it for long copies it, or keeps
    /// the whole buffer.
    fn unary(&self, method: Method, request: Bytes, meta: RequestMeta) -> impl Future<Output = Result<Reply, Status>>;

    /// Answers a streaming call, of either kind.
    fn stream(
        &self,
        method: Method,
        meta: RequestMeta,
        requests: impl Requests,
        replies: impl Replies,
    ) -> impl Future<Output = Result<(), Status>>;

    /// Answers an HTTP/1 request: all of method, path, query and headers. The routes are the service's; a body that came with the
    /// request is skipped.
    fn http(&self, request: http::Request<()>) -> impl Future<Output = http::Response<Bytes>>;
}
