//! `outrigger events`: what happened, oldest first, and on request what happens.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::Deserialize;
use serde_json::Value;

use super::answers::Event;
use super::client::{Client, Failure};
use super::parts::first_line;
use crate::cli::complain;
use crate::cli::show::{Line, Output, Paint, print};

/// How often `--follow` looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Columns of a table whose last rows are not known yet.
const WIDTH_OF_WHAT: usize = 14;
const WIDTH_OF_WHERE: usize = 20;

/// Which.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Which {
    /// The latest N
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub last: usize,
    /// Go on with those that come
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON, an event a line
    #[arg(long)]
    pub json: bool,
}

/// `GET /events`, its events as they came.
#[derive(Deserialize)]
struct Answer {
    events: Vec<Value>,
}

/// Prints them. Ends when the reader has gone, if not before.
pub async fn events(client: &Client, which: &Which, output: Output) -> Result<(), Failure> {
    let Answer { events } = client.read(&format!("/events?last={}", which.last)).await?;
    let mut latest = events.last().cloned();
    let mut reader_there = show(&events, which.json, output);
    let mut lost = false;
    while which.follow && reader_there {
        tokio::time::sleep(LOOK_AGAIN).await;
        match newer(client, latest.as_ref()).await {
            Ok(events) => {
                lost = false;
                reader_there = events.is_empty() || show(&events, which.json, output);
                latest = events.last().cloned().or(latest);
            }
            Err(failure) => {
                if !lost {
                    complain(format_args!("outrigger: {failure}; asking again until there is an answer\n"));
                }
                lost = true;
            }
        }
    }
    Ok(())
}

/// What came after an event. That one is asked for as well: if there is another one in its place, another process
/// answers now, and all of its events are news.
async fn newer(client: &Client, latest: Option<&Value>) -> Result<Vec<Value>, Failure> {
    let number = latest.and_then(|event| event["number"].as_u64()).unwrap_or(0);
    let Answer { mut events } = client.read(&format!("/events?last=1000&after={}", number.saturating_sub(1))).await?;
    match latest {
        None => Ok(events),
        Some(latest) if events.first() == Some(latest) => {
            events.remove(0);
            Ok(events)
        }
        Some(_) => client.read("/events?last=1000&after=0").await.map(|answer: Answer| answer.events),
    }
}

fn show(events: &[Value], json: bool, output: Output) -> bool {
    let line = |event: &Value| match json {
        true => Line::plain(event.to_string()),
        false => {
            let event = Event::deserialize(event).unwrap_or_default();
            let at = Line::painted(format!("{}  ", event.at), Paint::Faint);
            what_happened(&event, at)
        }
    };
    print(&events.iter().map(line).collect::<Vec<_>>(), output).is_ok()
}

/// An event, behind what is said of its time.
pub fn what_happened(event: &Event, at: Line) -> Line {
    let paint = match event.what.as_str() {
        "ejected" | "reload_failed" | "upgrade_failed" => Paint::Bad,
        "kept" | "not_flushed" | "returning" => Paint::Warn,
        "readmitted" | "reloaded" | "upgraded" => Paint::Good,
        _ => Paint::Plain,
    };
    let place = match (event.pool.as_str(), event.server.as_str()) {
        (pool, "") => pool.to_owned(),
        (pool, server) => format!("{pool}/{server}"),
    };
    at.and(format!("{:<WIDTH_OF_WHAT$} ", event.what), paint)
        .and(format!("{place:<WIDTH_OF_WHERE$} "), Paint::Strong)
        .and(first_line(&event.why), Paint::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_row() {
        let event = |what: &str, pool: &str, server: &str, why: &str| Event {
            what: what.into(),
            pool: pool.into(),
            server: server.into(),
            why: why.into(),
            ..Event::default()
        };
        let row = |event| what_happened(&event, Line::new()).to_string();
        assert_eq!(
            row(event("ejected", "cache", "one", "Connection refused")),
            "ejected        cache/one            Connection refused"
        );
        assert_eq!(
            row(event("draining", "", "", "SIGTERM\n  more\n")),
            "draining                            SIGTERM …"
        );
        assert_eq!(row(event("reloaded", "", "", "1 pool")), "reloaded                            1 pool");
    }
}
