//! The screen, as lines in columns that can be scrolled.

use std::time::Duration;

use orchestrator::overview::{Overview, Plane, Seen, Words};
use orchestrator::sla::told::Promised;
use orchestrator::words::{Mood, age, bytes, span};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::lines;
use crate::report;
use crate::screen::is_coloured;

type Cell = (String, Mood);

/// Draws all of it; returns how far it can be scrolled.
pub(super) fn everything(
    frame: &mut Frame<'_>,
    seen: Option<(&Overview, Duration)>,
    stale: Option<&str>,
    scroll: u16,
) -> u16 {
    let areas =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(heading(seen, stale)), head);
    let text = match seen {
        None => vec![Line::from("waiting for a voter …")],
        Some((overview, elapsed)) => content(overview, elapsed, stale.is_some()),
    };
    let long = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let most = long.saturating_sub(body.height);
    let scroll = scroll.min(most);
    frame.render_widget(Paragraph::new(text).scroll((scroll, 0)), body);
    let keys = format!("q ends · ↑ ↓ PgUp PgDn scroll · line {} of {long}", scroll + 1);
    let keys = Line::styled(keys, Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(keys).wrap(Wrap { trim: true }), foot);
    most
}

fn style(mood: Mood) -> Style {
    let style = Style::new();
    if !is_coloured() {
        return style;
    }
    match mood {
        Mood::Plain => style,
        Mood::Good => style.fg(Color::Green),
        Mood::Odd => style.fg(Color::Yellow),
        Mood::Bad => style.fg(Color::Red),
    }
}

/// Not colour alone.
fn mark(mood: Mood) -> &'static str {
    match mood {
        Mood::Plain => "·",
        Mood::Good => "✓",
        Mood::Odd => "▲",
        Mood::Bad => "✕",
    }
}

fn heading(seen: Option<(&Overview, Duration)>, stale: Option<&str>) -> Vec<Line<'static>> {
    let mut all = Vec::new();
    if let Some(stale) = stale {
        let loud = style(Mood::Bad).add_modifier(Modifier::REVERSED | Modifier::BOLD);
        all.push(Line::styled(format!(" STALE: {stale} "), loud));
    }
    if let Some((overview, elapsed)) = seen {
        let (mood, verdict) = lines::verdict(overview);
        let name = &overview.known.status.cluster;
        let bold = style(mood).add_modifier(Modifier::BOLD);
        all.push(Line::styled(format!("{} {name}: {verdict}", mark(mood)), bold));
        let leader = lines::leader(overview);
        let source = lines::source(overview);
        all.push(Line::from(format!("{leader} · {source} · {} ago", span(elapsed))));
    }
    all
}

fn content(overview: &Overview, elapsed: Duration, stale: bool) -> Vec<Line<'static>> {
    let mut all = Vec::new();
    for remark in &overview.remarks {
        let text = format!("{} {}", mark(remark.mood), remark.text);
        all.push(Line::styled(text, style(remark.mood)));
    }
    transitions(overview, &mut all);
    for service in &overview.known.status.services {
        title(&lines::service(service), &mut all);
        let rows = service.instances.iter().map(|it| instance(overview, it, elapsed)).collect();
        let headings = ["instance", "site", "is", "is to be", "lag", "streams", "rule", "told"];
        columns(&headings, rows, &mut all);
    }
    readiness(overview, elapsed, &mut all);
    sla(overview, elapsed, &mut all);
    reach(overview, elapsed, &mut all);
    voters(overview, elapsed, &mut all);
    title("history", &mut all);
    for entry in overview.known.history.iter().rev().take(12) {
        let at = crate::screen::time(entry.at);
        all.push(Line::from(format!("  {at}  {}: {}", entry.by, entry.text)));
    }
    if stale {
        let dim = Style::new().add_modifier(Modifier::DIM);
        all = all.into_iter().map(|line| line.patch_style(dim)).collect();
    }
    all
}

fn title(text: &str, all: &mut Vec<Line<'static>>) {
    all.push(Line::default());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    all.push(Line::styled(text.to_owned(), bold));
}

