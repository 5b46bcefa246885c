//! `baton probe`: writes through the name, and holds journals against the table.

mod standing;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use failover::ids::ServiceId;
use orchestrator::probe::{
    Access, Folder, Gap, Head, Journal, JournalError, Options, Reconciled, Tally, Where, Writing,
    held_against, numbers_in_table, resolver, write,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use wire::clock;
use wire::tls::Files;

use crate::client::Failure;
use crate::screen::{Output, print, remark, span};
use crate::settings::Settings;
use crate::verbs::{Globals, Probe};

/// How long a journal waits for a server that answers.
const RECONCILE: Duration = Duration::from_secs(30);

pub async fn run(globals: &Globals, arguments: Probe) -> Result<u8, Failure> {
    let settings = Settings::load(globals)?;
    let at = place(&settings, &arguments.service, &arguments.name_server, arguments.address)?;
    let files = Files {
        certificate: arguments.certificate.clone().unwrap_or_else(|| settings.beside("probe.crt")),
        key: arguments.key.clone().unwrap_or_else(|| settings.beside("probe.key")),
        ca: settings.tls.ca.clone(),
    };
    let access = Access::new(&files).map_err(|error| Failure::config(error.to_string(), ""))?;
    if let Some(journal) = &arguments.reconcile {
        return reconcile(globals, journal, &access, &at).await;
    }
    if arguments.every.is_zero() {
        let error = "--every: a row every 0 s is not possible";
        return Err(Failure::config(error, "give 1ms or more"));
    }
    let failed = |error: JournalError| Failure::config(error.to_string(), "");
    match (&arguments.folder, &arguments.journal) {
        (Some(path), _) => {
            let folder = Folder::create(path).map_err(failed)?;
            let head = head(&arguments, &at, standing::RUN);
            let journal = Writing::begin_in(folder.clone(), &head).map_err(failed)?;
            let tidying = standing::tidy(folder, access.clone(), at.clone(), &arguments);
            let tidying = tokio::spawn(tidying);
            let tally = record(globals, &arguments, (access, at), head, journal).await?;
            tidying.abort();
            let Tally { acked, unknown, refused } = tally;
            let text = format!("{acked} acknowledged, {unknown} unknown, {refused} refused");
            let answer = serde_json::json!({
                "folder": path, "acked": acked, "unknown": unknown, "refused": refused,
            });
            print(globals.output, &answer, &text)?;
            Ok(wire::exit::OK)
        }
        (None, Some(path)) => {
            let head = head(&arguments, &at, "");
            let journal = Writing::begin(path, &head).map_err(failed)?;
            let tally = record(globals, &arguments, (access, at), head, journal).await?;
            summary(globals, path, tally)
        }
        (None, None) => Err(Failure::config("a journal is needed", "give --journal FILE")),
    }
}

/// A journal held against the table as it is now; `None` where that cannot be read.
pub async fn reconciled(
    settings: &Settings,
    service: &ServiceId,
    journal: &Journal,
) -> Option<Reconciled> {
    let at = place(settings, service, &[], None).ok()?;
    let files = Files {
        certificate: settings.beside("probe.crt"),
        key: settings.beside("probe.key"),
        ca: settings.tls.ca.clone(),
    };
    let access = Access::new(&files).ok()?;
    compare(&access, &at, journal).await.ok()
}

/// Where the service is looked for.
fn place(
    settings: &Settings,
    service: &ServiceId,
    name_servers: &[SocketAddr],
    address: Option<SocketAddr>,
) -> Result<Where, Failure> {
    if let Some(address) = address {
        return Ok(Where::Address(address));
    }
    let declared = settings.topology(None)?;
    let topology = declared.topology;
    let spec = topology.services.get(service).ok_or_else(|| {
        let known: Vec<_> = topology.services.keys().map(ToString::to_string).collect();
        Failure::config(
            format!("the topology has no service `{}`; there is {}", service, known.join(", ")),
            "",
        )
    })?;
    let servers: Vec<SocketAddr> = if name_servers.is_empty() {
        topology.dns.servers.values().map(|server| server.address).collect()
    } else {
        name_servers.to_vec()
    };
    if servers.is_empty() {
        return Err(Failure::config(resolver::ResolveError::Nobody.to_string(), ""));
    }
    let name = format!("{}.{}", spec.writable, topology.dns.origin);
    Ok(Where::Name { name, resolver: resolver::Resolver::new(servers) })
}

/// The first line of a journal. Rows of runs that stand for years have a name of their own.
fn head(arguments: &Probe, at: &Where, standing: &str) -> Head {
    let wall = clock::wall();
    let through = match at {
        Where::Name { name, .. } => name.clone(),
        Where::Address(address) => address.to_string(),
    };
    Head {
        run: format!("{}-{standing}{}-{}", arguments.service, wall.0, std::process::id()),
        service: arguments.service.to_string(),
        through,
        every_ms: u64::try_from(arguments.every.as_millis()).unwrap_or(u64::MAX),
        us: clock::now().0,
        at: wall.0,
        last_ack_us: None,
    }
}

async fn record(
    globals: &Globals,
    arguments: &Probe,
    (access, at): (Access, Where),
    head: Head,
    journal: Writing,
) -> Result<Tally, Failure> {
    remark(globals.output, &format!("writing through {} (Ctrl-C ends it)", head.through));
    let (stop, stopping) = watch::channel(false);
    let (tallies, told) = watch::channel(Tally::default());
    let signals = wire::shutdown::on_signal();
    let limit = arguments.seconds.map(Duration::from_secs);
    let clock = tokio::spawn(end(stop, signals, limit));
    // A line a second is for people, and not for the log of a unit.
    let shown = arguments.folder.is_none() || std::io::stderr().is_terminal();
    let screen = shown.then(|| tokio::spawn(progress(globals.output, told)));
    let options = Options { head, every: arguments.every, at };
    let tally = write(options, access, journal, tallies, stopping).await;
    clock.abort();
    if let Some(screen) = screen {
        screen.abort();
    }
    tally.map_err(|error| Failure::failed(error.to_string()))
}

/// Tells the writer to stop: after the time, or when asked to.
async fn end(
    stop: watch::Sender<bool>,
    mut signals: watch::Receiver<bool>,
    limit: Option<Duration>,
) {
    let timer = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signals.wait_for(|asked| *asked) => {}
        () = timer => {}
    }
    stop.send_replace(true);
}

