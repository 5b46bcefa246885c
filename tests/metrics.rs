//! What is told, what is documented, what is queried: one list of names. And the alert rules do
//! what they say, where Prometheus' own tool is there to try them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wire::monitoring::{COMMON, Kind, Metric};

const DOCUMENT: &str = "docs/metrics.md";
const RULES: &str = "monitoring/baton-alerts.yml";
const RULES_TESTS: &str = "monitoring/baton-alerts-tests.yml";
const DASHBOARD: &str = "monitoring/baton-dashboard.json";

/// Whose table stands under which heading of the document.
const DAEMONS: [(&str, &[Metric]); 3] = [
    ("## Voter", orchestrator::monitoring::METRICS),
    ("## Agent", agent::monitoring::METRICS),
    ("## Name server", dns::monitoring::METRICS),
];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the package stands in the workspace's folder").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let (name, kind) = (metric.name, metric.kind.name());
    format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.help)
}

/// The lines of the table under a heading.
fn documented(heading: &str) -> Vec<String> {
    let document = read(DOCUMENT);
    let start = document.find(&format!("{heading}\n")).expect(heading);
    let section = document.get(start + heading.len()..).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

fn all() -> impl Iterator<Item = &'static Metric> {
    COMMON.iter().chain(DAEMONS.iter().flat_map(|(_, table)| table.iter()))
}

#[test]
fn every_metric_is_documented_and_nothing_else_is() {
    let common: Vec<String> = COMMON.iter().map(row).collect();
    assert_eq!(documented("## Every daemon"), common);
    for (heading, table) in DAEMONS {
        let told: Vec<String> = table.iter().map(row).collect();
        let documented = documented(heading);
        assert_eq!(documented, told, "{DOCUMENT}, {heading}: it should be\n{}", told.join("\n"));
    }
}

/// Names by Prometheus' conventions, each told by one daemon only.
#[test]
fn names_keep_to_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in all() {
        let name = metric.name;
        assert!(names.insert(name), "{name} stands in two tables");
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        // Of the process itself, by the names that everybody has for that.
        let of_ours = name.starts_with("baton_") || COMMON.contains(metric);
        assert!(of_ours && name.chars().all(plain), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        for unit in ["_ms", "_milliseconds", "_minutes", "_days", "_kb", "_mb", "_percent"] {
            assert!(!name.ends_with(unit), "{name}: seconds, bytes, fractions");
        }
        // Prometheus gives these to whatever it scrapes.
        assert!(!metric.labels.contains(&"instance") && !metric.labels.contains(&"job"), "{name}");
        assert!(!metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
        assert!(!metric.help.contains('|'), "{name}: the help stands in a table");
    }
    assert!(names.len() > 50, "there are {}", names.len());
}

/// Every metric of ours by the name that queries use.
fn known() -> BTreeMap<String, &'static [&'static str]> {
    let mut known = BTreeMap::new();
    for metric in all() {
        if metric.kind == Kind::Histogram {
            for ending in ["_bucket", "_sum", "_count"] {
                known.insert(format!("{}{ending}", metric.name), metric.labels);
            }
        }
        known.insert(metric.name.to_owned(), metric.labels);
    }
    known
}

/// The names of ours in a query, each with the labels that it selects by.
fn queried(query: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in query.match_indices("baton_") {
        let behind = query.get(..at).and_then(|text| text.chars().next_back());
        if behind.is_some_and(|c| is_name(c) || c == '"') {
            continue;
        }
        let rest = query.get(at..).unwrap_or_default();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let selector = after.strip_prefix('{').and_then(|text| text.split('}').next());
        let label = |part: &str| {
            let end = part.find(|c| !is_name(c)).unwrap_or(part.len());
            part.get(..end).unwrap_or_default().to_owned()
        };
        let labels = selector.into_iter().flat_map(|text| text.split(',')).map(str::trim);
        found.push((name.to_owned(), labels.map(label).filter(|l| !l.is_empty()).collect()));
    }
    found
}

/// Every name in `queries` is told by a daemon, and has the labels that are selected by.
fn all_known(place: &str, queries: &[String]) {
    let known = known();
    for query in queries {
        let names = queried(query);
        assert!(!names.is_empty() || query.contains("up{"), "{place}: of ours is nothing: {query}");
        for (name, labels) in names {
            let has = known.get(&name).unwrap_or_else(|| panic!("{place}: no {name}: {query}"));
            for label in labels {
                let is_there = has.contains(&label.as_str())
                    || matches!(label.as_str(), "instance" | "job" | "le");
                assert!(is_there, "{place}: {name} has no label {label}: {query}");
            }
        }
    }
}

