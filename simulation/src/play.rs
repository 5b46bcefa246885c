//! Plays a scenario in the world: steps at their times, expectations watched, the outcome demanded.
//!
//! Time zero of a scenario is the first whole second at which everything stands. From then on the
//! world is looked at every 50 ms (every second in the long quiet parts), which is also how often
//! an expectation is judged. The oracle judges every event by itself.

mod deeds;
mod judge;
mod setting;

use std::fmt;
use std::time::Duration;

use failover::topology::Topology;
use orchestrator::replica::Reply;
use scenarios::script::verb::{Answer, Ask};
use scenarios::script::{Expect, Scenario, Step, Tier, Verb};

use crate::clock::At;
use crate::coverage::Coverage;
use crate::world::{AskId, World};
use deeds::Parts;
pub(crate) use deeds::leader;
use judge::Since;
pub use setting::{SettingError, options, topology};

/// How often the world is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// In long quiet parts.
const SELDOM: Duration = Duration::from_secs(1);
/// A part is quiet this long after the last step.
const QUIET: Duration = Duration::from_mins(10);
/// A cluster that does not stand by then never will.
const STANDS: Duration = Duration::from_mins(3);
/// An operator waits for an answer this long unless the step says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the world's own lines about what is done to it begin.
const DEEDS: [&str; 16] = [
    "Cut",
    "Mend",
    "Worsen",
    "MendAll",
    "Crash",
    "Start",
    "Destroy",
    "Pause",
    "Resume",
    "Skew",
    "SlowDisk",
    "FillDisk",
    "FreeDisk",
    "Host",
    "LocalSession",
    "Ask",
];

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// The scenario.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// What must not be, or should have been. Empty: all is well.
    pub problems: Vec<Problem>,
    /// What happened, dated.
    pub transcript: Vec<String>,
    /// How much time passed in the world.
    pub simulated: Duration,
    /// What came about.
    pub coverage: Coverage,
    /// The longest time without an acknowledged commit.
    pub gap: Duration,
}

/// One thing that is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// After the start.
    pub at: Duration,
    /// The line of the scenario; `None`: the oracle's own judgement.
    pub line: Option<u32>,
    /// What.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} at {}: {}", seconds(self.at), self.text),
            None => write!(f, "{} at {}", self.text, seconds(self.at)),
        }
    }
}

/// What changes from run to run of the same scenario.
#[derive(Clone, Debug, Default)]
pub struct Variation {
    /// Another seed than the scenario's.
    pub seed: Option<u64>,
    /// Another topology: an operator's own.
    pub topology: Option<Topology>,
    /// No transcript: faster.
    pub quiet: bool,
}

/// Plays a scenario.
///
/// # Errors
/// [`SettingError`]: there is no such cluster.
pub fn play(scenario: &Scenario, variation: &Variation) -> Result<Played, SettingError> {
    let folder = scenario.file.parent().unwrap_or(std::path::Path::new("."));
    let topology = match &variation.topology {
        Some(own) => own.clone(),
        None => topology(&scenario.setting, folder)?,
    };
    let mut options = options(&scenario.setting);
    options.talkative = !variation.quiet;
    let seed = variation.seed.unwrap_or(scenario.setting.seed);
    let mut world = World::new(seed, &topology, &options);
    let mut player =
        Player { start: At(0), watches: Vec::new(), asks: Vec::new(), problems: Vec::new() };
    match stand(&mut world) {
        Err(why) => player.problem(&world, None, format!("the cluster never stood: {why}")),
        Ok(parts) => {
            player.start = world.now();
            world.transcript.clear();
            world.oracle.count_from(player.start);
            player.all(&mut world, &parts, scenario);
        }
    }
    Ok(player.ended(&mut world, scenario, seed))
}

/// Lets the world begin until everything stands, up to a whole second.
pub(crate) fn stand(world: &mut World) -> Result<Parts, String> {
    let parts = Parts::of(world).ok_or("a service needs two instances at least")?;
    let whole = Expect { whole: Some(true), ..Expect::default() };
    let mut why = String::new();
    let stood = world.until(STANDS, |world| {
        let since = Since { at: At(0), always: false };
        judge::check(world, &parts, &whole, since).map_err(|text| why = text).is_ok()
    });
    if let Some(violation) = world.violation() {
        return Err(violation.to_owned());
    }
    if !stood {
        return Err(why);
    }
    // What the beginning left behind has gone by then.
    let start = At((world.now().0 / 1_000_000 + 6) * 1_000_000);
    world.run_until(start);
    Ok(parts)
}

