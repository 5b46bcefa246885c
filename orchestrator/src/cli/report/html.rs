//! A bundle of evidence as one page that can be read, printed and verified: it loads nothing, runs
//! nothing, and carries the bundle itself. Everything on it follows from the bundle, so whoever
//! verifies the page makes it again and compares every byte.

use std::fmt::Write as _;

use failover::cluster::{Record, StepRecord};
use failover::{Event, InstanceId, Timestamp};
use orchestrator::answers::NameServerStatus;
use orchestrator::audit;
use orchestrator::evidence::{self, Evidence, Seen, Slice, Verified};

use super::witness;
use crate::screen::time;
use crate::words;

const STYLE: &str = "\
body{font:15px/1.45 sans-serif;color:#1a1a1a;max-width:60em;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #999}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25em .6em;border-bottom:1px solid #ddd}
code{font-size:.85em;word-break:break-all}svg{width:100%;height:auto}
.good{color:#0a5f2c}.odd{color:#8a4b00}
@media print{body{margin:0;max-width:none;font-size:11px}h2{break-after:avoid}
tr{break-inside:avoid}}";

const BUNDLE: &str = "<pre id=\"bundle\" hidden>";
const WITNESS: &str = "<pre id=\"witness\" hidden>";
const BUNDLE_END: &str = "</pre>";

/// The colours of the phases, in order; also told apart by their names.
const COLOURS: [&str; 7] =
    ["#7a5195", "#ef5675", "#003f5c", "#2f7f5f", "#bc5090", "#ffa600", "#58508d"];

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn plain(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}

/// The bundle in a page, if it is one.
pub fn bundle_of(page: &str) -> Option<String> {
    let (_, rest) = page.split_once(BUNDLE)?;
    rest.split_once(BUNDLE_END).map(|(bundle, _)| plain(bundle))
}

/// What a probe writer says in a page, if it does.
pub fn witness_of(page: &str) -> Option<String> {
    let (_, rest) = page.split_once(WITNESS)?;
    rest.split_once(BUNDLE_END).map(|(line, _)| plain(line))
}

/// The page of a bundle, with what a probe writer says beside it.
pub fn page(bundle: &str, verified: &Verified, witness: Option<&str>) -> String {
    let told = &verified.evidence;
    let record = &told.transition;
    let mut page = begin(&format!("Transition {} of {}", record.id, record.service));
    facts(&mut page, told);
    let _ = write!(page, "<h2>Timeline</h2>\n{}", timeline(&record.steps));
    before(&mut page, record);
    steps(&mut page, &record.steps);
    deviations(&mut page, &told.deviations);
    examined(&mut page, record);
    seen(&mut page, told.made_at, &told.instances, &told.name_servers);
    if let Some(line) = witness {
        testimony(&mut page, line, record);
    }
    records(&mut page, &told.audit);
    let made = Made { by: &told.made_by, at: told.made_at, version: &told.version };
    end(&mut page, &made, &verified.key, bundle);
    page
}

pub fn begin(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// Who made a bundle, and when.
pub struct Made<'a> {
    pub by: &'a str,
    pub at: Timestamp,
    pub version: &'a str,
}

pub fn end(page: &mut String, made: &Made<'_>, key: &str, bundle: &str) {
    let _ = write!(
        page,
        "<h2>Signature</h2>\n<p>Made by voter {} at {}, baton {}, signed with its Ed25519 key \
         <code>{key}</code>. The signed bundle is part of this page: \
         <code>baton verify FILE</code> holds every byte of it against the signature. Which key is \
         whose is on the audit record \
         (<code>baton audit list --kind key</code>).</p>\n{BUNDLE}{}{BUNDLE_END}\n\
         </body>\n</html>\n",
        escaped(made.by),
        time(made.at),
        escaped(made.version),
        escaped(bundle),
    );
}

fn testimony(page: &mut String, line: &str, record: &Record) {
    let _ = write!(page, "<h2>What clients felt</h2>\n<p class=\"odd\">{}</p>\n", witness::WHOSE);
    match witness::read(line, record.id) {
        Ok(told) => list(page, "", &witness::lines(&told)),
        Err(error) => list(page, "odd", &[error]),
    }
    let _ = writeln!(page, "{WITNESS}{}{BUNDLE_END}", escaped(line));
}

/// How the service stood before a change of primary.
pub fn before(page: &mut String, record: &Record) {
    page.push_str("<h2>How the service stood before</h2>\n");
    let lines: Vec<String> = words::before(record).into_iter().map(|(line, _)| line).collect();
    list(page, "", &lines);
}

pub fn list(page: &mut String, class: &str, lines: &[String]) {
    let _ = writeln!(page, "<ul class=\"{class}\">");
    for line in lines {
        let _ = writeln!(page, "<li>{}</li>", escaped(line));
    }
    page.push_str("</ul>\n");
}

pub fn row(page: &mut String, cells: &[String]) {
    page.push_str("<tr>");
    for cell in cells {
        let _ = write!(page, "<td>{cell}</td>");
    }
    page.push_str("</tr>\n");
}

pub fn headings(page: &mut String, names: &[&str]) {
    page.push_str("<table>\n<tr>");
    for name in names {
        let _ = write!(page, "<th scope=\"col\">{name}</th>");
    }
    page.push_str("</tr>\n");
}

pub fn named(id: Option<&InstanceId>) -> String {
    id.map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn facts(page: &mut String, told: &Evidence) {
    let record = &told.transition;
    let (outcome, _) = words::outcome(&record.outcome);
    let total: u64 =
        record.steps.windows(2).map(|pair| evidence::between_ms(&pair[0], &pair[1])).sum();
    let given_up = record.given_up.as_ref().map(failover::loss::GivenUp::told);
    let all = [
        ("Cluster", told.cluster.clone()),
        ("Service", record.service.to_string()),
        ("What set it off", super::trigger(record.trigger).to_owned()),
        ("Asked for by", words::by(record)),
        ("Approved by", words::approved(record).unwrap_or_else(|| "nobody else".into())),
        ("Loss accepted", given_up.unwrap_or_else(|| "none".into())),
        ("Why", record.cause.clone()),
        ("Plan", record.plan.clone().unwrap_or_else(|| "none: decided by baton itself".into())),
        ("From", named(record.from.as_ref())),
        ("To", named(record.to.as_ref())),
        ("Epoch before", record.epoch.to_string()),
        ("Outcome", outcome),
        ("Took", format!("{total} ms")),
        ("Topology", format!("version {}", told.topology_version)),
    ];
    pairs(page, &all);
}

/// A table of names and what they are.
pub fn pairs(page: &mut String, all: &[(&str, String)]) {
    page.push_str("<table>\n");
    for (name, value) in all {
        let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escaped(value));
    }
    page.push_str("</table>\n");
}

/// The phases as bars, one below the other, on one scale.
pub fn timeline(steps: &[StepRecord]) -> String {
    const LEFT: u64 = 110;
    const WIDTH: u64 = 640;
    const ROW: u64 = 26;
    let phases: Vec<(&str, u64)> = steps
        .windows(2)
        .map(|pair| (pair[1].name.as_str(), evidence::between_ms(&pair[0], &pair[1])))
        .collect();
    let total = phases.iter().map(|(_, took)| *took).sum::<u64>().max(1);
    let height = ROW * (phases.len() as u64 + 1);
    let mut svg = format!(
        "<svg viewBox=\"0 0 860 {height}\" role=\"img\" aria-label=\"How long each phase took\" \
         font-family=\"sans-serif\" font-size=\"13\">\n"
    );
    let mut passed = 0;
    for (index, (name, took)) in phases.iter().enumerate() {
        let top = ROW * index as u64;
        let begin = LEFT + passed * WIDTH / total;
        let wide = (took * WIDTH / total).max(2);
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text><rect x=\"{begin}\" y=\"{}\" width=\"{wide}\" \
             height=\"16\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{took} ms</text>",
            top + 16,
            escaped(name),
            top + 4,
            begin + wide + 6,
            top + 16,
        );
        passed += took;
    }
    let base = ROW * phases.len() as u64;
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"#555\"/>\
         <text x=\"{LEFT}\" y=\"{}\">0</text><text x=\"{}\" y=\"{}\">{total} ms</text>\n</svg>",
        LEFT + WIDTH,
        base + 16,
        LEFT + WIDTH - 30,
        base + 16,
    );
    svg
}

