//! `outrigger top`: looks at the proxy again and again, and shows what happened in between.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::answers::Topology;
use super::board::Board;
use super::client::{Client, Failure};
use super::screen::Screen;
use crate::cli::show::{Line, Output, Paint, print, size};

/// Events and hot keys that are asked for; a terminal may have room for fewer.
const EVENTS: usize = 20;
const HOT_KEYS: usize = 10;

/// How to look.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct View {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// Print N tables, without taking over the terminal, and exit
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// The same as -n 1
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let allowed = 0.1..=3600.0;
    let seconds = text.parse().ok().filter(|seconds| allowed.contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "allowed: 0.1 to 3600 seconds".to_owned())
}

impl View {
    fn blocks(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.count }
    }
}

/// A live screen on a terminal; else blocks of text, until there were enough, or the reader has gone.
pub async fn top(client: &Client, view: &View, output: Output) -> Result<(), Failure> {
    let mut watch = Watch::new(client, client.read("/topology").await?);
    if output.terminal && view.blocks().is_none() {
        let screen = Screen::enter(output)?;
        return tokio::select! {
            shown = on_screen(&mut watch, view.interval, &screen) => shown,
            quit = screen.until_quit() => Ok(quit?),
        };
    }
    let mut shown = 0;
    while view.blocks().is_none_or(|blocks| shown < blocks) {
        sleep(view.interval).await;
        watch.look().await;
        let mut lines = watch.board.lines(output.width(), None);
        if shown > 0 {
            lines.insert(0, Line::new());
        }
        if print(&lines, output).is_err() {
            break;
        }
        shown += 1;
    }
    Ok(())
}

/// The first picture has the averages since the start.
async fn on_screen(watch: &mut Watch<'_>, interval: Duration, screen: &Screen) -> Result<(), Failure> {
    let mut resized = signal(SignalKind::window_change())?;
    watch.look_around().await;
    loop {
        let next = Instant::now() + interval;
        loop {
            let (columns, rows) = size();
            let mut lines = watch.board.lines(Some(columns), Some(rows.saturating_sub(2)));
            lines.resize(rows.saturating_sub(1), Line::new());
            lines.push(Line::painted("q quits", Paint::Faint).cut(columns));
            screen.draw(&lines)?;
            tokio::select! {
                _ = resized.recv() => {}
                () = sleep_until(next) => break,
            }
        }
        watch.look().await;
    }
}

/// The board, kept up to date.
struct Watch<'c> {
    client: &'c Client,
    latest: Topology,
    board: Board,
}

impl<'c> Watch<'c> {
    fn new(client: &'c Client, first: Topology) -> Self {
        let mut board = Board::default();
        board.counted(None, &first);
        Self { client, latest: first, board }
    }

    async fn look(&mut self) {
        match self.client.read("/topology").await {
            Ok(now) => {
                self.board.counted(Some(&self.latest), &now);
                self.board.trouble = None;
                self.latest = now;
                self.look_around().await;
            }
            // It may be back at the next look.
            Err(failure) => self.board.trouble = Some(failure.to_string()),
        }
    }

    /// What else there is. It may be switched off, or not known to this proxy; then it is not shown.
    async fn look_around(&mut self) {
        self.board.events = self.client.read(&format!("/events?last={EVENTS}")).await.unwrap_or_default();
        self.board.hot_keys = self.client.read(&format!("/hotkeys?top={HOT_KEYS}")).await.unwrap_or_default();
    }
}
