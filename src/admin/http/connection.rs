//! One client: requests one after the other, each read within bounds, until either side has enough.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::{Method, StatusCode};
use pingora_core::protocols::http::ReusableHttpStream;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::protocols::l4::stream::Stream;
use tokio::time::{sleep, timeout};

use super::App;
use super::answer::Answer;
use super::metered::{Meter, Metered};
use super::request::Request;
use super::{guard, routes};
use crate::admin::port::Seat;

/// Of one request, its body included.
const MOST_BYTES: usize = 16 << 10;
const MOST_BODY: usize = 1 << 10;
/// For a whole request from its first wait on, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the next request of a client that was answered, in seconds.
const KEEP_ALIVE: u64 = 10;
/// Whoever has said nothing for so long gives way when all seats are taken.
const SILENCE: Duration = Duration::from_millis(50);

/// Answers until the client goes, or is sent away.
pub(super) async fn serve(app: Arc<App>, client: Stream, seat: Seat) {
    let (metered, meter) = Metered::new(client);
    let mut stream: pingora_core::protocols::Stream = Box::new(metered);
    let (mut patience, mut ahead) = (PATIENCE, None);
    loop {
        meter.allow(MOST_BYTES);
        let mut session = HttpSession::new(stream);
        session.set_pipelining_enabled(true);
        if let Some(bytes) = ahead.take() {
            session.set_pipelined_prefix(bytes);
        }
        let Some(answer) = hear(&app, &mut session, &meter, &seat, patience).await else { return };
        match timeout(PATIENCE, tell(session, answer)).await {
            Ok(Some((again, more))) => (stream, ahead) = (again, more),
            _ => return,
        }
        patience = Duration::from_secs(KEEP_ALIVE);
    }
}

/// Reads a request and has it answered. `None`: there is nobody to answer.
async fn hear(app: &App, session: &mut HttpSession, meter: &Meter, seat: &Seat, patience: Duration) -> Option<Answer> {
    let give_way = async {
        sleep(SILENCE).await;
        seat.wanted().await;
    };
    let read = tokio::select! {
        biased;
        read = timeout(patience, session.read_request()) => read,
        () = give_way => return None,
    };
    if !matches!(read, Ok(Ok(Some(_)))) {
        session.set_server_keepalive(None);
    }
    match read {
        Ok(Ok(Some(_))) => {}
        Ok(Ok(None)) => return None,
        Ok(Err(_)) if meter.is_used_up() => return Some(too_large()),
        Ok(Err(_)) if meter.has_begun() => return Some(Answer::error(StatusCode::BAD_REQUEST, "this is no HTTP/1.1")),
        Err(_) if meter.has_begun() => {
            return Some(Answer::error(StatusCode::REQUEST_TIMEOUT, "the request did not end"));
        }
        _ => return None,
    }
    let body = timeout(PATIENCE, body(session)).await;
    if !matches!(body, Ok(Ok(_))) {
        session.set_server_keepalive(None);
    }
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(_)) if meter.is_used_up() => return Some(too_large()),
        Ok(Err(answer)) => return Some(answer),
        Err(_) => return Some(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not end")),
    };
    session.set_server_keepalive((!seat.leaves()).then_some(KEEP_ALIVE));
    let settings = app.sources.topology.borrow().settings.admin.clone();
    let header = session.req_header();
    let answer = match Request::of(header.method.clone(), &header.uri, &header.headers, body) {
        Err(answer) => answer,
        Ok(request) => match guard::check(&settings, &header.headers, &request) {
            Err(answer) => answer,
            Ok(()) => routes::answer(app, &request).await,
        },
    };
    let accepts_gzip = header.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    Some(if accepts_gzip.is_some_and(accepts) { answer.gzipped() } else { answer })
}

fn too_large() -> Answer {
    Answer::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "a request may have 16 KiB")
}

/// A few words that an order may bring along; whatever comes with a question is not looked at.
async fn body(session: &mut HttpSession) -> Result<Vec<u8>, Answer> {
    let mut body = Vec::new();
    if session.req_header().method != Method::POST {
        return Ok(body);
    }
    let too_large = || Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 KiB");
    let announced =
        session.req_header().headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > MOST_BODY as u64) {
        return Err(too_large());
    }
    if session
        .req_header()
        .headers
        .get("expect")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        let _ = session.write_continue_response().await;
    }
    loop {
        match session.read_body_bytes().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Ok(body),
            Err(_) => return Err(Answer::error(StatusCode::BAD_REQUEST, "the body cannot be read")),
        }
        if body.len() > MOST_BODY {
            return Err(too_large());
        }
    }
}

/// Sends an answer. The stream, if the client may go on, and what it has sent of its next request.
async fn tell(mut session: HttpSession, answer: Answer) -> Option<(pingora_core::protocols::Stream, Option<BytesMut>)> {
    let (response, body) = answer.into_parts();
    session.write_response_header(Box::new(response.into())).await.ok()?;
    // Nothing of it goes out in answer to HEAD.
    session.write_body(&body).await.ok()?;
    session.finish_body().await.ok()?;
    session.reuse().await.ok()?.map(ReusableHttpStream::into_parts)
}

/// `gzip`, and not with a weight of 0.
fn accepts(encodings: &str) -> bool {
    encodings.split(',').any(|one| {
        let mut words = one.split(';').map(str::trim);
        words.next() == Some("gzip") && !words.any(|word| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_want_it() {
        assert!(accepts("gzip") && accepts("deflate, gzip;q=0.5") && accepts("br,gzip , *"));
        assert!(!accepts("") && !accepts("gzip;q=0") && !accepts("identity") && !accepts("xgzip"));
    }
}
