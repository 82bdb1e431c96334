//! Messages as the proto files describe them: text to bytes and back.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, text_format::FormatOptions};

/// The files that the cases speak of, below the folder with plinth's protos.
const PROTO_FILES: [&str; 4] = ["etcdserverpb.proto", "health.proto", "v3lockpb.proto", "v3electionpb.proto"];

/// All message types.
#[derive(Clone, Debug)]
pub struct Schema {
    pool: DescriptorPool,
}

/// One unary method.
#[derive(Clone, Debug)]
pub struct Method {
    /// As HTTP/2 has it, such as `/etcdserverpb.KV/Put`.
    pub path: String,
    /// Type of the request.
    pub request: MessageDescriptor,
    /// Type of the answer.
    pub response: MessageDescriptor,
}

impl Schema {
    /// Compiles the proto files in `folder`.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let files = protox::compile(PROTO_FILES, [folder]).map_err(|error| error.to_string())?;
        let pool = DescriptorPool::from_file_descriptor_set(files).map_err(|error| error.to_string())?;
        Ok(Self { pool })
    }

    /// The method `Service/Method`, its types found by etcd's rule for their names.
    pub fn method(&self, name: &str) -> Result<Method, String> {
        let (service, method) = name.split_once('/').ok_or_else(|| format!("{name:?} is no Service/Method"))?;
        let (package, stem) = match (service, method) {
            ("Health", "Watch") => ("grpc.health.v1", "HealthCheck".to_owned()),
            ("Health", _) => ("grpc.health.v1", format!("Health{method}")),
            ("Lock", _) => ("v3lockpb", method.to_owned()),
            ("Election", "Observe") => ("v3electionpb", "Leader".to_owned()),
            ("Election", _) => ("v3electionpb", method.to_owned()),
            (_, "Compact") => ("etcdserverpb", "Compaction".to_owned()),
            _ => ("etcdserverpb", method.to_owned()),
        };
        Ok(Method {
            path: format!("/{package}.{service}/{method}"),
            request: self.message(&match method {
                "RangeStream" => format!("{package}.RangeRequest"),
                _ => format!("{package}.{stem}Request"),
            })?,
            response: self.message(&format!("{package}.{stem}Response"))?,
        })
    }

    fn message(&self, name: &str) -> Result<MessageDescriptor, String> {
        self.pool.get_message_by_name(name).ok_or_else(|| format!("no proto file has {name}"))
    }
}

/// The message that `text` writes out, in the form that it has after a trip over the wire.
pub fn parse(descriptor: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let message = DynamicMessage::parse_text_format(descriptor.clone(), text)
        .map_err(|error| format!("{}: {error}", descriptor.name()))?;
    decode(descriptor, message.encode_to_vec().into())
}

/// The message in `bytes`; what the descriptor does not know is kept and shown.
pub fn decode(descriptor: &MessageDescriptor, bytes: Bytes) -> Result<DynamicMessage, String> {
    DynamicMessage::decode(descriptor.clone(), bytes).map_err(|error| format!("{}: {error}", descriptor.name()))
}

/// The message as a case would write it.
#[must_use]
pub fn print(message: &DynamicMessage) -> String {
    message.to_text_format_with_options(&FormatOptions::new().pretty(true).skip_unknown_fields(false))
}
