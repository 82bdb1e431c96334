//! The head of a call: what HTTP must say for it to be gRPC, and the metadata that etcd understands.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header};

use crate::{Code, Method, Status, parse_timeout};

/// What handlers get to know of a call beside its message.
#[derive(Clone, Default, Debug)]
pub struct RequestMeta {
    /// How long the caller waits, counted from the arrival of the call.
    pub timeout: Option<Duration>,
    /// `hasleader: true`: fail at once when no leader is known.
    pub has_leader: bool,
    /// The call came through the JSON gateway: a TLS common name is no login.
    pub via_gateway: bool,
    client_api_version: Option<HeaderValue>,
    token: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl RequestMeta {
    /// The auth token: `token`, else `authorization`, without a leading `Bearer `. Bytes that are no UTF-8 are no token.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        let value = self.token.as_ref().or(self.authorization.as_ref())?;
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        Some(text.strip_prefix("Bearer ").unwrap_or(text))
    }

    /// `client-api-version`, if the client sent one. Not UTF-8 is an error.
    pub fn client_api_version(&self) -> Result<Option<&str>, Status> {
        self.client_api_version
            .as_ref()
            .map(|value| std::str::from_utf8(value.as_bytes()).map_err(|_| crate::errors::INVALID_CLIENT_API_VERSION))
            .transpose()
    }
}

/// A call that may go on to its message.
#[derive(Debug)]
pub struct Call {
    /// Which RPC.
    pub method: Method,
    /// Its metadata.
    pub meta: RequestMeta,
}

/// A call that is answered without looking at its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallRefused {
    /// HTTP's part of the answer: 200 for everything that at least is a gRPC call.
    pub http_status: StatusCode,
    /// gRPC's part.
    pub status: Status,
}

const GRPC: &[u8] = b"application/grpc";

impl Call {
    /// Checks the head of a request in the order of grpc-go.
    pub fn parse(http_method: &HttpMethod, path: &str, headers: &HeaderMap) -> Result<Self, CallRefused> {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !is_grpc(content_type) {
            return refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type)),
            );
        }
        let mut meta = RequestMeta::default();
        let encoding = meta.read(headers)?;
        if http_method != HttpMethod::POST {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Internal,
                format!("Received a HEADERS frame with :method {:?} which should be POST", http_method.as_str()),
            );
        }
        let Some(method) = Method::from_path(path) else {
            return Err(CallRefused { http_status: StatusCode::OK, status: Method::unknown(path) });
        };
        if let Some(name) = encoding.filter(|name| !matches!(name.as_bytes(), b"" | b"identity")) {
            return refuse(
                StatusCode::OK,
                Code::Unimplemented,
                format!(
                    "grpc: Decompressor is not installed for grpc-encoding {:?}",
                    String::from_utf8_lossy(name.as_bytes())
                ),
            );
        }
        Ok(Self { method, meta })
    }
}

impl RequestMeta {
    /// One pass over the headers; the first value of a key counts. Gives back `grpc-encoding`.
    fn read<'a>(&mut self, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, CallRefused> {
        let mut encoding = None;
        let first = |slot: &mut Option<HeaderValue>, value: &HeaderValue| {
            slot.get_or_insert_with(|| value.clone());
        };
        let mut has_leader = None;
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => {
                    self.timeout = Some(parse_timeout(value.as_bytes()).or_else(|error| {
                        refuse(StatusCode::BAD_REQUEST, Code::Internal, format!("malformed grpc-timeout: {error}"))
                    })?);
                }
                "grpc-encoding" => encoding = Some(value),
                "hasleader" => has_leader = has_leader.or(Some(value == "true")),
                "client-api-version" => first(&mut self.client_api_version, value),
                "token" => first(&mut self.token, value),
                "authorization" => first(&mut self.authorization, value),
                "grpcgateway-accept" => self.via_gateway = true,
                _ => {}
            }
        }
        self.has_leader = has_leader == Some(true);
        Ok(encoding)
    }
}

/// `application/grpc`, alone or with a subtype (`+proto`) or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(GRPC).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn refuse<T>(http_status: StatusCode, code: Code, text: String) -> Result<T, CallRefused> {
    Err(CallRefused { http_status, status: Status::new(code, text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).expect("a valid value");
            if *name == "content-type" {
                headers.insert(*name, value);
            } else {
                headers.append(*name, value);
            }
        }
        headers
    }

    fn parse(pairs: &[(&'static str, &'static [u8])]) -> Result<Call, CallRefused> {
        Call::parse(&HttpMethod::POST, "/etcdserverpb.KV/Range", &headers(pairs))
    }

    fn refused(http: u16, code: Code, text: &str) -> Option<CallRefused> {
        let http_status = StatusCode::from_u16(http).expect("a valid status");
        Some(CallRefused { http_status, status: Status::new(code, text.to_owned()) })
    }

    #[test]
    fn metadata_keys_are_understood_and_first_values_count() {
        let call = parse(&[
            ("hasleader", b"true"),
            ("hasleader", b"false"),
            ("client-api-version", b"3.7"),
            ("authorization", b"Bearer b"),
            ("token", b"Bearer a"),
            ("token", b"z"),
            ("grpc-timeout", b"20m"),
            ("grpc-encoding", b"identity"),
        ])
        .expect("a good call");
        assert_eq!(call.method, Method::Range);
        assert!(call.meta.has_leader && !call.meta.via_gateway);
        assert_eq!(call.meta.client_api_version(), Ok(Some("3.7")));
        assert_eq!(call.meta.token(), Some("a"));
        assert_eq!(call.meta.timeout, Some(Duration::from_millis(20)));
        let call = parse(&[("authorization", b"Bearer b"), ("hasleader", b"1"), ("grpcgateway-accept", b"x")]);
        let meta = call.expect("a good call").meta;
        assert_eq!((meta.token(), meta.has_leader, meta.via_gateway), (Some("b"), false, true));
    }

    #[test]
    fn a_client_version_that_is_not_utf8_is_an_error() {
        let meta = parse(&[("client-api-version", b"\xff")]).expect("a good call").meta;
        assert_eq!(meta.client_api_version(), Err(crate::errors::INVALID_CLIENT_API_VERSION));
    }

    #[test]
    fn heads_that_are_not_grpc_are_refused_as_grpc_go_does() {
        let text = "invalid gRPC request content-type \"text/plain\"";
        assert_eq!(parse(&[("content-type", b"text/plain")]).err(), refused(415, Code::InvalidArgument, text));
        let text = "invalid gRPC request content-type \"application/grpcx\"";
        assert_eq!(parse(&[("content-type", b"application/grpcx")]).err(), refused(415, Code::InvalidArgument, text));
        assert!(parse(&[("content-type", b"application/grpc+proto")]).is_ok());
        let text = "malformed grpc-timeout: transport: timeout unit is not recognized: \"7x\"";
        assert_eq!(parse(&[("grpc-timeout", b"7x")]).err(), refused(400, Code::Internal, text));
        let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
        assert_eq!(parse(&[("grpc-encoding", b"gzip")]).err(), refused(200, Code::Unimplemented, text));
        let got = Call::parse(&HttpMethod::GET, "/etcdserverpb.KV/Range", &headers(&[]));
        let text = "Received a HEADERS frame with :method \"GET\" which should be POST";
        assert_eq!(got.err(), refused(405, Code::Internal, text));
        let got = Call::parse(&HttpMethod::POST, "/x.Y/Z", &headers(&[]));
        assert_eq!(got.err(), refused(200, Code::Unimplemented, "unknown service x.Y"));
    }
}