fn transitions(overview: &Overview, all: &mut Vec<Line<'static>>) {
    for service in &overview.known.status.services {
        let Some(open) = &service.transition else { continue };
        title(&format!("{} changes its primary: transition {}", service.service, open.id), all);
        let record = overview.known.transitions.iter().find(|record| record.id == open.id);
        for line in record.map(report::step_lines).unwrap_or_default() {
            all.push(Line::styled(format!("  {} {line}", mark(Mood::Good)), style(Mood::Good)));
        }
        let now = format!("  {} {} …", mark(Mood::Odd), open.step.name());
        all.push(Line::styled(now, style(Mood::Odd)));
        for finding in service.findings.iter().take(3) {
            all.push(Line::from(format!("      {}", finding.text)));
        }
    }
    if let Some(drill) = &overview.known.status.drill {
        let (id, of, at) = (drill.drill, &drill.service, drill.stage.name());
        title(&format!("drill {id} of {of} is at {at}"), all);
    }
}

/// An age that has grown since it was told.
fn later(ms: Option<u64>, elapsed: Duration) -> Option<u64> {
    let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    ms.map(|ms| ms.saturating_add(elapsed))
}

/// What was said too long ago is what it was.
fn now(words: Option<&Words>, told: Option<u64>, limit: u64) -> (Mood, String) {
    match words {
        Some(words) if told.is_some_and(|ms| ms <= limit) => (words.mood, words.is.clone()),
        Some(words) if told.is_some() => (Mood::Bad, format!("unknown (was {})", words.is)),
        Some(_) | None => (Mood::Bad, "unknown".to_owned()),
    }
}

fn instance(
    overview: &Overview,
    instance: &orchestrator::answers::InstanceStatus,
    elapsed: Duration,
) -> Vec<Cell> {
    let told = later(instance.age_ms, elapsed);
    let old = told.is_none_or(|ms| ms > overview.limits.heard_ms);
    let words = overview.said.instances.get(instance.instance.as_str());
    let (mood, is) = now(words, told, overview.limits.heard_ms);
    let wanted = words.and_then(|words| words.wanted.clone()).unwrap_or_default();
    let unknown = || "unknown".to_owned();
    let lag = instance.lag_bytes.filter(|_| !old).map_or_else(unknown, bytes);
    let streams = match instance.streaming {
        _ if old => unknown(),
        None => "-".to_owned(),
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
    };
    let rule = if instance.in_rule { "counts" } else { "-" };
    vec![
        (instance.instance.to_string(), Mood::Plain),
        (instance.site.to_string(), Mood::Plain),
        marked(mood, &is),
        (wanted, Mood::Plain),
        (lag, Mood::Plain),
        (streams, Mood::Plain),
        (rule.to_owned(), Mood::Plain),
        (age(told), if old { Mood::Bad } else { Mood::Plain }),
    ]
}

/// Words with their mark.
fn marked(mood: Mood, is: &str) -> Cell {
    (format!("{} {is}", mark(mood)), mood)
}

/// What was worked out too long ago is what it was.
fn aged(mood: Mood, is: &str, old: bool) -> Cell {
    if old { marked(Mood::Odd, &format!("unknown (was {is})")) } else { marked(mood, is) }
}

fn readiness(overview: &Overview, elapsed: Duration, all: &mut Vec<Line<'static>>) {
    title("could each site be lost now?", all);
    let told = later(overview.readiness_age_ms, elapsed);
    let old = told.is_none_or(|ms| ms > overview.limits.readiness_ms);
    let rows = overview.readiness.iter().map(|one| {
        vec![
            (one.service.to_string(), Mood::Plain),
            (one.site.to_string(), Mood::Plain),
            aged(one.ready.mood, &one.ready.is, old),
            aged(one.zero_loss.mood, &one.zero_loss.is, old),
            (one.takes.clone(), Mood::Plain),
            (one.then.clone(), Mood::Plain),
        ]
    });
    let headings = ["service", "without", "ready", "zero loss", "writes stand still", "then"];
    columns(&headings, rows.collect(), all);
    let told = told.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", age(Some(ms))));
    all.push(Line::from(format!("  looked at: {told}")));
}

