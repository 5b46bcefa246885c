//! Could each site be lost, as the leader last answered: the verdicts alone, in words.

use std::time::Duration;

use failover::ids::{ServiceId, SiteId};
use serde::{Deserialize, Serialize};

use super::{Overview, Words};
use crate::answers::Readiness;
use crate::words;

/// After so long nobody knows any more: it is asked for every ten seconds.
pub(super) const LIMIT_MS: u64 = 25_000;

/// One service without one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReady {
    /// Which service.
    pub service: ServiceId,
    /// Without which site.
    pub site: SiteId,
    /// Whether it could be lost; what stands in the way or is worth a look.
    pub ready: Words,
    /// What would follow.
    pub then: String,
    /// Whether nothing would be lost.
    pub zero_loss: Words,
    /// How long writes would stand still.
    pub takes: String,
}

/// The verdicts of an answer.
#[must_use]
pub fn verdicts(answer: &Readiness) -> Vec<SiteReady> {
    let all = answer.services.iter().flat_map(|one| one.sites.iter().map(move |it| (one, it)));
    let told = all.map(|(service, verdict)| {
        let (ready, mood) = words::ready(verdict.level);
        let (zero, zero_mood) = words::proven(verdict.rpo.zero);
        let mut remarks: Vec<String> = Vec::new();
        for finding in &verdict.findings {
            let who = finding.instance.as_ref().map_or_else(String::new, |id| format!("{id}: "));
            let text = format!("{who}{}", finding.text);
            if !remarks.contains(&text) {
                remarks.push(text);
            }
        }
        let ms = |ms: u64| words::span(Duration::from_millis(ms));
        let takes = match (&verdict.rto, verdict.interrupted_ms) {
            (Some(rto), _) => words::total(rto),
            (None, Some(gap)) => ms(gap),
            (None, None) => "–".to_owned(),
        };
        SiteReady {
            service: service.service.clone(),
            site: verdict.site.clone(),
            ready: Words { remarks, ..Words::new(mood, ready) },
            then: words::then(verdict),
            zero_loss: Words::new(zero_mood, zero),
            takes,
        }
    });
    told.collect()
}

impl Overview {
    /// The same with what the leader answered so many milliseconds ago.
    #[must_use]
    pub fn with_readiness(mut self, told: Option<(Vec<SiteReady>, u64)>) -> Self {
        if let Some((readiness, age_ms)) = told {
            self.readiness = readiness;
            self.readiness_age_ms = Some(age_ms);
        }
        self
    }
}

/// Without what is found: it may name roles, databases and tables.
pub(super) fn hidden(all: &[SiteReady]) -> Vec<SiteReady> {
    let hide = |it: &SiteReady| {
        let ready = Words { remarks: Vec::new(), ..it.ready.clone() };
        SiteReady { ready, ..it.clone() }
    };
    all.iter().map(hide).collect()
}