/// One line a second, and one at once when writing stops or goes on.
async fn progress(output: Output, told: watch::Receiver<Tally>) {
    let begun = Instant::now();
    let mut looks = interval(Duration::from_secs(1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        looks.tick().await;
        let tally = *told.borrow();
        let rate = tally.acked - before;
        before = tally.acked;
        let Tally { acked, unknown, refused } = tally;
        let at = begun.elapsed().as_secs();
        remark(
            output,
            &format!(
                "{at:>5} s  {acked} acknowledged (+{rate}), {unknown} unknown, {refused} refused"
            ),
        );
    }
}

fn summary(globals: &Globals, path: &Path, tally: Tally) -> Result<u8, Failure> {
    let journal = Journal::read(path).map_err(|error| Failure::failed(error.to_string()))?;
    let gap = journal.largest_gap().map(Gap::ms);
    let Tally { acked, unknown, refused } = tally;
    let answer = serde_json::json!({
        "run": journal.head.run, "journal": path, "acked": acked, "unknown": unknown,
        "refused": refused, "gap_ms": gap,
    });
    let longest = gap.map_or_else(|| "none".to_owned(), milliseconds);
    let text = format!(
        "{acked} acknowledged, {unknown} unknown, {refused} refused; longest gap {longest}\n\
         hold it against the table: baton probe {} --reconcile {}",
        journal.head.service,
        path.display()
    );
    print(globals.output, &answer, &text)?;
    Ok(wire::exit::OK)
}

fn milliseconds(ms: f64) -> String {
    span(Duration::from_secs_f64((ms / 1_000.0).max(0.0)))
}

async fn reconcile(
    globals: &Globals,
    path: &Path,
    access: &Access,
    at: &Where,
) -> Result<u8, Failure> {
    let journal = Journal::read(path).map_err(|error| Failure::config(error.to_string(), ""))?;
    let deadline = Instant::now() + RECONCILE.min(globals.timeout.max(Duration::from_secs(1)) * 4);
    let reconciled = loop {
        match compare(access, at, &journal).await {
            Ok(reconciled) => break reconciled,
            Err(error) if Instant::now() >= deadline => {
                return Err(Failure::new(
                    wire::exit::UNREACHABLE,
                    format!("the table cannot be read: {error}"),
                    "ask again when the service's name leads to a primary",
                ));
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    };
    print(globals.output, &reconciled, &verdict(&reconciled))?;
    Ok(if reconciled.lost > 0 { wire::exit::FAILED } else { wire::exit::OK })
}

async fn compare(access: &Access, at: &Where, journal: &Journal) -> Result<Reconciled, String> {
    let client = primary(access, at).await?;
    let numbers = numbers_in_table(&client, &journal.head.run).await;
    Ok(held_against(journal, &numbers.map_err(|error| error.to_string())?))
}

/// A connection to the primary: a standby's rows may lag.
async fn primary(access: &Access, at: &Where) -> Result<tokio_postgres::Client, String> {
    let address = match at {
        Where::Address(address) => *address,
        Where::Name { name, resolver } => {
            let found = resolver.place(name, Duration::from_secs(1)).await;
            found.map_err(|error| error.to_string())?.address
        }
    };
    let client = access.connect(address, None).await.map_err(|error| error.to_string())?;
    let row = client.query_one("select pg_is_in_recovery()", &[]).await;
    if row.and_then(|row| row.try_get::<_, bool>(0)).map_err(|error| error.to_string())? {
        return Err(format!("{address} is a standby"));
    }
    Ok(client)
}

fn verdict(found: &Reconciled) -> String {
    let mut lines = vec![
        format!("run {}", found.run),
        format!("  acknowledged             {}", found.acked),
        format!("  acknowledged but missing {}", found.lost),
        format!("  acknowledged twice       {}", found.duplicates),
        format!(
            "  outcome unknown          {} ({} are there, {} are not)",
            found.unknown, found.unknown_found, found.unknown_missing
        ),
        format!("  turned away              {}", found.refused),
    ];
    if let (Some(last), Some(first), Some(gap)) =
        (found.last_ack_us, found.first_ack_us, found.gap_ms)
    {
        lines.push(format!(
            "  longest gap              {} (last ack at {last} us, first after it at {first} us)",
            milliseconds(gap)
        ));
    }
    lines.push(if found.lost == 0 {
        "nothing that was acknowledged is missing".to_owned()
    } else {
        let numbers: Vec<_> = found.lost_numbers.iter().take(20).map(ToString::to_string).collect();
        format!("LOST: {} acknowledged writes are missing: {}", found.lost, numbers.join(", "))
    });
    lines.join("\n")
}