pub fn steps(page: &mut String, steps: &[StepRecord]) {
    page.push_str("<h2>Steps</h2>\n");
    headings(page, &["Step", "Took", "When (UTC)", "Voter", "Its clock", "What it rests on"]);
    let mut before: Option<&StepRecord> = None;
    for step in steps {
        let took = before.map_or_else(String::new, |earlier| {
            format!("{} ms", evidence::between_ms(earlier, step))
        });
        row(
            page,
            &[
                escaped(&step.name),
                took,
                time(step.at),
                step.voter.to_string(),
                format!("{} µs", step.monotonic_us),
                escaped(&step.note),
            ],
        );
        before = Some(step);
    }
    page.push_str("</table>\n");
}

pub fn deviations(page: &mut String, found: &[String]) {
    page.push_str("<h2>Deviations</h2>\n");
    if found.is_empty() {
        page.push_str("<p class=\"good\">None.</p>\n");
        return;
    }
    list(page, "odd", found);
}

pub fn examined(page: &mut String, record: &Record) {
    page.push_str("<h2>Who was examined</h2>\n");
    headings(page, &["Instance", "Position", "Verdict"]);
    for one in &record.examined {
        let position = one.position.as_ref();
        row(
            page,
            &[
                one.instance.to_string(),
                position.map_or_else(|| "not heard".to_owned(), |p| escaped(&p.to_string())),
                escaped(&one.verdict),
            ],
        );
    }
    page.push_str("</table>\n");
}