struct Player {
    start: At,
    watches: Vec<Watch>,
    asks: Vec<Asked>,
    problems: Vec<Problem>,
}

/// An expectation under way.
struct Watch {
    expect: Expect,
    since: Since,
    until: At,
    line: u32,
}

/// A request under way.
struct Asked {
    ask: Ask,
    service: usize,
    id: Option<AskId>,
    until: At,
    line: u32,
}

impl Player {
    fn all(&mut self, world: &mut World, parts: &Parts, scenario: &Scenario) {
        let steps = scenario.steps(Tier::Sim);
        let mut last = self.start;
        for step in &steps {
            let at = self.start.plus(step.at);
            self.pass(world, parts, (at, false), last);
            if self.over(world) {
                return;
            }
            last = at;
            self.step(world, parts, step);
        }
        // Bounds that are still open pass; then the outcome has its own.
        while let Some(until) = self.open().filter(|_| !self.over(world)) {
            self.pass(world, parts, (until, true), last);
        }
        if self.over(world) {
            return;
        }
        let since = Since { at: world.now(), always: false };
        let until = world.now().plus(scenario.outcome.bound(Tier::Sim));
        let line = outcome_line(scenario);
        let expect = scenario.outcome.clone();
        self.watches.push(Watch { expect, since, until, line });
        while let Some(until) = self.open().filter(|_| !self.over(world)) {
            self.pass(world, parts, (until, true), last);
        }
    }

    fn over(&self, world: &World) -> bool {
        world.violation().is_some() || !self.problems.is_empty()
    }

    /// When the last thing that is waited for ends.
    fn open(&self) -> Option<At> {
        let watches = self.watches.iter().map(|watch| watch.until);
        watches.chain(self.asks.iter().map(|ask| ask.until)).max()
    }

    /// Lets time pass until `end`; when `settles`, only until nothing is waited for any more.
    fn pass(&mut self, world: &mut World, parts: &Parts, (end, settles): (At, bool), last: At) {
        while world.now() < end && !self.over(world) {
            if self.watches.is_empty() && self.asks.is_empty() {
                if !settles {
                    world.run_until(end);
                }
                return;
            }
            let quiet = world.now().since(last) > QUIET;
            let look = if quiet { SELDOM } else { LOOK };
            let next = world.now().plus(look).min(end);
            world.run_until(next);
            self.look(world, parts);
        }
    }

    fn step(&mut self, world: &mut World, parts: &Parts, step: &Step) {
        world.say(|| format!("— {}", step.verb));
        if let Verb::Expect(expect) | Verb::Always(expect) = &step.verb {
            let always = matches!(step.verb, Verb::Always(_));
            self.watches.push(Watch {
                since: Since { at: world.now(), always },
                until: world.now().plus(expect.bound(Tier::Sim)),
                expect: expect.clone(),
                line: step.line,
            });
        } else if let Verb::Ask(ask) = &step.verb {
            let services = world.services.len();
            // A topology and a group are everybody's: one request.
            let about_all = matches!(
                ask.request,
                scenarios::script::verb::Request::Apply
                    | scenarios::script::verb::Request::AddVoter
                    | scenarios::script::verb::Request::RemoveVoter
            );
            for service in 0..if about_all { 1 } else { services } {
                let until = world.now().plus(ask.within.map_or(PATIENCE, |text| text.0));
                let (ask, line) = (ask.clone(), step.line);
                self.asks.push(Asked { ask, service, id: None, until, line });
            }
            self.look(world, parts);
        } else {
            match deeds::of(world, parts, &step.verb) {
                Err(why) => self.problem(world, Some(step.line), why),
                Ok(deeds) => {
                    for (after, deed) in deeds {
                        if after.is_zero() {
                            world.perform(&deed);
                        } else {
                            world.deed_at(deeds::when(world.now(), after), deed);
                        }
                    }
                }
            }
        }
    }

    /// Judges everything that is waited for.
    fn look(&mut self, world: &mut World, parts: &Parts) {
        let now = world.now();
        for ask in std::mem::take(&mut self.asks) {
            if let Some(open) = self.asked(world, parts, ask) {
                self.asks.push(open);
            }
        }
        for watch in std::mem::take(&mut self.watches) {
            let found = judge::check(world, parts, &watch.expect, watch.since);
            match (found, watch.since.always) {
                (Ok(()), false) => {
                    world.say(|| format!("as expected: {}", watch.expect));
                }
                (Ok(()), true) if now >= watch.until => {}
                (Err(text), true) => self.problem(world, Some(watch.line), text),
                (Err(text), false) if now >= watch.until => {
                    self.problem(world, Some(watch.line), text);
                }
                (Ok(()), true) | (Err(_), false) => self.watches.push(watch),
            }
        }
    }

