//! `GET /events`: what happened, for those who poll.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::{Event, Events, Label, date_and_time};

/// Events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventsView {
    /// The number of the last one of these, or of the last there was if there are none: what to ask for next, as `after`.
    pub last: u64,
    pub events: Vec<EventView>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// From 1 at the start of the process.
    pub number: u64,
    /// In RFC 3339, as all times here.
    pub at: String,
    /// `null`: it is about the whole process.
    pub pool: Option<String>,
    pub server: Option<String>,
    /// `ejected`, `returning`, `reloaded` ...
    pub what: String,
    /// Empty where nothing went wrong.
    pub why: String,
    /// Of a failing server: its first failure. Of a returning one: its ejection.
    pub since: Option<String>,
    /// Of an ejected server: its return at the earliest. Of a returning one: all of its traffic.
    pub until: Option<String>,
}

/// The last few with numbers above `after`.
pub fn events(events: &Events, count: usize, after: u64) -> EventsView {
    // Counted before: an event that comes in between is told next time.
    let ever: u64 = events.counts().iter().map(|(_, count)| count).sum();
    let events: Vec<EventView> =
        events.numbered(count, after).into_iter().map(|(number, event)| EventView::of(number, event)).collect();
    EventsView { last: events.last().map_or(ever, |event| event.number), events }
}

impl EventView {
    fn of(number: u64, event: Event) -> Self {
        let Event { at, pool, server, what, why, since, until } = event;
        let name = |name: String| (!name.is_empty()).then_some(name);
        let time = |at: Option<SystemTime>| at.map(date_and_time);
        Self {
            number,
            at: date_and_time(at),
            pool: name(pool),
            server: name(server),
            what: what.name().to_owned(),
            why,
            since: time(since),
            until: time(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::What;

    #[test]
    fn whoever_polls_sees_each_event_once() {
        let kept = Events::new();
        assert_eq!(events(&kept, 100, 0), EventsView { last: 0, events: Vec::new() });
        let (mut seen, mut after) = (Vec::new(), 0);
        for round in 0..5u32 {
            for number in 0..round {
                kept.record(Event::of_process(What::Reloaded, format!("{round} {number}")));
            }
            let view = events(&kept, 100, after);
            after = view.last;
            seen.extend(view.events.into_iter().map(|event| event.why));
        }
        assert_eq!((seen.len(), after), (10, 10));
        assert_eq!(events(&kept, 100, after).last, 10);
        assert_eq!(events(&kept, 2, 0).events.iter().map(|e| e.number).collect::<Vec<_>>(), [9, 10]);
    }
}