pub fn seen(
    page: &mut String,
    at: Timestamp,
    instances: &[Seen],
    name_servers: &[NameServerStatus],
) {
    let age = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
    let _ = writeln!(page, "<h2>Instances and name servers at {}</h2>", time(at));
    headings(page, &["Instance", "Site", "PostgreSQL", "Was to be", "Position", "Heard before"]);
    for one in instances {
        let position = one.position.as_ref();
        row(
            page,
            &[
                one.instance.to_string(),
                one.site.to_string(),
                escaped(one.version.as_deref().unwrap_or("unknown")),
                words::role(&one.assigned),
                position.map_or_else(|| "unknown".to_owned(), |p| escaped(&p.to_string())),
                age(one.age_ms),
            ],
        );
    }
    page.push_str("</table>\n");
    headings(page, &["Name server", "Site", "Address", "Answer", "Asked before"]);
    for one in name_servers {
        row(
            page,
            &[
                one.server.to_string(),
                one.site.to_string(),
                one.address.to_string(),
                escaped(&words::name_server(one.asked.as_ref())),
                age(one.asked_age_ms),
            ],
        );
    }
    page.push_str("</table>\n");
}

pub fn records(page: &mut String, slice: &Slice) {
    page.push_str("<h2>Audit records</h2>\n");
    headings(page, &["Record", "When (UTC)", "By", "What", "SHA-256"]);
    for line in &slice.lines {
        let Ok(record) = audit::read(line) else { continue };
        let event: Option<Event> = serde_json::from_value(record.event).ok();
        let at = event.as_ref().map_or(Timestamp(0), |event| event.stamp.at);
        row(
            page,
            &[
                record.number.to_string(),
                time(at),
                escaped(event.as_ref().map_or("", |event| event.by.as_str())),
                escaped(&event.as_ref().map(audit::what).unwrap_or_default()),
                format!("<code>{}</code>", record.hash),
            ],
        );
    }
    let after = slice.after;
    let _ = writeln!(page, "</table>\n<p>They stand after record <code>{after}</code>.</p>");
}