fn sla(overview: &Overview, elapsed: Duration, all: &mut Vec<Line<'static>>) {
    let Some(sla) = &overview.sla else { return };
    title("was it there when it was promised?", all);
    if let Some(problem) = &sla.problem {
        let text = format!("  {} {problem}", mark(Mood::Bad));
        all.push(Line::styled(text, style(Mood::Bad)));
    }
    let told = later(overview.sla_age_ms, elapsed);
    let old = told.is_none_or(|ms| ms > overview.limits.sla_ms);
    let of = |service: &Promised| service.service.to_string();
    let rows = sla.services.iter().flat_map(|service| {
        service.rows.iter().map(move |row| {
            vec![
                (of(service), Mood::Plain),
                (row.period.clone(), Mood::Plain),
                aged(row.mood, &row.kept, old),
                (row.available.clone(), Mood::Plain),
                (row.left.clone(), Mood::Plain),
                (row.down.clone(), Mood::Plain),
                (row.coverage.clone(), if row.thin { Mood::Odd } else { Mood::Plain }),
            ]
        })
    });
    let headings =
        ["service", "period", "objective", "available", "budget left", "down", "measured"];
    columns(&headings, rows.collect(), all);
    for service in &sla.services {
        if let Some(newest) = service.interruptions.first() {
            let (at, service) = (crate::screen::time(newest.at), of(service));
            let (length, cause) = (&newest.length, &newest.cause);
            all.push(Line::from(format!("  {service}: last down at {at} for {length}: {cause}")));
        }
    }
}

fn reach(overview: &Overview, elapsed: Duration, all: &mut Vec<Line<'static>>) {
    title("who reaches whom", all);
    let rows = overview.reach.iter().map(|way| {
        let told = later(way.age_ms, elapsed);
        let limits = overview.limits;
        let limit = if way.plane == Plane::Names { limits.follows_ms } else { limits.heard_ms };
        let old = told.is_none_or(|ms| ms > limit);
        let (mood, seen) = match way.seen {
            Seen::Reached if !old => (Mood::Good, "reached"),
            Seen::Reached | Seen::Unknown => (Mood::Odd, "not known"),
            Seen::NotReached => (Mood::Bad, "NOT reached"),
        };
        let plane = match way.plane {
            Plane::Voters => "voters",
            Plane::Agents => "agents",
            Plane::Replication => "replication",
            Plane::Names => "names",
        };
        vec![
            (plane.to_owned(), Mood::Plain),
            (way.from.to_string(), Mood::Plain),
            (way.to.to_string(), Mood::Plain),
            marked(mood, seen),
            (age(told), Mood::Plain),
        ]
    });
    columns(&["plane", "from", "to", "seen", "age"], rows.collect(), all);
}

fn voters(overview: &Overview, elapsed: Duration, all: &mut Vec<Line<'static>>) {
    title("voters", all);
    let status = &overview.known.status;
    let rows = status.voters.iter().map(|voter| {
        let words = overview.said.voters.get(&voter.id.to_string());
        let told = later(voter.age_ms.or(Some(0)), elapsed);
        let (mood, is) = now(words, told, overview.limits.heard_ms);
        let heard = match voter.age_ms {
            None if is == "leader" => "itself".to_owned(),
            None => age(None),
            Some(_) => age(told),
        };
        vec![
            (voter.name.clone(), Mood::Plain),
            (voter.site.as_ref().map(ToString::to_string).unwrap_or_default(), Mood::Plain),
            marked(mood, &is),
            (heard, Mood::Plain),
        ]
    });
    columns(&["voter", "site", "state", "heard"], rows.collect(), all);
    title("name servers", all);
    let rows = status.name_servers.iter().map(|server| {
        let words = overview.said.name_servers.get(server.server.as_str());
        let told = later(server.asked_age_ms, elapsed);
        let (mood, is) = now(words, told, overview.limits.heard_ms);
        vec![
            (server.server.to_string(), Mood::Plain),
            (server.site.to_string(), Mood::Plain),
            marked(mood, &is),
            (age(told), Mood::Plain),
        ]
    });
    columns(&["server", "site", "state", "asked"], rows.collect(), all);
}

/// Rows below headings, each column as wide as its widest cell.
fn columns(headings: &[&str], rows: Vec<Vec<Cell>>, all: &mut Vec<Line<'static>>) {
    let mut wide: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &rows {
        for (wide, (text, _)) in wide.iter_mut().zip(row) {
            *wide = (*wide).max(text.chars().count());
        }
    }
    let dim = Style::new().add_modifier(Modifier::DIM);
    let pad = |text: &str, wide: usize| format!("  {text:<wide$}");
    let head = headings.iter().zip(&wide).map(|(text, wide)| Span::styled(pad(text, *wide), dim));
    all.push(Line::from(head.collect::<Vec<_>>()));
    for row in rows {
        let cells = row.iter().zip(&wide);
        let spans = cells.map(|((text, mood), wide)| Span::styled(pad(text, *wide), style(*mood)));
        all.push(Line::from(spans.collect::<Vec<_>>()));
    }
}
