//! What etcd's API looks like on the wire: messages, methods, statuses, gRPC framing and metadata. No sockets, no clock.
//!
//! Everything here is pure: bytes and headers in, values out. The connection loop of the server feeds it; `plinth-node` makes
//! commands of the messages.
//!
//! Invariant: no function of this crate panics on bytes or headers that a client sent.

pub mod errors;
mod frame;
mod metadata;
mod method;
mod proto;
mod reply;
mod status;
mod stream;
mod timeout;

pub use frame::{FRAME_HEADER_BYTES, Frame, FrameDecoder, FrameError};
pub use metadata::{Call, CallRefused, RequestMeta};
pub use method::{Kind, METHOD_COUNT, Method};
pub use proto::{authpb, etcdserverpb, health, mvccpb, v3electionpb, v3lockpb};
pub use reply::{Chunk, ChunkSource, NOT_AS_ANNOUNCED, Reply};
pub use status::{CODE_COUNT, Code, Status};
pub use stream::{Gone, Replies, Requests};
pub use timeout::{TimeoutError, parse_timeout};
