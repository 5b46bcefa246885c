//! What an operator asks for, with the shipped `baton`. Each request is a thread of its own: the
//! scenario does not wait for its answer.

use std::time::Duration;

use anyhow::{Context, Result};
use wire::clock;

use super::stage::Stage;
use crate::lab::answers::Status;
use crate::lab::binaries;
use crate::lab::layout::SERVICE;
use crate::lab::network::{CLIENTS, Spot, within};
use crate::script::verb::{Answer, Ask, Request};

/// The exit status of a refusal.
const REFUSED: i32 = 4;
/// The exit status of a request whose outcome is not known.
const IN_DOUBT: i32 = 5;
/// How long a person tries again what is refused because somebody was not heard in time: clusters
/// that share two processors pause now and then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks until the answer is as demanded or its time is over.
///
/// # Errors
/// The answer is another; the request cannot be made.
pub(super) fn ask(stage: &Stage<'_>, ask: &Ask) -> Result<()> {
    let patience = if ask.answer == Answer::Granted { PATIENCE } else { Duration::ZERO };
    let until = clock::now().after(ask.within.map_or(patience, |text| text.0));
    loop {
        let (code, said) = once(stage, ask)?;
        let granted = code == Some(0);
        let refused = code == Some(REFUSED);
        let named = ask.naming.as_ref().is_none_or(|name| said.contains(name.as_str()));
        let as_demanded = match ask.answer {
            Answer::Granted => granted,
            Answer::Refused => refused && named,
            Answer::Any => true,
        };
        if code == Some(IN_DOUBT) {
            // Whether it was done shows in what follows; asking again is for a person.
            stage.remark(format!("`{:?}` was answered: in doubt", ask.request));
            return Ok(());
        }
        if as_demanded {
            return Ok(());
        }
        anyhow::ensure!(
            clock::now() < until,
            "`{:?}` was answered otherwise (exit status {code:?}): {said}",
            ask.request
        );
        stage.stop.pause(Duration::from_millis(200))?;
    }
}

fn once(stage: &Stage<'_>, ask: &Ask) -> Result<(Option<i32>, String)> {
    let words = words(stage, ask)?;
    let cluster = &stage.cluster;
    let mut command = cluster.baton();
    command.args(words);
    let namespace = cluster.network()?.namespace(CLIENTS, Spot::Clients);
    let bound = Duration::from_secs(30);
    let output = within(&namespace, || binaries::run(&stage.stop, &mut command, bound))??;
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Ok((output.status.code(), text.concat().trim().to_owned()))
}

fn words(stage: &Stage<'_>, ask: &Ask) -> Result<Vec<String>> {
    let site = |stage: &Stage<'_>| -> Result<Option<String>> {
        let Some(places) = &ask.to else { return Ok(None) };
        Ok(stage.sites(places, None)?.into_iter().next())
    };
    let because = ["--reason".to_owned(), "the scenario asks".to_owned()];
    let mut words: Vec<String> = match ask.request {
        Request::Switchover => vec!["switchover".into(), SERVICE.into(), "--no-wait".into()],
        Request::Failover => vec!["failover".into(), SERVICE.into(), "--no-wait".into()],
        Request::Hold => vec!["hold".into(), SERVICE.into()],
        Request::Resume => vec!["resume".into(), SERVICE.into()],
        Request::Forgo => vec!["forgo".into(), SERVICE.into(), "--range".into(), range(stage)?],
        Request::AcceptLoss => anyhow::bail!("a loss is accepted in the simulated world only"),
        Request::Isolate => {
            let words = ["drill", "run", "isolate", SERVICE, "--dwell", "20s", "--no-wait"];
            let words = words.into_iter().chain(["--in-protected-hours"]);
            words.map(ToOwned::to_owned).collect()
        }
        Request::RestorePath => {
            let words = ["drill", "run", "restore-path", SERVICE, "--no-wait"];
            words.map(ToOwned::to_owned).into()
        }
        Request::AddVoter | Request::RemoveVoter => {
            let site = site(stage)?.context("which voter?")?;
            voter(stage, ask.request, &site)?
        }
        Request::Apply => apply(stage, ask.required.unwrap_or(1))?,
    };
    if let (Request::Switchover, Some(site)) = (ask.request, site(stage)?) {
        words.extend(["--to".into(), format!("{site}-1")]);
    }
    words.extend(because);
    Ok(words)
}

/// The range in doubt, as the findings name it.
fn range(stage: &Stage<'_>) -> Result<String> {
    let status = stage.look().context("no voter answers")?;
    let service = status.service().context("no service")?;
    let text = service.findings.iter().find(|finding| finding.check == "doubt");
    let text = &text.context("nothing is in doubt")?.text;
    let range = text.split("--range ").nth(1).and_then(|rest| rest.split(['`', ' ']).next());
    let at = || text.split("commits at ").nth(1).and_then(|rest| rest.split(' ').next());
    Ok(range.or_else(at).with_context(|| format!("no range in `{text}`"))?.to_owned())
}

fn voter(stage: &Stage<'_>, request: Request, site: &str) -> Result<Vec<String>> {
    let layout = &stage.cluster.layout;
    let known = layout.shape.names().iter().position(|name| *name == site).context("which?")?;
    let number = |status: &Status| {
        status.voters.iter().find(|voter| voter.name == site).map(|voter| voter.id)
    };
    if request == Request::RemoveVoter {
        let status = stage.look().context("no voter answers")?;
        let id = number(&status).unwrap_or(u64::try_from(known + 1)?);
        return Ok(vec!["voters".into(), "remove".into(), id.to_string()]);
    }
    let address = format!("{}:{}", layout.address(site, Spot::Voter), layout.ports.voter);
    // A number is never used twice.
    let id = (known + 11).to_string();
    rejoin(stage, site, &id)?;
    let words = ["voters", "add", "--id", &id, "--name", site, "--address", &address];
    Ok(words.map(str::to_owned).into())
}

/// Gives the voter of a site an empty disk and another number, as one that joins.
fn rejoin(stage: &Stage<'_>, site: &str, id: &str) -> Result<()> {
    use crate::lab::cluster::control::Part;
    use crate::lab::layout::Kind;
    let cluster = &stage.cluster;
    let (_, config) = cluster.layout.daemon(site, Kind::Voter);
    let text = std::fs::read_to_string(&config)?;
    if text.contains("join = true") {
        return Ok(());
    }
    cluster.destroy_part(site, Part::Daemon(Kind::Voter))?;
    let own = |line: &str| line.starts_with("id = ");
    let mut head = true;
    let mut changed = String::new();
    for line in text.lines() {
        head &= !line.starts_with('[');
        if head && own(line) {
            changed.extend(["id = ", id, "\njoin = true\n"]);
        } else {
            changed.push_str(line);
            changed.push('\n');
        }
    }
    std::fs::write(&config, changed)?;
    cluster.start_daemon(site, Kind::Voter)
}

fn apply(stage: &Stage<'_>, required: u32) -> Result<Vec<String>> {
    let text = stage.cluster.layout.topology();
    let lines = text.lines().map(|line| {
        if line.starts_with("required = ") {
            format!("required = {required}")
        } else {
            line.to_owned()
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let file = stage.cluster.folder().join(format!("topology-{required}.toml"));
    std::fs::write(&file, text)?;
    Ok(vec!["apply".into(), file.to_string_lossy().into_owned(), "--yes".into()])
}
