//! `baton approve`, with `--withdraw`, and the wait of whoever needs a second person.

use std::fmt::Write as _;
use std::time::Duration;

use failover::Request;
use failover::approval::Outcome;
use orchestrator::answers::{Accepted, ApprovalTold, Approvals};
use tokio::time::{Instant, sleep};

use crate::client::{Cluster, Failure};
use crate::screen::{print, remark, time};
use crate::verbs::{Approve, Globals, Second};

/// The pause between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Clocks may differ by this much: so much longer is looked.
const ALLOWANCE: Duration = Duration::from_secs(30);
/// As much of a hash as must be written.
const ENOUGH: usize = 8;

pub async fn run(globals: &Globals, arguments: Approve) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let all: Approvals = cluster.get("/v1/approvals").await?;
    let Some(begins) = arguments.plan else {
        print(globals.output, &all, &listed(&all))?;
        return Ok(wire::exit::OK);
    };
    let plan = named(&all, &begins)?;
    let reason = arguments.reason.given()?;
    let request = if arguments.withdraw {
        Request::Withdraw { plan, reason }
    } else {
        Request::Approve { plan, reason }
    };
    let accepted = cluster.request(&request).await?;
    let text = match accepted.transition {
        Some(id) => format!("{}\nwatch it: baton report {id}", accepted.text),
        None => accepted.text.clone(),
    };
    print(globals.output, &accepted, &text)?;
    Ok(wire::exit::OK)
}

/// The plan whose hash begins like that.
fn named(all: &Approvals, begins: &str) -> Result<String, Failure> {
    let mut fitting = all.requests.keys().filter(|plan| plan.starts_with(begins));
    let remedy = "`baton approve` lists what waits";
    match (fitting.next(), fitting.next()) {
        (Some(plan), None) if begins.len() >= ENOUGH => Ok(plan.clone()),
        (Some(_), _) => {
            let text = format!("`{begins}` is too little of a hash: nothing was changed");
            Err(Failure::config(text, remedy))
        }
        (None, _) => {
            let text = format!("no request waits under {begins}: nothing was changed");
            Err(Failure::config(text, remedy))
        }
    }
}

fn listed(all: &Approvals) -> String {
    let mut text = String::new();
    for (plan, told) in &all.requests {
        let ApprovalTold { what, waits, pending } = told;
        let state = match &pending.outcome {
            Outcome::Approved { approved, at, .. } => {
                format!("approved by {} at {}: {}", approved.by, time(*at), approved.reason)
            }
            Outcome::Withdrawn { reason, at } => format!("withdrawn at {}: {reason}", time(*at)),
            Outcome::Waiting if *waits => format!("waits until {}", time(pending.until)),
            Outcome::Waiting => format!("nobody approved it until {}", time(pending.until)),
        };
        let _ = writeln!(text, "{plan}\n  {what}: {state}");
        for lowers in &pending.lowers {
            let _ = writeln!(text, "  {lowers}");
        }
        let (by, role, reason) = (&pending.by, pending.role, pending.request.reason());
        let _ = writeln!(text, "  asked for by {by} ({role}) at {}: {reason}", time(pending.asked));
    }
    if text.is_empty() {
        text.push_str("nothing waits for a second person");
    }
    text
}

/// Asks for something that may need a second person, and says what came of it.
pub async fn ask(
    globals: &Globals,
    request: &Request,
    second: &Second,
) -> Result<(Cluster, Accepted), Failure> {
    let cluster = Cluster::of(globals)?;
    let accepted = cluster.request(request).await?;
    let accepted = settled(globals, &cluster, accepted, second).await?;
    Ok((cluster, accepted))
}

