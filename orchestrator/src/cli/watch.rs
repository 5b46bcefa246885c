//! `baton watch`: the page in the terminal, or one line a change.
//!
//! One voter is asked again and again, and another as soon as that one does not answer, or knows no
//! leader: what is shown says whose word it is, and how old. Ctrl-C ends it and changes nothing.

mod draw;
mod lines;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use failover::ids::Revision;
use orchestrator::overview::Overview;
use orchestrator::words::span;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio::time::sleep;
use wire::http::Client;

use crate::client::{Cluster, Failure};
use crate::screen::{Output, print};
use crate::verbs::Globals;

/// How long one voter may take; it holds an answer back for half a second at the most.
const ANSWER: Duration = Duration::from_secs(2);
/// The pause after an answer that did not come.
const AGAIN: Duration = Duration::from_millis(300);
/// An answer that is this old is not what is so now.
const STALE: Duration = Duration::from_secs(3);
/// How often the ages on the screen grow.
const REDRAW: Duration = Duration::from_millis(500);

/// `baton watch`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton watch
  baton watch --plain | tee -a incident.log
  baton watch --once
  baton watch -o json | jq -r .text

On the screen: q or Ctrl-C ends it, the arrows and PgUp, PgDn scroll. It changes nothing.
Without a terminal, and with -o json, it is one line a change.")]
pub struct Arguments {
    /// One line a change, no screen
    #[arg(long)]
    pub plain: bool,
    /// Look once and end
    #[arg(long)]
    pub once: bool,
}

pub async fn run(globals: &Globals, arguments: &Arguments) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let mut eyes = Eyes::new(cluster.clients().to_vec());
    if arguments.once {
        let looked = tokio::time::timeout(globals.timeout, eyes.until_seen()).await;
        let Ok(looked) = looked else {
            return Err(Failure::new(
                wire::exit::UNREACHABLE,
                format!("no voter could be asked: {}", eyes.sight.why()),
                "see `baton doctor`, and look at the voters' machines",
            ));
        };
        print(globals.output, &*looked, &lines::everything(&looked).join("\n"))?;
        return Ok(wire::exit::OK);
    }
    let plain = arguments.plain
        || globals.output == Output::Json
        || !std::io::stdout().is_terminal()
        || !std::io::stdin().is_terminal();
    tokio::select! {
        ended = async {
            if plain { follow(globals, eyes).await } else { screen(eyes).await }
        } => ended,
        () = told_to_end() => Ok(wire::exit::OK),
    }
}

/// Ctrl-C, where the terminal is not ours to read, and what a supervisor sends.
async fn told_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// What is seen now.
#[derive(Clone)]
struct Sight {
    /// The newest answer, and when it came.
    seen: Option<(Arc<Overview>, Instant)>,
    began: Instant,
    /// Why there is no newer one.
    trouble: Option<String>,
}

impl Sight {
    fn why(&self) -> &str {
        self.trouble.as_deref().unwrap_or("none answered in time")
    }

    /// For how long nothing has come, where that is too long.
    fn stale(&self) -> Option<Duration> {
        let came = self.seen.as_ref().map_or(self.began, |(_, came)| *came);
        Some(came.elapsed()).filter(|silent| *silent > STALE)
    }
}

/// The voters, one of which is asked.
struct Eyes {
    clients: Vec<Client>,
    asked: usize,
    after: Option<Revision>,
    sight: Sight,
}

impl Eyes {
    fn new(clients: Vec<Client>) -> Self {
        let sight = Sight { seen: None, began: Instant::now(), trouble: None };
        Self { clients, asked: 0, after: None, sight }
    }

    /// Asks once. A voter that knows no leader is believed when no other knows one.
    async fn look(&mut self) {
        let mut leaderless = None;
        for _ in 0..self.clients.len() {
            let Some(client) = self.clients.get(self.asked) else { return };
            let path = match self.after {
                Some(revision) => format!("/v1/overview?after={revision}"),
                None => "/v1/overview".to_owned(),
            };
            match client.get::<Overview>(&path, ANSWER).await {
                Ok(overview) if overview.known.status.leader.is_some() => {
                    return self.keep(overview);
                }
                Ok(overview) => leaderless = leaderless.or(Some(overview)),
                Err(error) => self.sight.trouble = Some(error.to_string()),
            }
            self.asked = (self.asked + 1) % self.clients.len();
            self.after = None;
        }
        match leaderless {
            Some(overview) => self.keep(overview),
            None => sleep(AGAIN).await,
        }
    }

