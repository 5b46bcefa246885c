//! From text to [`Scenario`] and back: the shape of the file, and what its shape cannot say.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use wire::config::duration::Text;

use super::expect::Expect;
use super::place::{Place, Places};
use super::verb as v;
use super::{Scenario, ScriptError, Setting, Step, Tier, Verb};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: Spanned<String>,
    summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replays: Option<String>,
    tiers: Spanned<Vec<Tier>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    #[serde(default)]
    setting: Setting,
    #[serde(default)]
    step: Vec<Line>,
    outcome: Spanned<Expect>,
}

/// Declares the table of a step: one optional key a verb, and the way from it and back to it.
macro_rules! lines {
    ($($key:ident $variant:ident $of:ty;)*) => {
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Line {
            at: Spanned<Text>,
            /// The step is done again after every so long…
            #[serde(default, skip_serializing_if = "Option::is_none")]
            every: Option<Text>,
            /// … so many times in all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            times: Option<u32>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            live: Option<Text>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            only: Option<Tier>,
            $(#[serde(default, skip_serializing_if = "Option::is_none")] $key: Option<$of>,)*
        }

        /// The names of all verbs, for errors.
        const VERBS: &[&str] = &[$(stringify!($key)),*];

        impl Line {
            fn verbs(&mut self) -> Vec<Verb> {
                let mut found = Vec::new();
                $(found.extend(self.$key.take().map(Verb::$variant));)*
                found
            }

            fn of(step: &Step) -> Self {
                let mut line = Self {
                    at: Spanned::new(0..0, Text(step.at)),
                    every: None,
                    times: None,
                    live: step.live.map(Text),
                    only: step.only,
                    $($key: None,)*
                };
                match step.verb.clone() {
                    $(Verb::$variant(it) => line.$key = Some(it),)*
                }
                line
            }
        }
    };
}

lines! {
    cut Cut v::Link;
    cut_one_way CutOneWay v::Link;
    heal Heal v::Heal;
    lose Lose v::Lose;
    delay Delay v::Delay;
    crash Crash v::Target;
    start Start v::Target;
    restart Restart v::Target;
    destroy Destroy v::Target;
    pause Pause v::Target;
    resume Resume v::Target;
    skew Skew v::Skew;
    slow_disk SlowDisk v::SlowDisk;
    fill_disk FillDisk v::Target;
    free_disk FreeDisk v::Target;
    damage Damage v::Damage;
    cancel Cancel v::Cancel;
    empty_setting EmptySetting v::At;
    impostor Impostor v::Impostor;
    stall_checkpointer StallCheckpointer v::For;
    local_session LocalSession v::For;
    long_query LongQuery v::For;
    storm Storm v::For;
    ask Ask v::Ask;
    expect Expect Expect;
    always Always Expect;
}

pub(super) fn scenario(file: &Path, text: &str) -> Result<Scenario, ScriptError> {
    let shape: File = wire::config::parse(file, text)?;
    let wrong = |span: std::ops::Range<usize>, key: &str, message: &str, remedy: &str| {
        ScriptError::at(file, text, span, key, message).with_remedy(remedy)
    };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !name.starts_with(shape.id.as_ref()) && name.starts_with("SC-") {
        let message = format!("the file is called {name}");
        return Err(wrong(shape.id.span(), "id", &message, "begin its name with the id"));
    }
    if shape.tiers.as_ref().is_empty() {
        return Err(wrong(shape.tiers.span(), "tiers", "no tier", "write sim, live or both"));
    }
    let mut steps = Vec::new();
    for (index, mut line) in shape.step.into_iter().enumerate() {
        let span = line.at.span();
        let key = format!("step[{index}]");
        let verb = match <[Verb; 1]>::try_from(line.verbs()) {
            Ok([verb]) => verb,
            Err(found) => {
                let message = format!("{} verbs in one step", found.len());
                let verbs = VERBS.join(", ").replace('_', "-");
                let remedy = format!("write exactly one of {verbs}");
                return Err(wrong(span, &key, &message, &remedy));
            }
        };
        if let Some((message, remedy)) = objection(&shape.setting, &verb) {
            return Err(wrong(span, &key, &message, &remedy));
        }
        if line.every.is_some() != line.times.is_some() {
            let remedy = "write both or neither";
            return Err(wrong(span, &key, "`every` and `times` belong together", remedy));
        }
        let row = u32::try_from(text[..span.start].matches('\n').count() + 1).unwrap_or(u32::MAX);
        let again = line.every.map_or(Duration::ZERO, |text| text.0);
        for time in 0..line.times.unwrap_or(1) {
            let later = again * time;
            steps.push(Step {
                at: line.at.as_ref().0 + later,
                live: line.live.map(|text| text.0 + later),
                only: line.only,
                verb: verb.clone(),
                line: row,
            });
        }
    }
    let span = shape.outcome.span();
    if let Some((message, remedy)) = unknown_sites(&shape.setting, shape.outcome.as_ref()) {
        return Err(wrong(span, "outcome", &message, &remedy));
    }
    Ok(Scenario {
        name,
        id: shape.id.into_inner(),
        summary: shape.summary,
        replays: shape.replays,
        tiers: shape.tiers.into_inner(),
        also: shape.also,
        setting: shape.setting,
        steps,
        outcome: shape.outcome.into_inner(),
        file: file.to_owned(),
    })
}

pub(super) fn write(scenario: &Scenario) -> Result<String, toml::ser::Error> {
    toml::to_string(&File {
        id: Spanned::new(0..0, scenario.id.clone()),
        summary: scenario.summary.clone(),
        replays: scenario.replays.clone(),
        tiers: Spanned::new(0..0, scenario.tiers.clone()),
        also: scenario.also.clone(),
        setting: scenario.setting.clone(),
        step: scenario.steps.iter().map(Line::of).collect(),
        outcome: Spanned::new(0..0, scenario.outcome.clone()),
    })
}

/// What the shape of a verb's table cannot say: what is wrong, and what to do.
#[expect(clippy::wildcard_enum_match_arm, reason = "most verbs have nothing else to get wrong")]
fn objection(setting: &Setting, verb: &Verb) -> Option<(String, String)> {
    for places in places_of(verb) {
        if let Some(unknown) = unknown_site(setting, places) {
            return Some(unknown);
        }
    }
    let say = |message: &str, remedy: &str| Some((message.to_owned(), remedy.to_owned()));
    match verb {
        Verb::Heal(heal) if heal.from.is_some() != heal.to.is_some() => {
            say("`from` without `to`, or `to` without `from`", "write both, or `heal = {}`")
        }
        Verb::Lose(lose)
            if [lose.percent, lose.duplicate, lose.reorder, lose.corrupt]
                .iter()
                .any(|it| *it > 100) =>
        {
            say("more than 100 percent", "write 0 to 100")
        }
        Verb::Skew(skew) if skew.rate.abs() > 900 => {
            say("a clock 900 per mille off at the most", "write -900 to 900")
        }
        Verb::Expect(expect) | Verb::Always(expect) if expect.is_empty() => {
            say("nothing is expected", "write a condition beside `within`")
        }
        _ => None,
    }
}

fn unknown_sites(setting: &Setting, expect: &Expect) -> Option<(String, String)> {
    expect.places().into_iter().find_map(|places| unknown_site(setting, places))
}

fn unknown_site(setting: &Setting, places: &Places) -> Option<(String, String)> {
    let known = setting.topology.sites()?;
    places.iter().find_map(|place| {
        let Place::Site(name) = place else { return None };
        let remedy = format!(
            "write primary, standby, third, current-primary, leader, clients, all, rest or {}",
            known.join(", ")
        );
        let unknown = !known.contains(&name.as_str());
        unknown.then(|| (format!("there is no site `{name}`"), remedy))
    })
}

fn places_of(verb: &Verb) -> Vec<&Places> {
    match verb {
        Verb::Cut(it) | Verb::CutOneWay(it) => vec![&it.from, &it.to],
        Verb::Heal(it) => it.from.iter().chain(&it.to).collect(),
        Verb::Lose(it) => vec![&it.from, &it.to],
        Verb::Delay(it) => vec![&it.from, &it.to],
        Verb::Crash(it)
        | Verb::Start(it)
        | Verb::Restart(it)
        | Verb::Destroy(it)
        | Verb::Pause(it)
        | Verb::Resume(it)
        | Verb::FillDisk(it)
        | Verb::FreeDisk(it) => vec![&it.site],
        Verb::Skew(it) => vec![&it.site],
        Verb::SlowDisk(it) => vec![&it.site],
        Verb::Damage(it) => vec![&it.site],
        Verb::Cancel(it) => vec![&it.site],
        Verb::EmptySetting(it) => vec![&it.site],
        Verb::Impostor(it) => [&it.site, &it.name].into_iter().chain(&it.certificate).collect(),
        Verb::StallCheckpointer(it)
        | Verb::LocalSession(it)
        | Verb::LongQuery(it)
        | Verb::Storm(it) => vec![&it.site],
        Verb::Ask(it) => it.to.iter().collect(),
        Verb::Expect(it) | Verb::Always(it) => it.places(),
    }
}

impl std::fmt::Display for Verb {
    /// As it stands in a file: `cut { from = "primary", to = "rest" }`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = self.clone();
        let step = Step { at: Duration::ZERO, live: None, only: None, verb, line: 0 };
        let table = toml::Table::try_from(Line::of(&step)).map_err(|_| std::fmt::Error)?;
        let verb = table.into_iter().find(|(key, _)| key != "at");
        let (key, value) = verb.ok_or(std::fmt::Error)?;
        write!(f, "{key} {value}")
    }
}
