//! What is answered: a status, a type, a body, and headers that keep browsers from doing more with it than showing it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, response};
use serde::Serialize;
use serde_json::json;

/// Shorter bodies are not worth the time.
const WORTH_GZIP: usize = 8 << 10;

/// Of what is no page.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
    /// `Content-Security-Policy`
    policy: &'static str,
    more: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    fn new(status: StatusCode, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind, body: body.into(), policy: POLICY, more: Vec::new() }
    }

    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK, "text/plain; charset=utf-8", text)
    }

    /// A document for browsers, with what it may do.
    pub fn page(html: &str, policy: &'static str) -> Self {
        Self { policy, ..Self::new(StatusCode::OK, "text/html; charset=utf-8", html) }
    }

    /// Text of another kind, with its `Content-Type`.
    pub fn of_kind(kind: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK, kind, text)
    }

    /// A value, as one line of JSON.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Self::new(StatusCode::OK, "application/json", text + "\n"),
            Err(error) => Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub fn error(status: StatusCode, why: &str) -> Self {
        Self { status, ..Self::json(&json!({ "error": why })) }
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Refused: these methods are served here.
    pub fn not_allowed(allowed: &'static str) -> Self {
        let mut answer = Self::error(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed here: {allowed}"));
        answer.more.push((ALLOW, HeaderValue::from_static(allowed)));
        answer
    }

    /// Refused: there is a token.
    pub fn unauthorized(why: &str) -> Self {
        let mut answer = Self::error(StatusCode::UNAUTHORIZED, why);
        answer.more.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outrigger\"")));
        answer
    }

    /// Compressed, if that is worth while. Little and fast: it is the time of the proxy's own machine.
    pub fn gzipped(mut self) -> Self {
        self.more.push((VARY, HeaderValue::from_static("Accept-Encoding")));
        if self.body.len() < WORTH_GZIP {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.body.len() / 4), Compression::fast());
        if let Ok(body) = encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            self.body = body;
            self.more.push((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        self
    }

    pub(super) fn into_parts(self) -> (response::Parts, Vec<u8>) {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.status;
        for (name, value) in [
            (CONTENT_TYPE, self.kind),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            (CONTENT_SECURITY_POLICY, self.policy),
        ] {
            parts.headers.insert(name, HeaderValue::from_static(value));
        }
        parts.headers.insert(CONTENT_LENGTH, self.body.len().into());
        parts.headers.extend(self.more);
        (parts, self.body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn long_answers_are_compressed_and_say_so() {
        let text = "outrigger_server_up{pool=\"a\",server=\"b\"} 1\n".repeat(1000);
        let (parts, body) = Answer::text(text.clone()).gzipped().into_parts();
        assert_eq!(parts.headers[CONTENT_ENCODING], "gzip");
        assert_eq!(parts.headers[CONTENT_LENGTH], body.len().to_string().as_str());
        assert!(body.len() < text.len() / 10, "{}", body.len());
        let mut again = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut again).unwrap();
        assert_eq!(again, text);

        let (parts, body) = Answer::text("ok\n").gzipped().into_parts();
        assert_eq!((parts.headers.get(CONTENT_ENCODING), &body[..]), (None, &b"ok\n"[..]));
        assert_eq!(parts.headers[VARY], "Accept-Encoding");
    }
}