    fn keep(&mut self, overview: Overview) {
        self.after = Some(overview.known.status.revision);
        self.sight.trouble = None;
        self.sight.seen = Some((Arc::new(overview), Instant::now()));
    }

    async fn until_seen(&mut self) -> Arc<Overview> {
        loop {
            self.look().await;
            if let Some((overview, _)) = &self.sight.seen {
                return overview.clone();
            }
        }
    }
}

/// One line a change, for logs and for whoever listens to a screen.
async fn follow(globals: &Globals, mut eyes: Eyes) -> Result<u8, Failure> {
    let mut told = lines::Told::default();
    loop {
        eyes.look().await;
        let sight = &eyes.sight;
        let new = match (sight.stale(), &sight.seen) {
            (Some(_), _) => told.lost(&format!("no voter answers: {}", sight.why())),
            (None, Some((overview, _))) => told.news(overview),
            (None, None) => Vec::new(),
        };
        for line in new {
            let at = wire::clock::wall();
            let value = serde_json::json!({"at": at, "text": line});
            let text = format!("{}  {line}", crate::screen::time(at));
            if globals.output == Output::Json {
                lines::print_line(&value.to_string())?;
            } else {
                lines::print_line(&text)?;
            }
        }
    }
}

/// What the terminal's reader hands on.
enum Key {
    Quit,
    By(i32),
    Top,
    Redraw,
}

async fn screen(mut eyes: Eyes) -> Result<u8, Failure> {
    let broken = |error: std::io::Error| Failure::failed(format!("the terminal: {error}"));
    // It also puts the terminal back when anything panics.
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let restored = Restored;
    let (sender, mut keys) = mpsc::channel(16);
    // It ends with the process: reading a terminal cannot be called off.
    std::thread::spawn(move || while sender.blocking_send(read_key()).is_ok() {});
    let (shown, mut sights) = watch::channel(eyes.sight.clone());
    tokio::spawn(async move {
        while !shown.is_closed() {
            eyes.look().await;
            shown.send_replace(eyes.sight.clone());
        }
    });
    let mut scroll = 0_u16;
    let mut due = tokio::time::interval(REDRAW);
    loop {
        let sight = sights.borrow_and_update().clone();
        let seen = sight.seen.as_ref().map(|(overview, came)| (&**overview, came.elapsed()));
        let stale = sight
            .stale()
            .map(|silent| format!("no voter answers for {}: {}", span(silent), sight.why()));
        let mut most = 0;
        terminal
            .draw(|frame| most = draw::everything(frame, seen, stale.as_deref(), scroll))
            .map_err(broken)?;
        scroll = scroll.min(most);
        tokio::select! {
            changed = sights.changed() => if changed.is_err() { break },
            _ = due.tick() => {}
            key = keys.recv() => match key {
                Some(Key::Quit) | None => break,
                Some(Key::By(lines)) => {
                    let moved = i32::from(scroll).saturating_add(lines).max(0);
                    scroll = u16::try_from(moved).unwrap_or(u16::MAX);
                }
                Some(Key::Top) => scroll = 0,
                Some(Key::Redraw) => {}
            },
        }
    }
    drop(restored);
    Ok(wire::exit::OK)
}

/// The terminal is put back however the screen ends.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a keyboard has more keys than we use")]
fn read_key() -> Key {
    match event::read() {
        Ok(Event::Key(KeyEvent { code, modifiers, kind, .. })) if kind != KeyEventKind::Release => {
            let control = modifiers.contains(KeyModifiers::CONTROL);
            match code {
                KeyCode::Char('c' | 'd') if control => Key::Quit,
                KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                KeyCode::Down | KeyCode::Char('j') => Key::By(1),
                KeyCode::Up | KeyCode::Char('k') => Key::By(-1),
                KeyCode::PageDown | KeyCode::Char(' ') => Key::By(15),
                KeyCode::PageUp => Key::By(-15),
                KeyCode::Home | KeyCode::Char('g') => Key::Top,
                _ => Key::Redraw,
            }
        }
        Ok(_) => Key::Redraw,
        // The terminal is gone.
        Err(_) => Key::Quit,
    }
}
