//! One HTTP/1.1 request on a connection of its own.

use std::{io, net::SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const HEADERS_MAX: usize = 64;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Such as 200.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The body as text; what is no UTF-8 becomes replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `method target` with `body` and reads until the server closes. `target` is the path with its query.
pub async fn http_request(addr: SocketAddr, method: &str, target: &str, body: &[u8]) -> io::Result<HttpResponse> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse_response(&answer)
}

fn parse_response(answer: &[u8]) -> io::Result<HttpResponse> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut slots);
    let head_bytes = match head.parse(answer).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Err(invalid("the answer ends within its headers")),
    };
    let mut headers = HeaderMap::new();
    for header in head.headers.iter() {
        let name = HeaderName::try_from(header.name).map_err(|error| invalid(&error.to_string()))?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| invalid(&error.to_string()))?;
        headers.append(name, value);
    }
    let rest = &answer[head_bytes..];
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if chunked { join_chunks(rest)? } else { rest.to_vec() };
    Ok(HttpResponse { status: head.code.unwrap_or(0), headers, body })
}

fn join_chunks(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((head_bytes, chunk_bytes))) = httparse::parse_chunk_size(rest) else {
            return Err(invalid("broken chunk size"));
        };
        if chunk_bytes == 0 {
            return Ok(body);
        }
        let chunk_bytes = usize::try_from(chunk_bytes).map_err(|_| invalid("chunk too large"))?;
        let end = head_bytes.checked_add(chunk_bytes).ok_or_else(|| invalid("chunk too large"))?;
        body.extend_from_slice(rest.get(head_bytes..end).ok_or_else(|| invalid("chunk cut off"))?);
        rest = rest.get(end + 2..).ok_or_else(|| invalid("chunk cut off"))?;
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("HTTP/1 answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_headers_kept() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let response = parse_response(answer).expect("it is well formed");
        assert_eq!((response.status, response.text().as_str()), (200, "abcde"));
        assert_eq!(response.headers["a"], "b");
    }

    #[test]
    fn cut_answers_are_errors() {
        assert!(parse_response(b"HTTP/1.1 200 OK\r\nA: ").is_err());
        assert!(parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc").is_err());
    }
}