/// What a request came to: as it is, or once a second person has said yes.
pub async fn settled(
    globals: &Globals,
    cluster: &Cluster,
    accepted: Accepted,
    second: &Second,
) -> Result<Accepted, Failure> {
    let Some(plan) = accepted.waits.clone() else { return Ok(accepted) };
    remark(
        globals.output,
        &format!(
            "this needs a second person: {}\n  another person's to say: baton approve {plan}",
            accepted.text
        ),
    );
    if second.no_wait {
        print(globals.output, &accepted, &format!("waits: plan {plan}"))?;
        return Err(waits(&plan, "nobody is waited for"));
    }
    tokio::select! {
        ended = watch(cluster, &plan) => ended,
        _ = tokio::signal::ctrl_c() => Err(waits(&plan, "not watched any more")),
    }
}

fn waits(plan: &str, why: &str) -> Failure {
    let short = plan.get(..12).unwrap_or(plan);
    Failure::new(
        wire::exit::IN_DOUBT,
        format!("plan {short} waits for a second person; {why}, and nothing has changed yet"),
        "the same command again goes on; `baton approve` shows what waits",
    )
}

async fn watch(cluster: &Cluster, plan: &str) -> Result<Accepted, Failure> {
    let mut deadline = None;
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        // During an election nobody can say: that is no outcome.
        let Ok(Approvals { at, requests }) = cluster.get("/v1/approvals").await else {
            sleep(EVERY).await;
            deadline = deadline.or_else(|| Some(Instant::now() + ALLOWANCE));
            continue;
        };
        let Some(ApprovalTold { waits, pending, .. }) = requests.get(plan) else {
            return Err(Failure::new(
                wire::exit::IN_DOUBT,
                "the request is not on the list any more",
                "look at `baton history` before you ask again",
            ));
        };
        let left = pending.until.0.saturating_sub(at.0).max(0).unsigned_abs();
        deadline = Some(Instant::now() + Duration::from_millis(left) + ALLOWANCE);
        match &pending.outcome {
            Outcome::Approved { approved, revision, transition, .. } => {
                return Ok(Accepted {
                    revision: *revision,
                    transition: *transition,
                    drill: None,
                    text: format!("done: approved by {}: {}", approved.by, approved.reason),
                    waits: None,
                });
            }
            Outcome::Withdrawn { reason, .. } => {
                return Err(Failure::new(
                    wire::exit::REFUSED,
                    format!("{} withdrew it: {reason}: nothing was changed", pending.by),
                    "",
                ));
            }
            Outcome::Waiting if *waits => sleep(EVERY).await,
            Outcome::Waiting => {
                return Err(Failure::new(
                    wire::exit::REFUSED,
                    "no second person approved it in time: nothing was changed",
                    "ask again, with somebody at hand who may approve",
                ));
            }
        }
    }
    Err(waits(plan, "how it stands is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Timestamp;

    #[test]
    fn enough_of_one_hash_names_it() {
        let pending = failover::approval::Pending {
            request: Box::new(Request::RemoveVoter {
                id: failover::VoterId(3),
                reason: "x".into(),
            }),
            by: "alice".into(),
            role: failover::people::Role::Admin,
            lowers: vec!["voter 3 is taken out".into()],
            asked: Timestamp(0),
            until: Timestamp(600_000),
            outcome: Outcome::Waiting,
        };
        let told = ApprovalTold { what: "remove voter 3".into(), waits: true, pending };
        let hashes = ["aaaabbbbcccc", "aaaabbbbdddd", "ffffffffffff"];
        let requests = hashes.map(|hash| (hash.to_owned(), told.clone())).into();
        let all = Approvals { at: Timestamp(0), requests };
        assert_eq!(named(&all, "ffffffff").expect("one begins so"), "ffffffffffff");
        for wrong in ["ffffff", "aaaabbbb", "bbbbbbbb", ""] {
            assert_eq!(named(&all, wrong).expect_err(wrong).code, wire::exit::CONFIG);
        }
        let text = listed(&all);
        assert!(
            text.contains("asked for by alice (admin)") && text.contains("waits until"),
            "{text}"
        );
    }
}
