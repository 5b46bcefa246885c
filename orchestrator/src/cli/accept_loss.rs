//! `baton failover --accept-loss`: what would be lost is said first, and typed back.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use failover::Request;
use failover::loss::{Loss, told};
use orchestrator::answers::LossTold;
use orchestrator::probe::{Journal, Outcome};

use crate::approve::settled;
use crate::client::{Cluster, Failure};
use crate::screen::{Output, ask, print, remark, span};
use crate::switchover::ended;
use crate::verbs::{Failover, Globals, LossBytes, Second, loss_bytes};
use crate::what_if;

pub async fn run(globals: &Globals, arguments: Failover) -> Result<u8, Failure> {
    let Failover { service, reason, dry_run, loss_bytes: given, journal, waiting, .. } = arguments;
    let cluster = Cluster::of(globals)?;
    let answer: LossTold = cluster.get(&format!("/v1/loss/{service}")).await?;
    let Some(loss) = &answer.loss else { return Err(refused(&answer)) };
    let written = journal.as_deref().map(|file| known(file, &answer)).transpose()?;
    let text = shown(loss, written);
    if dry_run {
        print(globals.output, &answer, &text)?;
        let (kept, reason) = (loss.kept.clone(), reason.given()?);
        let request = Request::AcceptLoss { service, kept, bytes: loss.bytes, reason };
        return what_if::dry_run(globals, request).await;
    }
    remark(globals.output, &text);
    let reason = reason.given()?;
    let LossBytes(said) = given.map_or_else(|| typed(globals.output), Ok)?;
    if said != loss.bytes {
        let text = format!("the loss is {}: nothing was changed", number(loss.bytes));
        let remedy = "look at what is lost, and say that number";
        return Err(Failure::config(text, remedy));
    }
    let (kept, bytes) = (loss.kept.clone(), loss.bytes);
    let request = Request::AcceptLoss { service, kept, bytes, reason };
    let accepted = cluster.request(&request).await?;
    let second = Second { no_wait: waiting.no_wait };
    let accepted = settled(globals, &cluster, accepted, &second).await?;
    ended(globals, &cluster, accepted, &waiting).await
}

fn refused(answer: &LossTold) -> Failure {
    let why = answer.refused.first().map_or("no loss can be accepted now", |first| &*first.text);
    let mut failure = Failure::new(wire::exit::REFUSED, why, "");
    let findings = answer.refused.iter().filter_map(|finding| serde_json::to_value(finding).ok());
    failure.problem.findings = findings.collect();
    failure
}

fn number(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string())
}

/// What would be lost, in words; `written`: how many writes of the probe writer.
fn shown(loss: &Loss, written: Option<u64>) -> String {
    let Loss { candidate, kept, bytes, lasted_ms, ago_ms, missing } = loss;
    let mut text = String::new();
    let mut line = |what: &str, said: &str| {
        let _ = writeln!(text, "  {what:<14} {said}");
    };
    let length = |ms: &Option<u64>| ms.map(|ms| span(Duration::from_millis(ms)));
    line("kept", &format!("everything up to {kept}, which {candidate} holds"));
    line("lost, bytes", &format!("{} that the primary was heard to have written", told(*bytes)));
    let time = match (length(lasted_ms), length(ago_ms)) {
        (Some(lasted), Some(ago)) => format!("{lasted} of writes, from {ago} ago on"),
        _ => "nobody knows since when".to_owned(),
    };
    line("lost, time", &time);
    let writes = written.map_or_else(
        || "not known: no journal of a probe writer is given (--journal)".to_owned(),
        |count| format!("{count} acknowledged writes of the probe writer at the most"),
    );
    line("lost, writes", &writes);
    let names: Vec<&str> = missing.iter().map(failover::InstanceId::as_str).collect();
    if !names.is_empty() {
        let said = format!(
            "{}: if they live, cut off together with the primary, they go on acknowledging \
             commits, and those are lost too. Be sure that they are off",
            names.join(", ")
        );
        line("not reached", &said);
    }
    format!("This gives up commits that were acknowledged:\n{text}")
}