    /// `None`: it is settled.
    fn asked(&mut self, world: &mut World, parts: &Parts, mut asked: Asked) -> Option<Asked> {
        let late = world.now() >= asked.until;
        let reply = match asked.id {
            Some(id) if !world.is_done(id) && !late => return Some(asked),
            Some(id) => world.answered(id).cloned(),
            None => None,
        };
        if asked.id.is_some() {
            match judged(&asked.ask, reply.as_ref()) {
                Ok(()) => return None,
                Err(_) if !late && asked.ask.within.is_some() => {}
                Err(text) => {
                    self.problem(world, Some(asked.line), text);
                    return None;
                }
            }
        } else if late {
            let answer = asked.ask.answer;
            if answer != Answer::Any {
                self.problem(world, Some(asked.line), "it could not even be asked".into());
            }
            return None;
        }
        let topology = world.topology.clone();
        let service = topology.services.iter().nth(asked.service)?;
        let request = deeds::request(world, parts, &asked.ask, service);
        let left = asked.until.since(world.now());
        asked.id = request.map(|request| world.ask(request, left));
        Some(asked)
    }

    fn problem(&mut self, world: &World, line: Option<u32>, text: String) {
        self.problems.push(Problem { at: world.now().since(self.start), line, text });
    }

    fn ended(mut self, world: &mut World, scenario: &Scenario, seed: u64) -> Played {
        if let Some(violation) = world.violation() {
            let violation = violation.to_owned();
            self.problem(world, None, violation);
        }
        if !self.problems.is_empty() && world.options.talkative {
            for line in world.explain() {
                world.say(|| line);
            }
        }
        Played {
            name: scenario.name.clone(),
            seed,
            transcript: dated(world.transcript(), self.start),
            simulated: world.now().since(At(0)),
            coverage: world.coverage.clone(),
            gap: world.oracle.gap(world.now()),
            problems: self.problems,
        }
    }
}

fn outcome_line(scenario: &Scenario) -> u32 {
    let text = std::fs::read_to_string(&scenario.file).unwrap_or_default();
    let row = text.lines().position(|line| line.trim() == "[outcome]");
    row.and_then(|row| u32::try_from(row + 1).ok()).unwrap_or(0)
}

/// Whether an operator was answered as demanded.
fn judged(ask: &Ask, reply: Option<&Reply>) -> Result<(), String> {
    match (ask.answer, reply) {
        (Answer::Any, _) | (Answer::Granted, Some(Reply::Accepted(_))) => Ok(()),
        (Answer::Refused, Some(Reply::Refused { findings, .. })) => match &ask.naming {
            Some(name) if !findings.iter().any(|finding| finding.check == *name) => {
                let names: Vec<&str> = findings.iter().map(|it| it.check.as_str()).collect();
                Err(format!("refused without naming {name}, but {}", names.join(", ")))
            }
            _ => Ok(()),
        },
        (Answer::Granted, Some(Reply::Refused { error, .. })) => Err(format!("refused: {error}")),
        (Answer::Refused, Some(Reply::Accepted(_))) => Err("granted".into()),
        (_, Some(other)) => Err(format!("answered {other:?}")),
        (_, None) => Err("nobody answered".into()),
    }
}

/// The lines of the world, dated from `start`.
fn dated(lines: &[String], start: At) -> Vec<String> {
    let origin = start.0 / 1_000;
    // The deeds that a verb is made of are not told a second time.
    let told = |line: &&String| {
        let text = line.split_once(" s  ").map_or("", |(_, text)| text);
        let word = text.split([' ', '(', '{']).next().unwrap_or_default();
        !DEEDS.contains(&word)
    };
    let each = lines.iter().filter(told).map(|line| {
        let Some((date, text)) = line.split_once(" s  ") else { return line.clone() };
        let millis: u64 = date.trim().replace('.', "").parse().unwrap_or(0);
        format!("{:>11}  {text}", seconds(Duration::from_millis(millis.saturating_sub(origin))))
    });
    each.collect()
}

/// `12.345 s`
fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}