#[test]
fn queries_are_read_as_they_are_written() {
    let read = queried("max by (a) (baton_x{b=\"baton_y\", c=~\"d\"}) / on () xbaton_z + baton_w");
    let labels = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected =
        [("baton_x".to_owned(), labels(&["b", "c"])), ("baton_w".to_owned(), labels(&[]))];
    assert_eq!(read, expected);
}

/// The values of `key` in the rules, in order: one line each.
fn values(text: &str, key: &str) -> Vec<String> {
    let of = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned())
    };
    text.lines().filter_map(of).collect()
}

#[test]
fn alerts_use_documented_metrics_and_lead_to_a_runbook() {
    let rules = read(RULES);
    let alerts = values(&rules, "alert");
    let queries = values(&rules, "expr");
    let runbooks = values(&rules, "runbook");
    assert!(alerts.len() > 20);
    assert_eq!(alerts.len(), queries.len(), "every query on one line");
    assert_eq!(alerts.len(), runbooks.len(), "every alert says what to do");
    assert_eq!(alerts.len(), values(&rules, "summary").len());
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), alerts.len(), "each once");
    all_known(RULES, &queries);
    let headings: BTreeSet<String> = read("docs/operating.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(anchor)
        .collect();
    for runbook in runbooks {
        let place = runbook.strip_prefix("docs/operating.md#").expect(&runbook);
        assert!(headings.contains(place), "no heading for {runbook}");
    }
    let operating = read("docs/operating.md");
    for alert in &alerts {
        assert!(operating.contains(&format!("`{alert}`")), "docs/operating.md: no {alert}");
    }
}

/// As the common renderers make one of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn every_alert_is_tried() {
    let tried: BTreeSet<String> = values(&read(RULES_TESTS), "alertname").into_iter().collect();
    let alerts: BTreeSet<String> = values(&read(RULES), "alert").into_iter().collect();
    assert_eq!(tried, alerts);
}

#[test]
fn prometheus_accepts_the_rules_and_they_fire_as_they_should() {
    let tool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    // What the dashboard asks is written down as rules, so that it is read as well.
    let rule = |(number, query): (usize, String)| {
        let query = serde_json::to_string(&query.replace("$service", ".*")).expect("a text");
        format!("  - {{record: asked_{number}, expr: {query}}}\n")
    };
    let asked: Vec<String> = dashboard_queries().into_iter().enumerate().map(rule).collect();
    let asked = format!("groups:\n- name: asked\n  rules:\n{}", asked.concat());
    let folder = tempfile::tempdir().expect("a folder");
    let of_dashboard = folder.path().join("asked.yml");
    fs::write(&of_dashboard, asked).expect("it can be written");
    let files = [("check", root().join(RULES)), ("test", root().join(RULES_TESTS))];
    for (verb, file) in files.into_iter().chain([("check", of_dashboard)]) {
        let mut command = Command::new(&tool);
        command.args([verb, "rules"]).arg(file);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Past the capture of what tests that pass print: nobody must take it for tried.
                let said = b"\nSKIPPED: no promtool here (Debian: `apt install prometheus`)\n";
                std::io::stderr().write_all(said).expect("standard error is open");
                return;
            }
            Err(error) => panic!("{}: {error}", tool.to_string_lossy()),
        };
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&told));
    }
}

/// Everything that is a query in a dashboard, wherever it stands.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => found.push(text.to_owned()),
                    Some(_) | None => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect(DASHBOARD)
}

fn dashboard_queries() -> Vec<String> {
    let mut queries = Vec::new();
    expressions(&dashboard(), &mut queries);
    queries
}

#[test]
fn the_dashboard_uses_documented_metrics() {
    let (dashboard, mut queries) = (dashboard(), dashboard_queries());
    // The values to choose from are no query of Prometheus' language.
    let lists = dashboard.pointer("/templating/list").and_then(Value::as_array).expect("lists");
    let values = lists.iter().filter_map(|list| list.get("definition")?.as_str());
    queries.extend(values.map(str::to_owned));
    assert!(queries.len() > 20, "{} queries", queries.len());
    all_known(DASHBOARD, &queries);
    let panels = dashboard.get("panels").and_then(Value::as_array).expect("panels");
    let number = |panel: &Value| panel.get("id").and_then(Value::as_u64).expect("a number");
    let numbers: BTreeSet<u64> = panels.iter().map(number).collect();
    assert_eq!(numbers.len(), panels.len(), "each panel has a number of its own");
    for panel in panels {
        let title = panel.get("title").and_then(Value::as_str).unwrap_or_default();
        assert!(!title.is_empty(), "every panel has a title: {panel}");
        // Whoever imports it says which Prometheus it is about.
        let source = panel.pointer("/datasource/uid").and_then(Value::as_str);
        let row = panel.get("type").and_then(Value::as_str) == Some("row");
        assert!(row || source == Some("${datasource}"), "{title}: {source:?}");
    }
}