/// How many writes were acknowledged after the candidate had stopped receiving.
fn known(file: &Path, answer: &LossTold) -> Result<u64, Failure> {
    let read = Journal::read(file).map_err(|error| Failure::config(error.to_string(), ""))?;
    let ago = answer.loss.as_ref().and_then(|loss| loss.ago_ms);
    // Where nobody knows since when, every write may be lost.
    let since = ago
        .map_or(i64::MIN, |ago| answer.at.0.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX)));
    let acked = read.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acked);
    let late = acked.filter(|attempt| {
        let us = attempt.acked_us.unwrap_or(attempt.done_us).saturating_sub(read.head.us);
        let at = read.head.at.saturating_add(i64::try_from(us / 1_000).unwrap_or(i64::MAX));
        at >= since
    });
    Ok(u64::try_from(late.count()).unwrap_or(u64::MAX))
}

/// The number, as whoever sits at the terminal types it.
fn typed(output: Output) -> Result<LossBytes, Failure> {
    if output == Output::Json || !std::io::stdin().is_terminal() {
        return Err(Failure::config(
            "nobody is there to type the loss: nothing was changed",
            "give it as it was shown: --loss-bytes BYTES (or `unknown`); --dry-run shows it",
        ));
    }
    let said = ask("Type the number of bytes that are lost (or `unknown`) to go on:")?;
    loss_bytes(said.trim()).map_err(|text| {
        Failure::config(format!("`{}` is not {text}: nothing was changed", said.trim()), "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::position::Position;

    fn loss(bytes: Option<u64>) -> Loss {
        Loss {
            candidate: "c".parse().expect("a name"),
            kept: Position::default(),
            bytes,
            lasted_ms: bytes.map(|_| 400),
            ago_ms: bytes.map(|_| 8_400),
            missing: vec!["b".parse().expect("a name")],
        }
    }

    #[test]
    fn the_loss_is_told_in_bytes_time_and_writes() {
        let text = shown(&loss(Some(20)), Some(7));
        for words in
            ["20 bytes", "400 ms of writes, from 8.4 s ago", "7 acknowledged", "b: if they"]
        {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let text = shown(&loss(None), None);
        assert!(text.contains("nobody knows how many") && text.contains("--journal"), "{text}");
    }

    #[test]
    fn a_number_is_typed_or_that_nobody_knows() {
        assert_eq!(loss_bytes("20"), Ok(LossBytes(Some(20))));
        assert_eq!(loss_bytes("unknown"), Ok(LossBytes(None)));
        assert!(loss_bytes("yes").is_err() && loss_bytes("-1").is_err());
    }

    #[test]
    fn the_journal_counts_what_was_acknowledged_since() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("probe.jsonl");
        let head = serde_json::json!({
            "run": "x", "service": "clinic", "through": "y", "every_ms": 10, "us": 1_000_000,
            "at": 500_000,
        });
        let line = |n: u64, us: u64, outcome: &str| {
            let attempt = serde_json::json!({
                "n": n, "sent_us": us, "acked_us": us, "done_us": us, "outcome": outcome,
                "server": "127.0.0.1:1",
            });
            attempt.to_string()
        };
        let lines = [
            head.to_string(),
            line(1, 1_100_000, "acked"),
            line(2, 2_000_000, "acked"),
            line(3, 2_100_000, "unknown"),
            line(4, 2_200_000, "acked"),
        ];
        std::fs::write(&file, lines.join("\n") + "\n").expect("it can be written");
        // 8.4 s before 509.4 s is 501 s, one second after the run began.
        let at = failover::Timestamp(509_400);
        let told = |bytes| LossTold { at, loss: Some(loss(bytes)), refused: Vec::new() };
        assert_eq!(known(&file, &told(Some(20))).expect("it is a journal"), 2);
        assert_eq!(known(&file, &told(None)).expect("it is a journal"), 3);
        assert!(known(&folder.path().join("none"), &told(None)).is_err());
    }
}
